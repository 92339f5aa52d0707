"""The accepted configuration: entities by name, how they relate, and what is wrong with a change.

Only what a change touches is looked at. Knows `language` and `materials`.
"""
