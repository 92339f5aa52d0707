"""The command line: `kakehi COMMAND`. One command, one module of that name.

What must hold here: a command starts in under 100 ms (tests/reconciler/cli/test_start.py measures
it), so nothing heavier than the standard library is imported before a command knows that it needs
it; the result goes to stdout and everything else to stderr; the exit code is one of `exits`.
"""
