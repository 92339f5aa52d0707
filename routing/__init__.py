"""The engine's routing, for the control plane to ask: the one door from `reconciler` to `proxy`.

What would serve a request is not worked out a second time in Python: `place_of` reads it as a
listener does, `other_readings` what servers read in its path otherwise, `rank_frontends` and
`rank_requests` ask the very tables that serve, on the frontends they are given, `preview_request`
what stages make of it, `share_of` which cluster of a split it comes to, and `witnesses` which texts
tell expressions apart. `weigh_expression` says what an expression takes when it is compiled, or why
it cannot be. They are pure, so that no worker is needed. Called by
`reconciler.reporting.explaining`, and for expressions by `reconciler.language.compiled`; nothing
else belongs here.
"""

from proxy.engine_api import (
    Miss,
    PrepareRefusedError,
    Preview,
    RequestPlace,
    RoutedRequest,
    other_readings,
    place_of,
    preview_request,
    rank_frontends,
    rank_requests,
    share_of,
    weigh_expression,
    witnesses,
)

__all__ = [
    "Miss",
    "PrepareRefusedError",
    "Preview",
    "RequestPlace",
    "RoutedRequest",
    "other_readings",
    "place_of",
    "preview_request",
    "rank_frontends",
    "rank_requests",
    "share_of",
    "weigh_expression",
    "witnesses",
]
