"""All policies together: one order, whoever says what, and nothing skipped or done twice.

Every set of what may answer a request is a frontend of its own; what each says stands by chance in
the frontend, in a policy of its or in one of its listener. The request is one that all of them
answer, and it is sent twice, since a rate takes one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend
from tests.harness.site import Site
from tests.harness.tokens import Signer, jwks

SEED = 7
KEYS = jwks(Signer("ES256"))
HASH = "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM."
# In the order in which they answer, each by a status of its own but for the last.
ANSWERS: dict[str, tuple[dict[str, Any], int]] = {
    "limits": ({"limits": {"body_bytes": "1B"}}, 413),
    "deny": ({"deny": ["127.0.0.0/8"]}, 403),
    "rate": ({"rate_limit": {"requests": 1, "per": "24h", "by": "frontend"}}, 429),
    "cors": ({"cors": {"origins": ["https://app.test"]}}, 204),
    "basic": ({"basic_auth": {"realm": "r", "users": "users.htpasswd"}}, 401),
    "jwt": ({"jwt": {"issuer": "i", "audiences": ["a"], "keys": "keys.json"}}, 401),
}
SETS = list(chain.from_iterable(combinations(ANSWERS, count) for count in range(len(ANSWERS) + 1)))
FIELDS = [("Origin", "https://app.test"), ("Access-Control-Request-Method", "PUT")]


def expected(answering: tuple[str, ...], spent: set[str]) -> int:
    """What a request is answered; `spent` are the rates that are used up."""
    for name in ANSWERS:
        if name == "rate" and name in answering and name not in spent:
            spent.add(name)
        elif name in answering:
            return ANSWERS[name][1]
    return 200


class OrderedSite(Site):
    """A listener for each set, which has policies, and a frontend on it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, ("red",), workers=1)
        self.raw = RawBackend()
        chance = random.Random(SEED)
        document: dict[str, Any] = self.document({"raw": [self.raw.address]}, {})
        document["policies"] = {}
        self.addresses = [ports.address() for _ in SETS]
        for number, answering in enumerate(SETS):
            says: dict[str, Any] = {}
            named: dict[str, list[str]] = {"frontend": [], "listener": []}
            for name in answering:
                where = chance.choice(["own", "frontend", "listener"])
                if where == "own":
                    says |= ANSWERS[name][0]
                    continue
                policy = f"{name}-{number}"
                document["policies"][policy] = ANSWERS[name][0]
                named[where].append(policy)
            document["listeners"][f"l{number}"] = {
                "address": self.addresses[number],
                "h2c": True,
                "policies": named["listener"],
            }
            document["frontends"][f"w{number}"] = {
                "listeners": [f"l{number}"],
                "cluster": "raw",
                "policies": named["frontend"],
                **says,
            }
        self.start({"kakehi.yaml": document, "users.htpasswd": f"user:{HASH}\n", "keys.json": KEYS})

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrderedSite]:
    with OrderedSite(tmp_path_factory.mktemp("order")) as made:
        yield made


def test_the_first_that_has_an_answer_gives_it(site: OrderedSite) -> None:
    lines = [f"{name}: {value}" for name, value in FIELDS]
    head = "\r\n".join(["OPTIONS / HTTP/1.1", "Host: a.test", "Content-Length: 2", *lines, "", ""])
    for number, answering in enumerate(SETS):
        spent: set[str] = set()
        for _ in range(2):
            site.raw.reset()
            with rawclient.Connection(site.addresses[number]) as client:
                client.send(head.encode() + b"ab")
                status = client.read_response("OPTIONS").status
            assert status == expected(answering, spent), (answering, spent)
            assert len(site.raw.requests) == (status == 200), answering


def test_the_same_over_http2_where_rates_are_used_up(site: OrderedSite) -> None:
    pairs = [(name.lower(), value) for name, value in FIELDS]
    for number, answering in enumerate(SETS):
        if "limits" in answering:
            continue
        with H2Client(site.addresses[number]) as client:
            stream = client.get("a.test", *pairs, method="OPTIONS")
            client.read_until(lambda it=client, at=stream: at in it.ended)  # type: ignore[misc]
            assert client.statuses[stream] == expected(answering, {"rate"}), answering


def test_explain_tells_them_in_that_order(site: OrderedSite) -> None:
    keys = {"rate": "rate_limit", "basic": "basic_auth"}
    port = site.addresses[-1].rpartition(":")[2]
    told = site.daemon.ask("explain", url=f"http://a.test:{port}/")
    # Nobody is named by a password, so that nothing comes behind that.
    expected = [keys.get(name, name) for name in ANSWERS if name != "jwt"]
    assert [each["key"] for each in told["stages"]] == expected
