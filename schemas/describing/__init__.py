"""The language as other programs and people read it: JSON Schema and the reference.

May know the kinds.
"""
