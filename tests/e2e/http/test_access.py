"""Who may ask: networks that frontends, policies and listeners allow and deny.

The configuration is made by chance from a seed, and each client's answer is compared with a model
that has none of our code (`tests/property/merging.py`).
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient
from tests.harness.h2client import H2Client
from tests.harness.tlssite import TlsSite
from tests.property import merging
from tests.property.merging import Raw

SEED = 4
COUNT = 12
NETWORKS = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "192.0.2.0/24",
    "2001:db8::/32",
    "0.0.0.0/0",
]
CLIENTS = ["10.1.2.3", "10.1.9.1", "10.200.0.1", "192.0.2.7", "198.51.100.1", "2001:db8::1", "::7"]
NEAR = [f"n{number}" for number in range(4)]
FAR = ["f0", "f1"]


class AccessSite(TlsSite):
    """Listeners that are told who the client is, by the PROXY protocol and by a trusted proxy."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.told = ports.address()
        self._random = random.Random(SEED)
        self.policies = {name: self.says() for name in (*NEAR, *FAR)}
        # Some of what the listener asks of all gives way to what frontends ask.
        self.policies["f1"] = {"allow": ["10.0.0.0/8"], "deny": ["10.200.0.0/16"]}
        self.policies["f1"]["overridable"] = True
        self.owns = {
            f"w{number}": {**self.says(), "policies": sorted(self._random.sample(NEAR, 2))}
            for number in range(COUNT)
        }
        hosts = [f"{name}.test" for name in (*self.owns, "plain", "passed")]
        files = self.files({"all": self.leaf(*hosts)}, frontends={})
        self.document: Any = files["kakehi.yaml"]
        self.contents = files
        trusted = {"trusted_proxies": ["127.0.0.0/8"], "policies": FAR}
        self.document["listeners"]["secure"] |= trusted
        self.document["listeners"]["told"] = {
            "address": self.told,
            "h2c": True,
            "proxy_protocol": ["127.0.0.0/8"],
        }
        answered = {"listeners": ["main", "secure", "told"], "respond": {"status": 200}}
        self.document["frontends"] = {
            name: {**answered, "hostname": f"{name}.test", **own} for name, own in self.owns.items()
        }
        self.document["frontends"]["plain"] = {**answered, "hostname": "plain.test"}
        self.document["policies"] = self.policies
        self.start(files)

    def says(self) -> Raw:
        said: Raw = {}
        for key in ("allow", "deny"):
            if self._random.random() < 0.4:
                said[key] = self._random.sample(NETWORKS, self._random.randrange(1, 3))
        # Allowed in vain.
        return said if merging.can_let_in(said) else {}

    def expected(self, name: str, client: str, *, far: bool) -> int:
        own = self.owns.get(name, {"policies": []})
        policies = [own, *(self.policies[each] for each in own["policies"])]
        beyond = merging.left([self.policies[each] for each in FAR] if far else [], policies)
        return 200 if merging.admits(client, [*policies, *beyond]) else 403

    def through(self, client: str) -> rawclient.Connection:
        """A connection of a client, as its balancer says."""
        connection = rawclient.Connection(self.told)
        connection.send(introduced(client))
        return connection

    def secure(self, name: str, client: str) -> int:
        with self.connect(f"{name}.test") as connection:
            return connection.get(f"{name}.test", "/", f"X-Forwarded-For: {client}").status


def introduced(client: str) -> bytes:
    family, to = ("TCP6", "::1") if ":" in client else ("TCP4", "192.0.2.200")
    return f"PROXY {family} {client} {to} 56324 80\r\n".encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessSite]:
    with AccessSite(tmp_path_factory.mktemp("access")) as made:
        yield made


def test_every_client_gets_in_where_the_model_says(site: AccessSite) -> None:
    seen = set()
    for client in CLIENTS:
        with site.through(client) as connection:
            for name in site.owns:
                expected = site.expected(name, client, far=False)
                response = connection.get(f"{name}.test")
                assert response.status == expected, (name, client, site.owns[name])
                seen.add(expected)
    assert seen == {200, 403}


def test_the_same_over_http2(site: AccessSite) -> None:
    for client in CLIENTS[:3]:
        with H2Client(site.told, before=introduced(client)) as connection:
            streams = {name: connection.get(f"{name}.test") for name in site.owns}
            connection.read_until(
                lambda streams=streams, it=connection: set(streams.values()) <= it.ended
            )
            for name, stream in streams.items():
                assert connection.statuses[stream] == site.expected(name, client, far=False)


@pytest.mark.parametrize("name", ["w0", "w5", "plain"])
def test_a_listeners_policies_count_over_tls_and_by_trusted_proxies(
    site: AccessSite, name: str
) -> None:
    for client in CLIENTS:
        assert site.secure(name, client) == site.expected(name, client, far=True), client


def test_balancers_write_addresses_in_many_ways(site: AccessSite) -> None:
    """With ports, in brackets or as RFC 7239 has it: the client is who they say."""
    for client in CLIENTS:
        is_ipv6 = ":" in client
        with_port = f"[{client}]:443" if is_ipv6 else f"{client}:8080"
        for line in (
            f"X-Forwarded-For: {with_port}",
            f"X-Forwarded-For: {client}, ,",
            f'Forwarded: for="{with_port}";proto=https',
        ):
            for name in ("w0", "w5", "plain"):
                with site.connect(f"{name}.test") as connection:
                    status = connection.get(f"{name}.test", "/", line).status
                assert status == site.expected(name, client, far=True), (name, line)


@pytest.mark.parametrize(
    "line", ["X-Forwarded-For: 10.1.2.3, unknown", "Forwarded: for=_hidden;proto=https"]
)
def test_a_client_that_nobody_knows_is_none_that_is_allowed(site: AccessSite, line: str) -> None:
    frontend = site.document["frontends"]["plain"]
    for rule in ({"allow": ["127.0.0.0/8", "10.0.0.0/8"]}, {"deny": ["192.0.2.0/24"]}):
        site.document["frontends"]["plain"] = {**frontend, **rule}
        site.commit(site.contents)
        with site.connect("plain.test") as connection:
            assert connection.get("plain.test", "/", line).status == 403
    site.document["frontends"]["plain"] = frontend
    site.commit(site.contents)


def test_no_client_says_itself_who_it_is(site: AccessSite) -> None:
    site.document["frontends"]["plain"]["allow"] = ["10.0.0.0/8"]
    site.commit(site.contents)
    with rawclient.Connection(site.address) as client:
        refused = client.get("plain.test", "/", "X-Forwarded-For: 10.0.0.1")
        assert refused.status == 403
        # The connection goes on.
        assert client.get("plain.test").status == 403
        assert client.get("nobody.test").status == 404
    [entry, _] = site.daemon.wait_for_access(
        lambda each: (
            each["outcome"] == "address_denied"
            and (each["frontend"], each["listener"]) == ("plain", "main")
        ),
        2,
    )
    assert (entry["status"], entry["client"].partition(":")[0]) == (403, "127.0.0.1")
    with site.through("10.0.0.9") as client:
        assert client.get("plain.test").status == 200
    del site.document["frontends"]["plain"]["allow"]
    site.commit(site.contents)


def test_a_page_and_headers_of_the_frontend_are_those_of_its_refusals(site: AccessSite) -> None:
    site.document["frontends"]["plain"] |= {
        "deny": ["127.0.0.0/8"],
        "error_pages": {"403": {"body": "not you"}},
        "response_headers": {"set": {"X-Why": "{client_address}"}},
    }
    site.commit(site.contents)
    with rawclient.Connection(site.address) as client:
        response = client.get("plain.test")
    assert (response.status, response.body) == (403, b"not you")
    assert response.all("x-why") == [b"127.0.0.1"]
    for key in ("deny", "error_pages", "response_headers"):
        del site.document["frontends"]["plain"][key]
    site.commit(site.contents)


def test_tls_that_passes_unread_is_cut_off_for_who_may_not_come(site: AccessSite) -> None:
    site.document["frontends"]["passed"] = {
        "hostname": "passed.test",
        "listeners": ["secure"],
        "cluster": "main",
        "passthrough": True,
    }
    before = dict(site.policies["f0"])
    site.policies["f0"].clear()
    site.policies["f0"]["deny"] = ["127.0.0.0/8"]
    site.commit(site.contents)
    with pytest.raises((ssl.SSLError, ConnectionError, OSError)):
        site.connect("passed.test")
    [entry] = site.daemon.wait_for_access(lambda each: each["frontend"] == "passed")
    assert (entry["outcome"], entry["status"]) == ("address_denied", 0)
    explained = site.daemon.json(
        "explain",
        f"https://passed.test:{site.https.rpartition(':')[2]}/",
        "--client-address",
        "127.0.0.1",
    )
    assert explained["status"] == 0
    assert explained["message"].endswith("is in 127.0.0.0/8: the connection is closed")
    site.policies["f0"].clear()
    site.policies["f0"] |= before
    del site.document["frontends"]["passed"]
    site.commit(site.contents)


def test_explain_tells_who_gets_in_and_whose_word_it_is(site: AccessSite) -> None:
    port = site.told.rpartition(":")[2]
    site.document["frontends"]["w0"] = {
        "listeners": ["told"],
        "hostname": "w0.test",
        "policies": ["n0"],
        "respond": {"status": 200},
    }
    before = dict(site.policies["n0"])
    site.policies["n0"].clear()
    site.policies["n0"] |= {"allow": ["10.0.0.0/8"], "deny": ["192.0.2.0/24"]}
    site.commit(site.contents)
    url = f"http://w0.test:{port}/"
    stages = site.daemon.json("explain", url)["stages"]
    assert [(each["key"], each["words"]) for each in stages][:2] == [
        ("deny", "for clients in 192.0.2.0/24: 403"),
        ("allow", "for clients outside of 10.0.0.0/8: 403"),
    ]
    assert {each["by"]["name"] for each in stages[:2]} == {"n0"}
    for client, status in (("10.0.0.1", 200), ("192.0.2.1", 403), ("203.0.113.1", 403)):
        told = site.daemon.json("explain", url, "--client-address", client)
        assert told["status"] == status
        with site.through(client) as connection:
            assert connection.get("w0.test").status == status
    site.policies["n0"].clear()
    site.policies["n0"] |= before
    site.commit(site.contents)
