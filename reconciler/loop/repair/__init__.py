"""What was lost or altered becomes what it was: of the state, of its database, of files of workers.

Knows `stager` beside.
"""
