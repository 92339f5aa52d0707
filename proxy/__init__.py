"""The data plane's process: a thin Python shell around the engine. Never touches a request.

Started by the reconciler as `python -m proxy`, one process per worker; they share nothing but what
`schemas` says that they say to one another.
"""
