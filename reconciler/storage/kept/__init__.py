"""What is kept beside the state: contents, drains, the history, texts of other parts.

Each has rows or files of its own, and none is part of the state or its digest.
"""
