"""Brings commits in from elsewhere, into refs of their own.

Knows `source` beside, and the repository.
"""
