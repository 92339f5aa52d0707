"""How a worker's process comes to be, is known, and ends.

Knows none of the rooms beside.
"""
