"""The language: one module per kind of entity, and the registry of all kinds.

May know what entities and values are.
"""
