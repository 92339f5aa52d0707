"""What would become of a request, in words.

The engine's own routing says who matches (`routing`).
"""
