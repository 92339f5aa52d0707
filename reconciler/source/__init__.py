"""Which commit is wanted, and which blobs it changes.

Git and the file system; of what the files mean it knows how large one may be, and how one of the
machine is read. Knows `language`, `materials`, and `storage` for the branch that is followed.
"""
