"""Real clients, real backends, real git and the real daemon, in the form that tests need them.

Everything here is bounded: each wait has a deadline, each process is ended by its own id.
"""
