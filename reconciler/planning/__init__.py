"""From desired entities to an ordered plan: field-level differences, effects, guards, sizes.

Knows `schemas` and the running state.
"""
