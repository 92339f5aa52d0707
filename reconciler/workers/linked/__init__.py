"""One worker that can be asked: its control connection, and what flows over it.

Knows `processes`.
"""
