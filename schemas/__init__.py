"""The language of Kakehi: the models of every kind, the state they add up to, and its changes.

Pure: no I/O, no clock, no asyncio, and neither `reconciler` nor `proxy` is imported from here. What
a module defines is imported from that module; this file imports none of them, so that a command
which needs only one model does not pay for the rest.
"""

import os
import sys
import types

# No model of ours has a plugin; to look for some, pydantic would read the metadata of every
# installed package at each start of each process.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# Told so, it imports all the same what would look for them: the metadata of packages is that of
# mails, and takes a twentieth of `kakehi validate`. So what it asks for plugins has none.
_NONE = types.ModuleType("pydantic.plugin._loader")
vars(_NONE)["get_plugins"] = tuple
sys.modules.setdefault(_NONE.__name__, _NONE)
