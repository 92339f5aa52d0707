"""Tokens: who gets in by one, what the backend is told, and every way around them."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ports, processes, rawclient, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.tlssite import TlsSite
from tests.harness.tokens import Signer, by_secret, jwks, signed, url64

ISSUER = "https://id.example.com/"
ALGORITHMS = ("ES256", "ES384", "ES512", "EdDSA", "RS256", "PS384")
SIGNERS = {name: Signer(name, f"key of {name}") for name in ALGORITHMS}
ES256 = SIGNERS["ES256"]
# Somebody whose keys nobody has asked for.
STRANGER = Signer("ES256", "key of ES256")
JWT: dict[str, Any] = {"issuer": ISSUER, "audiences": ["shop"], "keys": "keys.json"}
FRONTENDS: dict[str, dict[str, Any]] = {
    "own": {"jwt": JWT | {"headers": {"X-User": "sub", "X-Groups": "groups"}}},
    "shared": {"policies": ["api"]},
    "both": {"policies": ["api"], "jwt": JWT | {"audiences": ["stock"], "headers": {"X-B": "sub"}}},
    "answers": {"policies": ["api"], "respond": {"status": 200, "body": "here"}},
    "moved": {"policies": ["api"], "redirect": {"path": {"full": "/new"}}},
    "scoped": {"jwt": JWT | {"scopes": ["write", "read"], "claims": {"role": "admin"}}},
    "cookie": {"jwt": JWT | {"from": {"cookie": "session"}, "headers": {"X-User": "sub"}}},
    "header": {
        "jwt": JWT | {"from": {"header": "X-Token"}, "forward_token": False, "realm": "shop"}
    },
    "kept": {"jwt": JWT | {"forward_token": False, "headers": {"X-User": "sub"}}},
    "edited": {
        "jwt": JWT | {"headers": {"X-User": "sub"}},
        "request_headers": {"set": {"X-User": "ours"}},
    },
    "outside": {"policies": ["outside"]},
    "denied": {"policies": ["api"], "deny": ["127.0.0.0/8"]},
    "open": {},
}


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": "shop", "sub": "mia", "exp": now + 300, "iat": now}
    return {key: value for key, value in (usual | more).items() if value is not None}


def by(token: str) -> str:
    return f"Authorization: Bearer {token}"


class TokenSite(TlsSite):
    """One worker, so that what it has looked at can be counted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, workers=1)
        self.raw = RawBackend(answer(wire.response(b"in")))
        self.h2c, self.far, self.admin = ports.address(), ports.address(), ports.address()
        self.outside = directory / "outside.json"
        self.outside.write_text(jwks(STRANGER))
        files = self.files(
            {"all": self.leaf(*(f"{name}.test" for name in FRONTENDS))},
            clusters={"raw": [self.raw.address]},
            frontends={},
        )
        document: Any = files["kakehi.yaml"]
        document["settings"]["admin"] = self.admin
        document["listeners"]["h2c"] = {"address": self.h2c, "h2c": True}
        document["listeners"]["far"] = {"address": self.far, "policies": ["api"]}
        document["policies"] = {
            "api": {"jwt": JWT | {"headers": {"X-User": "sub"}}},
            "outside": {"jwt": JWT | {"keys": str(self.outside)}},
        }
        document["frontends"] = {
            name: {"listeners": ["far", "h2c", "main", "secure"], "hostname": f"{name}.test"}
            | ({} if {"respond", "redirect"} & keys.keys() else {"cluster": "raw"})
            | keys
            for name, keys in FRONTENDS.items()
        }
        files["keys.json"] = jwks(*SIGNERS.values())
        self.contents = files
        self.start(files)

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()

    def get(self, name: str, *fields: str, at: str = "", path: str = "/") -> wire.Response:
        with rawclient.Connection(at or self.address) as client:
            return client.get(f"{name}.test", path, *fields)

    def told(self, name: str) -> list[bytes]:
        """What the backend was told in a header by the one request that it got."""
        [asked] = self.raw.requests
        self.raw.reset()
        return asked.all(name)

    def counted(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=15) as response:
            text = response.read().decode()
        families = text_string_to_metric_families(text)
        found = (sample for family in families for sample in family.samples)
        return sum(sample.value for sample in found if sample.name == f"kakehi_{name}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenSite]:
    with TokenSite(tmp_path_factory.mktemp("jwt")) as made:
        yield made


@pytest.fixture(autouse=True)
def _usual(site: TokenSite) -> None:
    site.raw.reset()


@pytest.mark.parametrize("name", ["own", "shared", "answers", "moved", "both"])
def test_whoever_shows_nothing_is_asked(site: TokenSite, name: str) -> None:
    response = site.get(name)
    assert response.status == 401
    # No word of an error, since nothing was wrong (RFC 6750 §3.1).
    assert response.all("www-authenticate") == [b'Bearer realm="api"']
    assert site.get(name, "Authorization: Basic YTpi").status == 401
    assert site.raw.requests == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tokens_of_every_sort_of_key_get_in(site: TokenSite, algorithm: str) -> None:
    token = SIGNERS[algorithm].token(claims())
    for name, status in (("own", 200), ("shared", 200), ("answers", 200), ("moved", 302)):
        assert site.get(name, by(token)).status == status
        assert site.get(name, by(token[:-8] + "AAAAAAAA")).status == 401
    assert [asked.all("x-user") for asked in site.raw.requests] == [[b"mia"], [b"mia"]]


def test_over_http2_and_tls(site: TokenSite) -> None:
    token = ES256.token(claims())
    with H2Client(site.h2c) as client:
        field = ("authorization", f"Bearer {token}")
        streams = [
            client.get("shared.test", field, ("x-user", "root"), ("x_user", "root")),
            client.get("shared.test", ("x-user", "root")),
            client.get("shared.test", field, field),
            client.get("shared.test", field),
        ]
        client.read_until(lambda: set(streams) <= client.ended)
        assert [client.statuses[each] for each in streams] == [200, 401, 401, 200]
    assert [asked.all("x-user") for asked in site.raw.requests] == [[b"mia"]] * 2
    assert all(asked.all("x_user") == [] for asked in site.raw.requests)
    with site.connect("shared.test") as secure:
        assert secure.get("shared.test", "/", by(token)).status == 200
        assert secure.get("shared.test").status == 401


def test_the_backend_is_told_by_nobody_else(site: TokenSite) -> None:
    spoofed = ("X-User: root", "x_user: root", "X-Groups: wheel")
    site.get("own", by(ES256.token(claims(groups=["a,b", "c d", "é"]))), *spoofed)
    [asked] = site.raw.requests
    assert asked.all("x-user") == [b"mia"]
    assert asked.all("x-groups") == [b"a%2Cb,c d,%C3%A9"]
    assert asked.all("x_user") == []
    site.raw.reset()
    site.get("own", by(ES256.token(claims(sub=None))), *spoofed)
    [asked] = site.raw.requests
    assert asked.all("x-user") == asked.all("x-groups") == []
    site.raw.reset()
    # Nor may a client have taken away what it is told (T23).
    site.get("own", by(ES256.token(claims())), "Connection: X-User, X-Groups")
    assert site.told("x-user") == [b"mia"]
    site.get("own", by(ES256.token(claims(sub="a\r\nX-Groups: wheel"))))
    [asked] = site.raw.requests
    assert asked.all("x-user") == [b"a%0D%0AX-Groups: wheel"]
    assert asked.all("x-groups") == []
    site.raw.reset()
    site.get("edited", by(ES256.token(claims())))
    assert site.told("x-user") == [b"ours"]


def test_the_token_goes_on_unless_it_is_kept(site: TokenSite) -> None:
    token = ES256.token(claims())
    site.get("own", by(token))
    assert site.told("authorization") == [f"Bearer {token}".encode()]
    site.get("kept", by(token))
    [asked] = site.raw.requests
    assert (asked.all("authorization"), asked.all("x-user")) == ([], [b"mia"])
    site.raw.reset()
    site.get("header", f"X-Token: {token}", "Authorization: Basic YTpi")
    [asked] = site.raw.requests
    assert (asked.all("x-token"), asked.all("authorization")) == ([], [b"Basic YTpi"])
    site.raw.reset()
    assert site.get("header", by(token)).all("www-authenticate") == [b'Bearer realm="shop"']
    assert site.get("cookie", f"Cookie: a=1; session={token}").status == 200
    assert site.told("x-user") == [b"mia"]
    assert site.get("cookie", f"Cookie: session={token}; session={token}").status == 401
    assert site.get("cookie", by(token)).status == 401
    assert site.raw.requests == []


def test_every_level_has_to_be_convinced(site: TokenSite) -> None:
    assert site.get("both", by(ES256.token(claims()))).status == 401
    assert site.get("both", by(ES256.token(claims(aud="stock")))).status == 401
    assert site.raw.requests == []
    assert site.get("both", by(ES256.token(claims(aud=["shop", "stock"])))).status == 200
    [asked] = site.raw.requests
    assert (asked.all("x-user"), asked.all("x-b")) == ([b"mia"], [b"mia"])
    assert site.get("open").status == 200
    assert site.get("open", at=site.far).status == 401
    assert site.get("open", by(ES256.token(claims())), at=site.far).status == 200


def test_what_a_token_does_not_allow_is_forbidden(site: TokenSite) -> None:
    allowed = ES256.token(claims(scope="read write", role=["admin"]))
    assert site.get("scoped", by(allowed)).status == 200
    for less in (claims(scope="read", role="admin"), claims(scope="read write")):
        refused = site.get("scoped", by(ES256.token(less)))
        assert refused.status == 403
        assert refused.all("www-authenticate") == [
            b'Bearer realm="api", error="insufficient_scope", scope="read write"'
        ]


def forgeries() -> dict[str, tuple[str, str]]:
    """Tokens that let nobody pass, each with what the access log says of it."""
    fresh = claims()
    now = int(time.time())
    public = ES256.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    header = {"alg": "HS256", "kid": ES256.kid}
    twice = json.dumps(fresh)[:-1] + ', "sub": "root"}'
    none = {"alg": "none", "kid": ES256.kid}
    real = ES256.token(fresh)
    other = ES256.token(claims(sub="ben"))
    brought = {"jwk": STRANGER.jwk, "jku": "https://evil.test/keys", "x5u": "https://evil.test/c"}
    return {
        "without a signature": (signed(none, fresh, lambda _: b""), "token_algorithm"),
        "by the public key": (by_secret(header, fresh, public), "token_algorithm"),
        "by its jwk": (
            by_secret(header, fresh, json.dumps(ES256.jwk).encode()),
            "token_algorithm",
        ),
        "by a stranger": (STRANGER.token(fresh), "token_signature"),
        "with a key along": (STRANGER.token(fresh, **brought), "token_signature"),
        "by another algorithm": (ES256.token(fresh, alg="RS256"), "token_algorithm"),
        "by another key": (ES256.token(fresh, kid=SIGNERS["ES384"].kid), "token_algorithm"),
        "by no key": (ES256.token(fresh, kid="../../etc/passwd"), "token_unknown_key"),
        "critical": (ES256.token(fresh, crit=["exp"], exp=now), "token_critical"),
        "unencoded": (ES256.token(fresh, crit=["b64"], b64=False), "token_critical"),
        "of another type": (ES256.token(fresh, typ="logout+jwt"), "token_type"),
        "ended": (ES256.token(claims(exp=now - 61)), "token_expired"),
        "without end": (ES256.token(claims(exp=None)), "token_expired"),
        "with an end as text": (ES256.token(claims(exp=str(now + 300))), "token_malformed"),
        "with an end of true": (ES256.token(claims(exp=True)), "token_malformed"),
        "early": (ES256.token(claims(nbf=now + 120)), "token_early"),
        "of another issuer": (ES256.token(claims(iss="https://evil.test/")), "token_issuer"),
        "for somebody else": (ES256.token(claims(aud="stock")), "token_audience"),
        "for a part": (ES256.token(claims(aud="sho")), "token_audience"),
        "twice the same claim": (ES256.token(twice), "token_malformed"),
        "with claims of another": (
            ".".join([real.split(".")[0], other.split(".")[1], real.split(".")[2]]),
            "token_signature",
        ),
        "huge": (ES256.token(claims(pad="x" * 13_000)), "token_malformed"),
        "padded": (real + "=", "token_malformed"),
        "of two parts": (real.rpartition(".")[0], "token_malformed"),
        "of four parts": (f"{real}.{url64(b'x')}", "token_malformed"),
        "encrypted": ("a.b.c.d.e", "token_malformed"),
        "no token": ("x", "token_malformed"),
    }


@pytest.mark.parametrize("what", forgeries())
def test_forged_tokens_let_nobody_pass(site: TokenSite, what: str) -> None:
    token, reason = forgeries()[what]
    for name in ("own", "shared", "answers"):
        refused = site.get(name, by(token))
        assert refused.status == 401
        assert refused.all("www-authenticate") == [b'Bearer realm="api", error="invalid_token"']
    assert site.raw.requests == []
    site.daemon.wait_for_access(
        lambda each: (each["outcome"], each.get("reason")) == ("token_refused", reason)
    )


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\nHost: own.test\r\n{by}\r\n{by}",
        "GET / HTTP/1.1\r\nHost: own.test\r\n{by}\r\nAuthorization: Basic YTpi",
        "GET / HTTP/1.1\r\nHost: own.test\r\nauthorization : x",
        "GET / HTTP/1.1\r\nHost: own.test\r\nX-User: mia",
        "GET /?access_token={token} HTTP/1.1\r\nHost: own.test",
        "GET http://own.test/ HTTP/1.1\r\nHost: own.test",
        "GET http://own.test/ HTTP/1.1\r\nHost: open.test",
        "GET //own.test/../ HTTP/1.1\r\nHost: own.test",
        "GET /%2e%2e/%2F/./x;y HTTP/1.1\r\nHost: own.test",
        "HEAD / HTTP/1.1\r\nHost: OWN.test",
        "OPTIONS * HTTP/1.1\r\nHost: own.test",
        "TRACE / HTTP/1.1\r\nHost: own.test",
        "PROPFIND / HTTP/1.1\r\nHost: own.test.",
        "GET / HTTP/1.1\r\nHost: own.test\r\nX-HTTP-Method-Override: OPTIONS\r\nX-Original-URL: /o",
        (
            "OPTIONS / HTTP/1.1\r\nHost: own.test\r\nOrigin: https://a.test\r\n"
            "Access-Control-Request-Method: GET"
        ),
        (
            "GET / HTTP/1.1\r\nHost: own.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        ),
        (
            "POST / HTTP/1.1\r\nHost: own.test\r\nTransfer-Encoding: chunked\r\n"
            "Trailer: Authorization\r\n\r\n0\r\n{by}"
        ),
    ],
)
def test_no_way_around(site: TokenSite, head: str) -> None:
    token = ES256.token(claims())
    text = head.replace("{by}", by(token)).replace("{token}", token)
    with rawclient.Connection(site.address) as client:
        client.send(f"{text}\r\n\r\n".encode())
        assert client.read_response(head.partition(" ")[0]).status in (400, 401, 405, 501)
    assert site.raw.requests == []


def test_no_trailer_says_who_it_is(site: TokenSite) -> None:
    with rawclient.Connection(site.address) as client:
        client.send(
            f"POST / HTTP/1.1\r\nHost: own.test\r\n{by(ES256.token(claims()))}\r\n"
            "Transfer-Encoding: chunked\r\nTrailer: X-User\r\n\r\n"
            "2\r\nab\r\n0\r\nX-User: root\r\n\r\n".encode()
        )
        assert client.read_response("POST").status == 200
    [asked] = site.raw.requests
    assert asked.all("x-user") == [b"mia"]
    assert b"root" not in asked.body


def test_a_signature_is_looked_at_once(site: TokenSite) -> None:
    token = ES256.token(claims(jti="once"))
    before = site.counted("tokens_verified_total")
    with rawclient.Connection(site.address) as client:
        for _ in range(20):
            assert client.get("own.test", "/", by(token)).status == 200
            assert client.get("shared.test", "/", by(token)).status == 200
    assert site.counted("tokens_verified_total") == before + 1
    short = ES256.token(claims(exp=int(time.time()) - 58))
    assert site.get("own", by(short)).status == 200
    processes.wait_until(lambda: site.get("own", by(short)).status == 401, "it has ended", 30)


def test_keys_that_change_count_at_once(site: TokenSite) -> None:
    assert site.get("outside", by(STRANGER.token(claims()))).status == 200
    assert site.get("outside", by(ES256.token(claims()))).status == 401
    unknown = site.counted("tokens_unknown_key_total")
    newcomer = Signer("EdDSA", "new")
    assert site.get("outside", by(newcomer.token(claims()))).status == 401
    assert site.counted("tokens_unknown_key_total") == unknown + 1
    site.outside.write_text(jwks(newcomer))
    token = newcomer.token(claims())
    processes.wait_until(
        lambda: site.get("outside", by(token)).status == 200, "the file is taken over", 30
    )
    assert site.get("outside", by(STRANGER.token(claims()))).status == 401, "also of who was known"
    # An issuer that says none takes all of them back (RFC 7517 §5).
    site.outside.write_text(json.dumps({"keys": []}))
    processes.wait_until(
        lambda: site.get("outside", by(token)).status == 401, "the empty set is taken over", 30
    )

    def told() -> list[str]:
        return [each for each in site.daemon.status()["warnings"] if str(site.outside) in each]

    # The worker answers by it a moment before the daemon has heard of that.
    processes.wait_until(lambda: len(told()) == 1, "that it differs is told no more")
    assert "has no key in it: all tokens get 401" in told()[0]


def test_a_broken_set_is_refused_and_nothing_changes(site: TokenSite) -> None:
    broken = json.dumps({"keys": [ES256.jwk | {"y": ES256.jwk["x"]}]})
    sha = site.repo.commit({**site.contents, "keys.json": broken}, "broken")
    outcome = site.daemon.ask("wait", commit=sha, timeout_s=30)
    assert outcome["outcome"] == "refused"
    assert "x and y are no point of P-256" in str(outcome)
    assert site.get("shared", by(ES256.token(claims()))).status == 200
    site.commit(site.contents)


def test_no_credential_is_told(site: TokenSite) -> None:
    token = ES256.token(claims(sub="somebody-secret"))
    for shown in (token, token + "x"):
        site.get("own", by(shown))
    site.daemon.wait_for_access(lambda each: each["outcome"] == "token_refused")
    port = site.address.rpartition(":")[2]
    told = site.daemon.json("explain", f"http://shared.test:{port}/")
    [stage] = told["stages"]
    assert stage["words"] == (
        f"a token in authorization by {ISSUER} for shop: others get 401; it says X-User"
    )
    shown = str(site.daemon.json("show", "policy/api")) + str(told)
    log = site.daemon.access_log.read_text() + site.daemon.log()
    for secret in (token, token.rpartition(".")[2], "somebody-secret"):
        assert secret not in shown + log
    # It is asked for behind networks, before anything is told of tokens.
    assert site.get("denied").status == 403
