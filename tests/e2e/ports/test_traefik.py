"""What docs/porting/traefik.md says that Kakehi does with a configuration of Traefik.

Traefik itself is in no package of Debian, so that there is nothing to compare with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.e2e.ports.side_by_side import PORTING, Backends, Front, ported
from tests.harness import pki
from tests.harness.daemon import Kakehi

GROUPS = {
    9301: "web",
    9302: "web",
    9303: "api",
    9305: "api",
    9306: "shadow",
    9308: "beta",
    9310: "verify",
    9311: "files",
}
HOST = "example.net"
ADMIN = "Authorization: Basic YW5uOnNlY3JldA=="


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("traefik")
    authority = pki.make("Kakehi test authority", is_ca=True)
    pair = pki.make(HOST, f"*.{HOST}", issuer=authority)
    backends, made = Backends(GROUPS), Front(authority)
    daemon: Kakehi = ported("traefik", made, backends, pair, directory)
    daemon.start()
    yield made
    daemon.stop()
    backends.stop()


@pytest.mark.parametrize(
    ("path", "fields", "method", "group", "target"),
    [
        ("/", (), "GET", "web", "/"),
        ("/apis", (), "GET", "web", "/apis"),
        ("/api/items?a=b", (), "GET", "api", "/items?a=b"),
        ("/api", (), "POST", "api", "/"),
        ("/", ("X-Beta: 1",), "GET", "beta", "/"),
        ("/x?beta=1", (), "GET", "beta", "/x?beta=1"),
        ("/", ("Cookie: a=b; beta=1",), "GET", "beta", "/"),
        ("/api/x", ("X-Beta: 1",), "GET", "api", "/x"),
        ("/user/42/profile", (), "GET", "web", "/users?id=42"),
        ("/files/abcd0123", (ADMIN,), "GET", "files", "/files/abcd0123"),
        ("/files/short", (), "GET", "web", "/files/short"),
    ],
)
def test_where_a_request_goes(
    front: Front, path: str, fields: tuple[str, ...], method: str, group: str, target: str
) -> None:
    seen = front.ask(HOST, path, *fields, method=method)
    assert seen.asked is not None, seen
    assert (seen.asked["backend"], seen.asked["target"]) == (group, target)


def test_what_is_answered_here(front: Front) -> None:
    assert front.ask(HOST, "/api/x", method="DELETE").status == 404
    assert front.ask(f"www.{HOST}", "/a?b").location == f"https://{HOST}/a?b"
    plain = front.ask(HOST, "/a?b", secure=False)
    assert (plain.status, plain.location) == (301, f"https://{HOST}/a?b")
    # Nobody is signed in.
    assert front.ask(HOST, "/files/abcd0123").status == 401
    # Its rule is for another network, whatever its list lets in.
    assert front.ask(f"admin.{HOST}", "/").status == 404
    seen = front.ask(HOST, "/", "Origin: https://a.example")
    assert seen.headers["access-control-allow-origin"] == "https://a.example"
    assert seen.headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"


def test_who_signs_in_says_nothing_else_of_himself(front: Front) -> None:
    seen = front.ask(HOST, "/files/abcd0123", ADMIN, "X-User: root")
    assert seen.asked is not None
    assert seen.asked["headers"] == {
        "host": HOST,
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "https",
        "x-user": "ann",
    }


def test_a_prefix_that_is_left_out_is_told(front: Front) -> None:
    seen = front.ask(HOST, "/api/x", "X-Forwarded-Prefix: /evil")
    assert seen.asked is not None
    assert seen.asked["headers"]["x-forwarded-prefix"] == "/api"


def test_what_is_compressed(front: Front) -> None:
    for path, expected in [("/large", b"gzip"), ("/api/large", None)]:
        with front.connect(HOST) as client:
            got = client.get(HOST, path, "Accept-Encoding: gzip")
            assert (got.status, got.get("content-encoding")) == (200, expected)


def test_every_part_is_told_of() -> None:
    """The document names each that stands in the original, ported or not."""
    text = (PORTING / "traefik.original.yaml").read_text()
    document = (PORTING / "traefik.md").read_text()
    middlewares = re.search(r"  middlewares:\n(.*?)\n  services:", text, re.DOTALL)
    assert middlewares is not None
    parts = set(re.findall(r"^    [a-z]+: +\{(\w+):", middlewares[1], re.MULTILINE))
    parts |= set(re.findall(r"(\w+)\(`", text)) | set(re.findall(r"^(\w+):", text, re.MULTILINE))
    services = text[text.index("  services:") : text.index("  serversTransports:")]
    parts |= set(re.findall(r"^    [a-z-]+: +\{(\w+):", services, re.MULTILINE)) - {"http"}
    assert not {each for each in parts - {"http"} if f"`{each}" not in document}
