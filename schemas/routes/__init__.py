"""Which requests a frontend takes, and where they end: the keys that frontends alone have.

May know entities and values.
"""
