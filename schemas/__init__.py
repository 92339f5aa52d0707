"""The language of Kakehi: the models of every kind, the state they add up to, and its changes.

Pure: no I/O, no clock, no asyncio, and neither `reconciler` nor `proxy` is imported from here. What
a module defines is imported from that module; this file imports none of them, so that a command
which needs only one model does not pay for the rest.
"""

import sys
from types import ModuleType

# No model of ours has a plugin. To look for some, pydantic would read the metadata of every
# installed package at each start of each process; told not to, it would still import what reads
# them, and mail and archives with that: a seventh of what `kakehi validate` costs.
_NO_PLUGINS = ModuleType("pydantic.plugin._loader")
_NO_PLUGINS.__dict__["get_plugins"] = tuple
sys.modules.setdefault(_NO_PLUGINS.__name__, _NO_PLUGINS)
