"""The language of Kakehi: the models of every kind, the state they add up to, and its changes.

Pure: no I/O, no clock, no asyncio, and neither `reconciler` nor `proxy` is imported from here. What
a module defines is imported from that module; this file imports none of them, so that a command
which needs only one model does not pay for the rest.
"""

import os

# No model of ours has a plugin; to look for some, pydantic would read the metadata of every
# installed package at each start of each process.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
