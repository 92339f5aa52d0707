"""The state with its digest, and what differs between two: changes, plans, operations for workers.

May know the kinds.
"""
