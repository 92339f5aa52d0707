"""Who takes which request, where that is hardly what was meant: found for what a change touches.

Each module is one rule, called by `catalog`, and knows nothing of the others.
"""
