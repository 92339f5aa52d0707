"""When to look at the repository, and what becomes of what is found there.

Knows every room but `reporting` and the command line.
"""
