"""Names of what runs, for a shell that completes a word: a bounded number, by an index.

Called by `answers`, at a Tab. URLs stand for frontends: what a client may ask for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from reconciler.catalog.relations import HOST, View
from reconciler.storage.reading.state import StoredState
from schemas.entities.entity import EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.values.names import split_address

NAMES_MAX = 1000
"""Nobody reads more, and a shell asks before it shows a tenth."""
_HOSTS_MAX = 200
_URL = "url"
_USUAL_PORTS = {"http": 80, "https": 443}


def names(state: StoredState, kind: str, under: str) -> list[str]:
    """Return names of a kind that begin so, in order; of "url" what may be asked of frontends."""
    if kind == _URL:
        return sorted(set(islice(_urls(state, under), NAMES_MAX)))
    return state.first_names(kind, NAMES_MAX, under)


def _urls(state: StoredState, under: str) -> Iterator[str]:
    scheme, _, rest = under.partition("://")
    host = rest.partition(":")[0]
    for name, keys in state.related_under(HOST, host, _HOSTS_MAX).items():
        yield from _of_host(state, name, keys, under)
    # Those of any host, at the addresses of their listeners.
    if host and scheme:
        yield from _of_host(state, "*", islice(state.related(HOST, "*"), _HOSTS_MAX), under)


def _of_host(state: View, name: str, keys: Iterable[EntityKey], under: str) -> Iterator[str]:
    if name.startswith("*."):
        return
    listeners = {each for key in keys for each in state[key].typed(Frontend).listeners}
    for listener in sorted(listeners):
        found = state[EntityKey("listener", listener)].typed(Listener)
        ip, port = split_address(found.address)
        own = "localhost" if ip.is_unspecified else f"[{ip}]" if ip.version != 4 else str(ip)
        host = own if name == "*" else name
        usual = port == _USUAL_PORTS[found.protocol]
        url = f"{found.protocol}://{host}{'' if usual else f':{port}'}/"
        if url.startswith(under):
            yield url
