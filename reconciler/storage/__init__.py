"""What outlives the process, in the state directory: the state, its history, drains, contents.

Knows `schemas` alone.
"""
