"""Orders certificates from an authority (RFC 8555): when, and how.

What is issued becomes a file of the machine, which comes into service like any renewed file. Knows
`materials` and `storage`; called by `reconciler.daemon`.
"""
