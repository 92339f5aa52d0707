"""A change that is too large to be staged within the daemon: by a process, with others that parse.

Knows `stager` beside.
"""
