"""Users and passwords: who gets in, what is hashed and what is not, and files that change."""

from __future__ import annotations

import base64
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ports, processes, rawclient, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.tlssite import TlsSite

# Made by crypt(3) and OpenSSL; the password is "secret" everywhere.
BCRYPT = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
SHA512 = (
    "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/"
    "O6IND4WQhG."
)
SHA256 = "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM."
APR1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"
# What waits for very many of those on a machine that is busy.
PATIENCE_S = 120.0
# "slow" takes a twentieth of a second or more.
SLOW = "$6$rounds=100000$abcdefgh$"
USERS = {"bcrypt": BCRYPT, "sha512": SHA512, "sha256": SHA256, "apr1": APR1}
FRONTENDS: dict[str, dict[str, Any]] = {
    "own": {"basic_auth": {"realm": "own realm", "users": "users.htpasswd"}},
    "shared": {"policies": ["staff"]},
    "both": {
        "basic_auth": {"realm": "inner", "users": "few.htpasswd"},
        "policies": ["staff"],
    },
    "answers": {"policies": ["staff"], "respond": {"status": 200, "body": "here"}},
    "moved": {"policies": ["staff"], "redirect": {"path": {"full": "/new"}}},
    "outside": {"policies": ["outside"]},
    "denied": {"policies": ["staff"], "deny": ["127.0.0.0/8"]},
    "open": {},
    "slow": {"basic_auth": {"realm": "slow", "users": "slow.htpasswd"}},
}


def lines(users: dict[str, str]) -> str:
    return "# written by a test\n" + "".join(f"{name}:{hashed}\n" for name, hashed in users.items())


def by(user: str, password: str = "secret") -> str:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return f"Authorization: Basic {pair}"


class GuardedSite(TlsSite):
    """One worker, so that what it has hashed can be counted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, workers=1)
        self.raw = RawBackend(answer(wire.response(b"in")))
        self.h2c, self.far, self.admin = ports.address(), ports.address(), ports.address()
        self.outside = directory / "outside.htpasswd"
        self.outside.write_text(lines({"before": SHA256}))
        files = self.files(
            {"all": self.leaf(*(f"{name}.test" for name in FRONTENDS))},
            clusters={"raw": [self.raw.address]},
            frontends={},
        )
        document: Any = files["kakehi.yaml"]
        document["settings"]["admin"] = self.admin
        document["listeners"]["h2c"] = {"address": self.h2c, "h2c": True}
        document["listeners"]["far"] = {"address": self.far, "policies": ["staff"]}
        self.lenient = ports.address()
        document["listeners"]["lenient"] = {"address": self.lenient, "policies": ["lets"]}
        staff = {"basic_auth": {"realm": "staff", "users": "users.htpasswd"}}
        document["policies"] = {
            "lets": staff | {"overridable": True},
            "staff": staff,
            "outside": {"basic_auth": {"realm": "outside", "users": str(self.outside)}},
        }
        document["frontends"] = {
            name: {
                "listeners": ["far", "h2c", "lenient", "main", "secure"],
                "hostname": f"{name}.test",
            }
            | ({} if {"respond", "redirect"} & keys.keys() else {"cluster": "raw"})
            | keys
            for name, keys in FRONTENDS.items()
        }
        files["users.htpasswd"] = lines(USERS)
        files["few.htpasswd"] = lines({"bcrypt": BCRYPT})
        # A hash of something else: only how long it takes matters.
        files["slow.htpasswd"] = lines({"slow": SLOW + SHA512.rpartition("$")[2]})
        self.contents = files
        self.start(files)

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()

    def get(self, name: str, *fields: str, at: str = "") -> wire.Response:
        with rawclient.Connection(at or self.address) as client:
            return client.get(f"{name}.test", "/", *fields)

    def counted(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=15) as response:
            text = response.read().decode()
        families = text_string_to_metric_families(text)
        found = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in found if sample.name == f"kakehi_{name}")


def test_whom_a_listener_asks_for_a_frontend_may_say_where_that_is_let(site: GuardedSite) -> None:
    """Users of its own replace those of an overridable policy, and else have to be of both."""
    assert site.get("open", at=site.lenient).status == 401
    assert site.get("open", by("sha256"), at=site.lenient).status == 200
    assert site.get("outside", at=site.lenient).status == 401
    assert site.get("outside", by("sha256"), at=site.lenient).status == 401
    assert site.get("outside", by("before"), at=site.lenient).status == 200
    assert site.get("outside", by("before"), at=site.far).status == 401


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedSite]:
    with GuardedSite(tmp_path_factory.mktemp("basic")) as made:
        yield made


@pytest.fixture(autouse=True)
def _usual(site: GuardedSite) -> None:
    site.raw.reset()


@pytest.mark.parametrize("name", ["own", "shared", "answers", "moved"])
def test_whoever_shows_nothing_is_asked(site: GuardedSite, name: str) -> None:
    response = site.get(name)
    realm = "own realm" if name == "own" else "staff"
    assert response.status == 401
    assert response.all("www-authenticate") == [f'Basic realm="{realm}", charset="UTF-8"'.encode()]
    assert site.raw.requests == []


@pytest.mark.parametrize("user", USERS)
def test_users_of_every_hash_get_in(site: GuardedSite, user: str) -> None:
    for name, status in (("own", 200), ("shared", 200), ("answers", 200), ("moved", 302)):
        assert site.get(name, by(user)).status == status
        assert site.get(name, by(user, "Secret")).status == 401
        assert site.get(name, by(user, "")).status == 401


@pytest.mark.parametrize(
    "field",
    [
        by("nobody"),
        by("", "secret"),
        "Authorization: Basic",
        "Authorization: Basic !!!",
        "Authorization: Basic c2VjcmV0",
        "Authorization: Bearer YmNyeXB0OnNlY3JldA==",
        f"{by('bcrypt')}\r\n{by('bcrypt')}",
        by("bcrypt", "secret" + "x" * 2000),
    ],
)
def test_what_is_no_password_is_none(site: GuardedSite, field: str) -> None:
    assert site.get("own", field).status == 401
    assert site.raw.requests == []


def test_over_http2_and_tls(site: GuardedSite) -> None:
    with H2Client(site.h2c) as client:
        value = by("sha512").partition(": ")[2]
        streams = [
            client.get("shared.test", ("authorization", value)),
            client.get("shared.test"),
            client.get("shared.test", ("authorization", value)),
        ]
        client.read_until(lambda: set(streams) <= client.ended)
        assert [client.statuses[each] for each in streams] == [200, 401, 200]
    with site.connect("shared.test") as secure:
        assert secure.get("shared.test", "/", by("apr1")).status == 200
        assert secure.get("shared.test").status == 401


def test_every_level_has_to_know_the_user(site: GuardedSite) -> None:
    assert site.get("both", by("bcrypt")).status == 200
    refused = site.get("both", by("sha512"))
    assert refused.status == 401
    assert refused.all("www-authenticate") == [b'Basic realm="inner", charset="UTF-8"']
    assert site.get("open").status == 200
    assert site.get("open", at=site.far).status == 401
    assert site.get("open", by("apr1"), at=site.far).status == 200


def test_the_body_waits_with_the_request(site: GuardedSite) -> None:
    document: Any = site.contents["kakehi.yaml"]
    document["policies"]["outside"]["basic_auth"]["realm"] = "another"
    site.commit(site.contents)
    with rawclient.Connection(site.address) as client:
        body = bytes(range(256)) * 300
        assert client.post("outside.test", body, "/", by("before")).status == 200
        [asked] = site.raw.requests
        assert asked.body == body
        # And on the same connection.
        assert client.get("outside.test", "/", by("before")).status == 200
        assert client.get("outside.test").status == 401


def test_a_password_is_hashed_once(site: GuardedSite) -> None:
    site.get("own", by("sha256"))
    before = site.counted("passwords_hashed_total")
    with rawclient.Connection(site.address) as client:
        for _ in range(20):
            assert client.get("own.test", "/", by("sha256")).status == 200
            assert client.get("shared.test", "/", by("sha256")).status == 200
    assert site.counted("passwords_hashed_total") == before
    for _ in range(3):
        assert site.get("own", by("sha256", "wrong")).status == 401
    assert site.counted("passwords_hashed_total") == before + 3, "what is wrong is not remembered"


def test_nobody_else_waits_while_passwords_are_hashed(site: GuardedSite) -> None:
    """A hundred slow ones at a time: others are served, and what is too much is refused at once."""
    statuses: list[int] = []

    def guess(number: int) -> None:
        with rawclient.Connection(site.address) as client:
            client.socket.settimeout(PATIENCE_S)
            shown = by("slow", f"guess {number}")
            statuses.append(client.get("slow.test", "/", shown).status)

    guessing = [threading.Thread(target=guess, args=(number,)) for number in range(100)]
    for each in guessing:
        each.start()
    served = 0
    deadline = time.monotonic() + PATIENCE_S
    while any(each.is_alive() for each in guessing):
        assert site.get("open").status == 200
        served += 1
        assert time.monotonic() < deadline
    for each in guessing:
        each.join()
    assert set(statuses) == {401, 503}
    assert statuses.count(401) >= 64
    # Each of those took a twentieth of a second or so.
    assert served > 100
    entries = site.daemon.wait_for_access(lambda each: each["outcome"] == "too_many_passwords")
    assert {each["status"] for each in entries} == {503}


def test_who_leaves_is_no_trouble(site: GuardedSite) -> None:
    for number in range(5):
        with rawclient.Connection(site.address) as client:
            fields = f"{by('slow', f'left {number}')}\r\n\r\n"
            client.send(f"GET / HTTP/1.1\r\nHost: slow.test\r\n{fields}".encode())
    assert site.get("slow", by("slow", "stayed")).status == 401
    processes.wait_until(lambda: site.counted("requests_now") == 0, "nobody is left")


def test_a_file_that_changes_counts_at_once(site: GuardedSite) -> None:
    assert site.get("outside", by("before")).status == 200
    site.outside.write_text(lines({"after": APR1}))
    processes.wait_until(
        lambda: site.get("outside", by("after")).status == 200, "the file is taken over", 30
    )
    assert site.get("outside", by("before")).status == 401, "also of who was remembered"
    site.contents["users.htpasswd"] = lines({**USERS, "bcrypt": APR1, "new": SHA512})
    site.commit(site.contents)
    assert site.get("shared", by("new")).status == 200
    assert site.get("own", by("bcrypt")).status == 200, "by its new hash"


def test_a_broken_file_is_refused_and_nothing_changes(site: GuardedSite) -> None:
    files = {**site.contents, "users.htpasswd": "user:secret\n"}
    sha = site.repo.commit(files, "broken")
    outcome = site.daemon.ask("wait", commit=sha, timeout_s=30)
    assert outcome["outcome"] == "refused"
    assert "line 1: it is no hash" in str(outcome)
    assert site.get("shared", by("apr1")).status == 200
    site.commit(site.contents)


def test_no_secret_is_told(site: GuardedSite) -> None:
    for user in ("apr1", "nobody"):
        site.get("own", by(user, "a-wrong-one"))
    port = site.address.rpartition(":")[2]
    told = site.daemon.json("explain", f"http://shared.test:{port}/")
    [stage] = told["stages"]
    nobody = "and no user is named with a password: 401"
    assert stage["words"] == f'users of users.htpasswd get in ("staff"), {nobody}'
    assert (told["status"], told["backends"]) == (401, [])
    asked = ("-H", by("apr1"))
    named = site.daemon.json("explain", f"http://shared.test:{port}/", *asked)
    assert named["status"] is None
    assert named["message"].endswith('if "apr1" and the password are in users.htpasswd')
    shown = str(named) + str(site.daemon.json("show", "policy/staff")) + str(told)
    log = site.daemon.access_log.read_text() + site.daemon.log()
    for secret in ("a-wrong-one", "abcdefgh", by("apr1").rpartition(" ")[2]):
        assert secret not in shown + log
    [*_, entry] = site.daemon.wait_for_access(lambda each: each["outcome"] == "unauthenticated")
    assert entry["status"] == 401
    # It is asked for behind networks, before anything is told of users.
    assert site.get("denied").status == 403
