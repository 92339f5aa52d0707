"""Fetches the keys of issuers of tokens: when, and how.

What is fetched becomes a file of the machine, which comes into service like any renewed file. Knows
`materials`; called by `reconciler.daemon`.
"""
