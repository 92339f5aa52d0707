"""The language of Kakehi: the models of every kind, the state they add up to, and its changes.

Pure: no I/O, no clock, no asyncio, and neither `reconciler` nor `proxy` is imported from here. What
a module defines is imported from that module; this file stays empty, so that a command which needs
only one model does not pay for the rest.
"""
