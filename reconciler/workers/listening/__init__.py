"""The sockets at which clients are accepted, and the descriptors that they take.

Knows none of the rooms beside.
"""
