"""One git repository as it lies on the disk: read only, and whatever becomes of it meanwhile.

Knows nothing of configurations but the directory that they lie in.
"""
