"""From desired entities to an ordered plan: field-level differences, effects, guards, sizes.

Knows `catalog` and the state in `storage`, and of `workers` how many there may be.
"""
