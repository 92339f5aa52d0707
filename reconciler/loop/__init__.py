"""When to look at the repository, and what becomes of what is found there.

Knows every room below it, and of `reporting` only where outcomes are noted and announced.
"""
