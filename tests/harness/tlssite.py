"""A site with an https listener, certificates of an authority of its own, and files for both.

Used by the TLS suite. The site's plain listener stays, so that the questions of `Site` to every
worker work as ever.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reconciler.catalog.catalog import load_directory
from reconciler.materials.reading import read_external
from tests.harness import pki, ports, processes, tls
from tests.harness.pki import Pair
from tests.harness.repo import Content
from tests.harness.site import Site
from tests.harness.tls import TlsConnection

_BATCH, _BATCHES_MAX = 4, 50


class TlsSite(Site):
    """`https` is the address; hosts are `LABEL.test` as in `Site.document`."""

    def __init__(
        self, directory: Path, names: Iterable[str] = ("red", "blue"), *, workers: int = 2
    ) -> None:
        super().__init__(directory, names, workers=workers)
        self.authority = pki.make("Kakehi test authority", is_ca=True)
        self.https = ports.address()
        self.context = tls.trusting(self.authority)
        self._made: list[TlsConnection] = []

    def __exit__(self, kind: object, *rest: object) -> None:
        # A test that failed in between has left some open.
        for connection in self._made:
            connection.close()
        super().__exit__(kind, *rest)

    def leaf(self, *names: str, **options: Any) -> Pair:
        """A certificate of the authority that the site's clients trust."""
        return pki.make(*names, issuer=self.authority, **options)

    def files(
        self,
        pairs: Mapping[str, Pair],
        *,
        policy: Mapping[str, Any] | None = None,
        clusters: Mapping[str, Iterable[str]] | None = None,
        frontends: Mapping[str, str] | None = None,
        hostnames: Mapping[str, list[str]] | None = None,
        **cluster_settings: Any,
    ) -> dict[str, Content]:
        """A whole configuration with certificates by name; PEM files lie in the repository."""
        document = self.document(
            clusters or {"main": ["red"]},
            frontends or {"www": "main"},
            listeners={"main": self.address, "secure": self.https},
            **cluster_settings,
        )
        document["listeners"]["secure"] |= {"protocol": "https", "tls": dict(policy or {})}
        document["certificates"] = {
            name: {
                "certificate": f"tls/{name}.crt",
                "private_key": f"tls/{name}.key",
                **({"hostnames": hostnames[name]} if hostnames and name in hostnames else {}),
            }
            for name in pairs
        }
        return {"kakehi.yaml": document, **pem_files(pairs)}

    def connect(
        self,
        name: str | None = "www.test",
        *,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> TlsConnection:
        """One TLS connection to the https listener."""
        made = TlsConnection(self.https, context or self.context, name, session=session)
        self._made.append(made)
        return made

    def shown(self, name: str | None = "www.test", context: ssl.SSLContext | None = None) -> bytes:
        """The certificate (DER) that the next handshake shows."""
        with self.connect(name, context=context) as connection:
            return connection.shown

    def shown_by_all(self, name: str = "www.test") -> set[bytes]:
        """What new handshakes show, every worker having been met."""
        found: set[bytes] = set()
        for connections in self._met(name).values():
            for connection in connections:
                found.add(connection.shown)
                connection.close()
        return found

    def per_worker(self, name: str = "www.test") -> dict[int, TlsConnection]:
        """One open connection to each worker, by pid; the caller closes them."""
        kept = {}
        for pid, (first, *others) in self._met(name).items():
            kept[pid] = first
            for other in others:
                other.close()
        return kept

    def digest_of(self, commit: str = "HEAD") -> str:
        """As `committed_digest`, with the PEM files of the same commit."""
        names = self.repo.git("ls-tree", "-r", "--name-only", commit).splitlines()
        contents = {name: self.repo.show(commit, name) for name in names}

        def read(path: str) -> bytes:
            return read_external(path) if path.startswith("/") else contents[path]

        documents = [(name, text) for name, text in contents.items() if name.endswith(".yaml")]
        state, diagnostics = load_directory(documents, read)
        assert state is not None, diagnostics
        return state.digest

    def _met(self, name: str) -> dict[int, list[TlsConnection]]:
        pids = self.worker_pids()
        met: dict[int, list[TlsConnection]] = {}
        for _ in range(_BATCHES_MAX):
            batch = [self.connect(name) for _ in range(_BATCH)]
            served = processes.servers(pids, self.https)
            for connection in batch:
                met.setdefault(served[connection.local_port], []).append(connection)
            if set(met) == set(pids):
                return met
        raise AssertionError(f"all handshakes met only {list(met)} of {pids}")


def pem_files(pairs: Mapping[str, Pair], directory: str = "tls") -> dict[str, Content]:
    """Chain and key of each, as files for a commit."""
    files: dict[str, Content] = {}
    for name, pair in pairs.items():
        files[f"{directory}/{name}.crt"] = pair.chain.decode()
        files[f"{directory}/{name}.key"] = pair.key.decode()
    return files
