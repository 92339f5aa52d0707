"""The engine's routing, for the control plane to ask: the one door from `reconciler` to `proxy`.

What would serve a request is not worked out a second time in Python: `place_of` reads it as a
listener does, `rank_frontends` asks the very tables that serve, on the frontends it is given, and
`share_of` which cluster of a split it comes to. They are pure, so that no worker is needed. Called
by `question` and `ranking` of `reconciler.reporting.explaining`; nothing else belongs here.
"""

from proxy.engine_api import (
    Miss,
    PrepareRefusedError,
    RequestPlace,
    place_of,
    rank_frontends,
    share_of,
)

__all__ = ["Miss", "PrepareRefusedError", "RequestPlace", "place_of", "rank_frontends", "share_of"]
