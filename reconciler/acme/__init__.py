"""Orders certificates from an authority (RFC 8555): when, and how.

What is issued becomes a file of the machine, which comes into service like any renewed file. Knows
`materials` and `workers`; called by `reconciler.daemon`.
"""
