"""The entity: a named piece of the state, files that it names, what is secret, what is said of it.

May know what the values are.
"""
