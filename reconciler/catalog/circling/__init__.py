"""Requests that come back to where they were: by listeners of ours, redirects, questions.

Called by `catalog` with what has changed.
"""
