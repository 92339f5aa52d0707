"""The process: what a start finds, how the parts are joined, their life from first to last.

Knows every room below, and is known by the command line alone.
"""
