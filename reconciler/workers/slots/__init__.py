"""The places of the workers: one slot each, that never stays empty and never serves two states.

Knows `linked`, `processes`, `listening`, `counting`.
"""
