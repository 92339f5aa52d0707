"""Who tells a backend who asks, where several could: the nearest to the frontend, and nobody else.

Names of policies are such that their order would say something else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import rawclient, wire
from tests.harness.rawbackend import Exchange, RawBackend, answer
from tests.harness.site import Site
from tests.harness.tokens import Signer, jwks

SIGNER = Signer("ES256", "key")
TOKENS = {"issuer": "i", "audiences": [], "keys": "keys.json"}
POLICIES: dict[str, Any] = {
    "a-far": {"jwt": {**TOKENS, "headers": {"X-User": "sub", "X-Far": "sub"}}},
    "a-asked": {"forward_auth": {"cluster": "sso", "path": "/1", "copy_headers": ["X-User"]}},
    "z-mail": {"jwt": {**TOKENS, "scopes": ["a"], "headers": {"X-User": "mail"}}},
    "a-mail": {"jwt": {**TOKENS, "headers": {"X-User": "mail"}}},
}
OWN: dict[str, Any] = {"forward_auth": {"cluster": "sso", "copy_headers": ["x-user"]}}
# What a frontend says, and what its backend is told: with a claim "mail", and without.
CASES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "far": ({}, ["sub"], ["sub"]),
    "policy": ({"policies": ["z-mail"]}, ["mail"], []),
    "same": ({"policies": ["a-mail", "z-mail"]}, ["mail"], []),
    "asked": ({"policies": ["a-asked"]}, ["from-sso /1"], ["from-sso /1"]),
    "own": ({"policies": ["z-mail"], **OWN}, ["from-sso /"], ["from-sso /"]),
    "decided": ({"policies": ["z-mail", "a-asked"], **OWN}, ["from-sso /"], ["from-sso /"]),
    "edited": (
        {"policies": ["z-mail", "a-asked"], "request_headers": {"set": {"x-user": "ours"}}},
        ["ours"],
        ["ours"],
    ),
}


class IdentitySite(Site):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory, ("red",), workers=1)
        self.raw, self.sso = RawBackend(answer(wire.response(b"in"))), RawBackend(self._judge)
        clusters = {"raw": [self.raw.address], "sso": [self.sso.address]}
        document: dict[str, Any] = self.document(clusters, {})
        document["policies"] = POLICIES
        document["listeners"]["main"]["policies"] = ["a-far"]
        document["frontends"] = {
            name: {"listeners": ["main"], "hostname": f"{name}.test", "cluster": "raw", **says}
            for name, (says, _, _) in CASES.items()
        }
        self.start({"kakehi.yaml": document, "keys.json": jwks(SIGNER)})

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()
        self.sso.stop()

    @staticmethod
    def _judge(exchange: Exchange) -> None:
        path = exchange.request.target.decode()
        exchange.send(wire.response(b"", fields=[("X-User", f"from-sso {path}")]))

    def told(self, name: str, **more: Any) -> tuple[list[str], list[str]]:
        claims = {"iss": "i", "exp": int(time.time()) + 300, "sub": "sub", "scope": "a", **more}
        self.raw.reset()
        with rawclient.Connection(self.address) as client:
            spoofed = ("X-User: root", "X-Far: root")
            token = f"Authorization: Bearer {SIGNER.token(claims)}"
            assert client.get(f"{name}.test", "/", token, *spoofed).status == 200
        [got] = self.raw.requests
        all_of = ([value.decode() for value in got.all(each)] for each in ("x-user", "x-far"))
        user, far = all_of
        return user, far


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentitySite]:
    with IdentitySite(tmp_path_factory.mktemp("identities")) as made:
        yield made


@pytest.mark.parametrize("name", CASES)
def test_the_nearest_to_the_frontend_says_who_asks(site: IdentitySite, name: str) -> None:
    _, known, unknown = CASES[name]
    assert site.told(name, mail="mail") == (known, ["sub"])
    assert site.told(name) == (unknown, ["sub"]), "nobody else steps in"


def test_explain_says_whose_word_counts(site: IdentitySite) -> None:
    def words(name: str) -> list[str]:
        url = f"http://{name}.test:{site.address.rpartition(':')[2]}/"
        stages = site.daemon.ask("explain", url=url)["stages"]
        told = [each["words"] for each in stages if each["key"] in ("jwt", "forward_auth")]
        return [
            each.partition("; it says ")[2] or each.partition(", and says ")[2] for each in told
        ]

    far = "X-Far; X-User is what {} says"
    assert words("far") == ["X-Far, X-User"]
    assert words("policy") == [far.format('policy "z-mail"') + ", which is nearer", "X-User"]
    assert words("asked") == [far.format('policy "a-asked"') + ", which is nearer", "X-User"]
    own = far.format('frontend "own"') + ", which is nearer"
    assert words("own") == [own, "", "x-user"]
    edited = far.format('request_headers of frontend "edited"')
    assert words("edited") == [edited, "", ""]
