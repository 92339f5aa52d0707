"""All or nothing over all workers: the table that decides, and what carries its commands out.

Knows `storage` and `workers`.
"""
