"""Which commit is wanted, and which blobs it changes.

Git and the file system; knows nothing of what the files mean.
"""
