"""Contents of files that are nowhere any more, while those who have read them end.

What names one takes no requests at a worker that starts then: its handshakes end, its frontends
answer 503. Everything else is served, whoever it stands beside, and the one that misses something
is told by name.
"""

from __future__ import annotations

import os
import signal
import ssl
from typing import Any

import pytest

from tests.harness import ports, processes
from tests.harness.pki import make
from tests.harness.rawclient import Connection
from tests.harness.site import Site
from tests.harness.tls import TlsConnection, trusting
from tests.harness.tokens import Signer, jwks

LOST = ("users", "page.html", "keys.json", "lost.pem", "lost.key", "clients.pem", "backends.pem")
USERS = "ann:$5$rounds=1000$abcdefgh$rJ2sHbMlUMmWSlYSJqvYqOpsCRnTTd8iD4/Cwx5VUb9\n"


class Told:
    """A site whose files lie outside of the repository, but for those of one certificate."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.outside = site.directory / "outside"
        self.outside.mkdir()
        self.kept, self.lost = make("kept.test"), make("lost.test")
        self.secure, self.strict = ports.address(), ports.address()
        clients = make("clients", is_ca=True)
        contents = (
            USERS.encode(),
            b"the page",
            jwks(Signer("ES256", "one")).encode(),
            self.lost.chain,
            self.lost.key,
            clients.chain,
            clients.chain,
        )
        self.contents = dict(zip(LOST, contents, strict=True))
        for name in LOST:
            self.write(name)

    def write(self, name: str) -> None:
        (self.outside / name).write_bytes(self.contents[name])

    def path(self, name: str) -> str:
        return str(self.outside / name)

    def files(self) -> dict[str, Any]:
        document: Any = self.site.document(
            {"main": ["red"], "sealed": ["red"]},
            {"main": "main", "users": "main", "token": "main", "policed": "main", "ca": "sealed"},
        )
        document["clusters"]["sealed"]["tls"] = {"ca": self.path("backends.pem")}
        document["listeners"]["secure"] = {"address": self.secure, "protocol": "https"}
        document["listeners"]["strict"] = {
            "address": self.strict,
            "protocol": "https",
            "tls": {"client_ca": self.path("clients.pem"), "client_auth": "optional"},
        }
        document["certificates"] = {
            "kept": {"certificate": "kept.pem", "private_key": "kept.key"},
            "lost": {"certificate": self.path("lost.pem"), "private_key": self.path("lost.key")},
        }
        frontends = document["frontends"]
        frontends["users"]["basic_auth"] = {"realm": "shop", "users": self.path("users")}
        frontends["token"]["jwt"] = {
            "issuer": "us",
            "audiences": ["shop"],
            "keys": self.path("keys.json"),
        }
        document["policies"] = {
            "staff": {"basic_auth": {"realm": "shop", "users": self.path("users")}}
        }
        frontends["policed"]["policies"] = ["staff"]
        frontends["page"] = {
            "listeners": ["main"],
            "hostname": "page.test",
            "respond": {"status": 200, "file": self.path("page.html")},
        }
        for name in ("kept", "lost"):
            frontends[name] = {
                "listeners": ["secure", "strict"],
                "hostname": f"{name}.test",
                "cluster": "main",
            }
        return {"kakehi.yaml": document, "kept.pem": self.kept.chain, "kept.key": self.kept.key}

    def status(self, host: str) -> int:
        with Connection(self.site.address) as client:
            return client.get(host).status

    def over_tls(self, address: str, name: str) -> int:
        """The status of an answer; 0 where the handshake fails."""
        context = trusting(self.kept if name == "kept.test" else self.lost)
        try:
            with TlsConnection(address, context, name) as client:
                return client.get(name).status
        except (ssl.SSLError, ConnectionError):
            return 0

    def found(self) -> dict[str, int]:
        plain = ("main", "users", "policed", "token", "page", "ca")
        found = {name: self.status(f"{name}.test") for name in plain}
        for name in ("kept", "lost"):
            found[f"{name} over TLS"] = self.over_tls(self.secure, f"{name}.test")
        return {**found, "strict": self.over_tls(self.strict, "kept.test")}

    def lose(self) -> None:
        """Between two runs, so that no memory has it, and have all that have read it end."""
        pids = self.site.worker_pids()
        self.site.daemon.leave(signal.SIGTERM)
        for name in LOST:
            (self.outside / name).unlink()
        for path in (self.site.daemon.state_dir / "material").iterdir():
            if path.read_bytes() not in (self.kept.chain, self.kept.key):
                path.unlink()
        self.site.daemon.return_(wait=False)
        self.warned("nowhere else any more")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        processes.await_end(pids)
        self.in_service()

    def in_service(self) -> None:
        def serving() -> bool:
            workers = self.site.daemon.ask("status")["workers"]
            return all(each["state"] == "running" for each in workers)

        processes.wait_until(serving, "all workers are in service", 40)

    def warned(self, text: str) -> None:
        def told() -> bool:
            return any(text in each for each in self.site.daemon.ask("status")["warnings"])

        processes.wait_until(told, text, 40)


BEFORE = {
    "main": 200,
    "users": 401,
    "policed": 401,
    "token": 401,
    "page": 200,
    "ca": 502,
    "kept over TLS": 200,
    "lost over TLS": 200,
    "strict": 200,
}
LATER = {
    **BEFORE,
    "users": 503,
    "policed": 503,
    "token": 503,
    "page": 503,
    "lost over TLS": 0,
    "strict": 0,
}


@pytest.fixture
def told(site: Site) -> Told:
    made = Told(site)
    site.start(made.files())
    assert made.found() == BEFORE
    return made


def test_what_names_a_lost_content_refuses_itself_and_nothing_else(told: Told) -> None:
    site = told.site
    running = site.running()
    told.lose()
    assert told.found() == LATER
    assert site.running() == running, "it is the same state for all that"
    for name in ('certificate "lost"', 'frontend "users"', 'policy "staff"', 'frontend "page"'):
        told.warned(f"{name}: the content of {told.outside}")
    explained = site.daemon.ask("explain", url=f"http://users.test:{ports.split(site.address)[1]}/")
    assert f'frontend "users": the content of {told.path("users")} is lost' in explained["message"]
    assert "503" in explained["message"]
    assert "named_by" in site.daemon.log()

    # Commits go on beside it, and another daemon knows of it.
    site.daemon.leave(signal.SIGKILL)
    site.daemon.return_(wait=False)
    told.in_service()
    told.warned(f'frontend "users": the content of {told.path("users")} is lost')


def test_a_content_that_is_back_is_served_again(told: Told) -> None:
    site = told.site
    told.lose()
    pids = site.worker_pids()
    for name in LOST:
        told.write(name)
    # Within ten seconds, and what it takes to replace workers on a machine that is busy.
    processes.wait_until(lambda: told.found() == BEFORE, "all is served again", 25)
    processes.wait_until(lambda: not set(site.worker_pids()) & set(pids), "by others", 20)
    assert not any("is lost" in each for each in site.daemon.ask("status")["warnings"])
