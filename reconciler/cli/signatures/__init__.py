"""What the signature of a command's function gives: its parsing, its help, its completion.

Imported before anything else of a command, so with the standard library alone.
"""
