"""What frontends have done with requests and answers: redirects, answers, rewrites, headers."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ports, processes, rawclient, wire
from tests.harness.h2backend import H2Backend, Request
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend, answer
from tests.harness.tlssite import TlsSite

EDITS: dict[str, Any] = {
    "set": {"X-Frame-Options": "DENY", "X-Path": "{path}", "X-Id": "{request_id}"},
    "add": {"Vary": "X-A"},
    "remove": ["server"],
}
ASKED = {
    "set": {
        "X-Real-IP": "{client_address}",
        "X-Was": "{scheme}://{hostname}{path}?{query}",
        "X-From": "{listener}/{frontend}/{tls_version}",
        "X-Copied": "{header:x-given}{cookie:sid}",
        "X-User": "{header:x-nobody}",
    },
    "add": {"X-Given": "by us"},
    "remove": ["X-Secret"],
}


def _answer_as_theirs(request: Request) -> None:
    request.head(200, ("server", "theirs"), ("x-frame-options", "ALLOW"), ends=True)


class PolicySite(TlsSite):
    """One host for each thing that is done; what reaches a backend is remembered."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        own = [("Server", "theirs"), ("x-frame-options", "ALLOW"), ("X-Other", "kept")]
        self.raw = RawBackend(answer(wire.response(b"x", fields=own)))
        self.multiplexed = H2Backend(_answer_as_theirs)
        self.h2c, self.behind, self.admin = ports.address(), ports.address(), ports.address()
        hosts = [f"{name}.test" for name in self.ends()]
        files = self.files(
            {"all": self.leaf(*hosts)},
            clusters={"raw": [self.raw.address], "h2": [self.multiplexed.address]},
            frontends={},
        )
        document: Any = files["kakehi.yaml"]
        document["clusters"]["h2"]["protocol"] = "h2"
        document["settings"]["admin"] = self.admin
        document["listeners"] |= {
            "behind": {"address": self.behind, "trusted_proxies": ["127.0.0.0/8"]},
            "h2c": {"address": self.h2c, "h2c": True},
        }
        document["listeners"]["main"]["error_pages"] = {"410": {"body": "gone for good"}}
        document["frontends"] = {
            name: {"hostname": f"{name}.test", "listeners": ["behind", "h2c", "main", "secure"]}
            | end
            for name, end in self.ends().items()
        }
        files["page.html"] = "<h1>Soon</h1>"
        self.start(files)

    @staticmethod
    def ends() -> dict[str, dict[str, Any]]:
        to_raw: dict[str, Any] = {"cluster": "raw"}
        return {
            "away": {"redirect": {"scheme": "https", "hostname": "b.test", "status": 301}},
            "moved": {
                "path": {"prefix": "/old"},
                "redirect": {"path": {"prefix": "/new"}, "query": "drop"},
            },
            "well": {
                "respond": {"body": "ok\n"},
                "response_headers": {
                    **EDITS,
                    "set": {**EDITS["set"], "Cache-Control": "max-age=60"},
                },
            },
            "gone": {"respond": {"status": 410}},
            "page": {"respond": {"file": "page.html", "content_type": "text/html", "status": 503}},
            "empty": {"respond": {"status": 204}},
            "closed": {"respond": {"close": True}},
            "strip": {
                **to_raw,
                "path": {"prefix": "/api"},
                "rewrite": {"path": {"prefix": "/"}, "hostname": "inside.test"},
            },
            "groups": {
                **to_raw,
                "path": {"regex": "/(?P<kind>[a-z]+)/([0-9]+)"},
                "rewrite": {"path": {"full": "/{2}/{kind}/{header:x-part}"}},
            },
            "asking": {
                **to_raw,
                "path": {"regex": "/user/([^/]+)"},
                "rewrite": {"path": {"full": "/users"}, "query": {"full": "id={1}&{query}"}},
            },
            "streams": {
                "cluster": "h2",
                "path": {"prefix": "/api"},
                "rewrite": {"path": {"prefix": "/new"}, "hostname": "inside.test"},
                "request_headers": ASKED,
                "response_headers": EDITS,
            },
            "edited": {**to_raw, "request_headers": ASKED, "response_headers": EDITS},
        }

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()
        self.multiplexed.stop()

    def get(self, name: str, path: str = "/", *fields: str, **options: Any) -> wire.Response:
        with rawclient.Connection(self.address) as client:
            return client.get(f"{name}.test", path, *fields, **options)

    def only(self) -> wire.Request:
        """What the backend was asked, which was asked once in this test."""
        [asked] = self.raw.requests
        return asked

    def requests_of(self, frontend: str) -> float:
        """How many requests a frontend has had, by the metrics."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=15) as response:
            text = response.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "kakehi_frontend_requests_total"
            and sample.labels["frontend"] == frontend
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicySite]:
    with PolicySite(tmp_path_factory.mktemp("policies")) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_asked_yet(site: PolicySite) -> None:
    site.raw.reset()


def test_a_redirect_leads_to_another_place(site: PolicySite) -> None:
    response = site.get("away", "/a?b=c")
    assert (response.status, response.get("location")) == (301, b"https://b.test/a?b=c")
    with rawclient.Connection(site.address) as client:
        response = client.get("moved.test:8080", "/old/x%20y?z")
        assert (response.status, response.get("location")) == (
            302,
            b"http://moved.test:8080/new/x%20y",
        )
        # The connection goes on, and what is not matched is not moved.
        assert client.get("moved.test", "/older").status == 404
    with site.connect("moved.test") as secure:
        assert secure.get("moved.test", "/old").get("location") == b"https://moved.test/new"
    with rawclient.Connection(site.behind) as client:
        response = client.get("moved.test", "/old", "X-Forwarded-Proto: https")
        assert response.get("location") == b"https://moved.test/new"


def test_an_answer_of_the_configuration(site: PolicySite) -> None:
    response = site.get("well", "/health")
    assert (response.status, response.body) == (200, b"ok\n")
    assert response.get("content-type") == b"text/plain; charset=utf-8"
    response = site.get("well", method="HEAD")
    assert (response.status, response.body, response.get("content-length")) == (200, b"", b"3")
    assert site.get("gone").body == b"gone for good", "the page of its listener"
    response = site.get("page")
    assert (response.status, response.body) == (503, b"<h1>Soon</h1>")
    response = site.get("empty")
    assert (response.status, response.body) == (204, b"")
    assert response.get("content-length") is None
    [*_, entry] = site.daemon.wait_for_access(lambda each: each["status"] == 204)
    assert (entry["frontend"], entry["cluster"], entry["outcome"]) == ("empty", None, "responded")


def test_answers_of_our_own_have_the_frontends_headers(site: PolicySite) -> None:
    with site.connect("well.test") as secure:
        answers = [site.get("well", "/p"), secure.get("well.test", "/p")]
    for response in answers:
        assert response.all("x-frame-options") == [b"DENY"]
        assert response.all("x-path") == [b"/p"]
        assert response.get("x-id") == response.get("x-request-id")
        assert response.all("cache-control") == [b"max-age=60"]
    with H2Client(site.h2c) as client:
        streams = client.get("well.test", path="/p"), client.get("empty.test")
        client.read_until(lambda: client.ended >= set(streams))
        well, empty = (client.heads[stream] for stream in streams)
    assert (well["x-frame-options"], well["x-path"]) == ("DENY", "/p")
    assert (well["cache-control"], well["content-length"]) == ("max-age=60", "3")
    assert empty[":status"] == "204"
    assert "content-length" not in empty


def test_a_connection_is_closed_without_a_word(site: PolicySite) -> None:
    with rawclient.Connection(site.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: closed.test\r\n\r\n")
        assert client.read_to_close() == b""
    with H2Client(site.h2c) as client:
        stream = client.get("closed.test")
        client.read_until(lambda: stream in client.reset)
        assert stream not in client.statuses
        # The connection lives on for others.
        other = client.get("well.test")
        client.read_until(lambda: other in client.ended)
        assert (client.statuses[other], client.bodies[other]) == (200, b"ok\n")
    [*_, entry] = site.daemon.wait_for_access(lambda each: each["outcome"] == "closed", 2)
    assert (entry["status"], entry["frontend"]) == (0, "closed")


def test_a_request_is_rewritten_on_its_way(site: PolicySite) -> None:
    assert site.get("strip", "/api/v1/x%2Fy?q=1").status == 200
    asked = site.only()
    assert (asked.path, asked.get("host")) == ("/v1/x%2Fy?q=1", b"inside.test")
    assert asked.get("x-forwarded-host") == b"strip.test"
    site.raw.reset()
    assert site.get("strip", "/api").status == 200
    assert site.only().path == "/"


def test_groups_of_the_path_and_no_path_that_is_none(site: PolicySite) -> None:
    assert site.get("groups", "/item/42?a", "X-Part: b/c d").status == 200
    assert site.only().path == "/42/item/b%2Fc%20d?a"
    site.raw.reset()
    response = site.get("groups", "/item/42", "X-Part: ../x")
    assert response.status == 400
    assert site.raw.requests == [], "it went nowhere"
    [*_, entry] = site.daemon.wait_for_access(lambda each: each["outcome"] == "rewrite_refused")
    assert entry["frontend"] == "groups"


def test_a_query_is_made_of_what_was_asked_for(site: PolicySite) -> None:
    assert site.get("asking", "/user/a&b=c?x=1&y").status == 200
    assert site.only().path == "/users?id=a%26b%3Dc&x=1&y"
    site.raw.reset()
    with H2Client(site.h2c) as client:
        stream = client.get("asking.test", path="/user/42")
        client.read_until(lambda: stream in client.ended)
    assert site.only().path == "/users?id=42&"


@pytest.mark.parametrize("over", ["http", "https", "h2c"])
def test_headers_are_edited_both_ways(site: PolicySite, over: str) -> None:
    fields = ["X-Given: one", "X-Real-IP: 6.6.6.6", "x-secret: s", "X_User: root", "Cookie: sid=7"]
    if over == "h2c":
        with H2Client(site.h2c) as client:
            pairs = [tuple(each.lower().split(": ", 1)) for each in fields]
            stream = client.get("edited.test", *((name, value) for name, value in pairs))
            client.read_until(lambda: stream in client.ended)
            head = client.heads[stream]
        assert head["x-frame-options"] == "DENY"
        assert "server" not in head
    else:
        with contextlib.ExitStack() as stack:
            client = (
                stack.enter_context(site.connect("edited.test"))
                if over == "https"
                else stack.enter_context(rawclient.Connection(site.address))
            )
            response = client.get("edited.test", "/", *fields)
        assert response.all("x-frame-options") == [b"DENY"]
        assert response.all("server") == []
        assert response.get("x-other") == b"kept"
        assert response.all("vary") == [b"X-A"]
    asked = site.only()
    listener = {"http": "main", "https": "secure", "h2c": "h2c"}[over]
    version = "TLSv1.3" if over == "https" else ""
    scheme = "https" if over == "https" else "http"
    assert asked.all("x-real-ip") == [b"127.0.0.1"]
    assert asked.all("x-was") == [f"{scheme}://edited.test/?".encode()]
    assert asked.all("x-from") == [f"{listener}/edited/{version}".encode()]
    assert asked.all("x-copied") == [b"one7"]
    assert asked.all("x-given") == [b"one", b"by us"]
    assert asked.all("x-secret") == []
    # Nobody is root by saying so, in a spelling that some read as the same either.
    assert asked.all("x-user") + asked.all("x_user") == []


@pytest.mark.parametrize("over", ["http", "h2c"])
def test_streams_to_backends_are_changed_alike(site: PolicySite, over: str) -> None:
    if over == "h2c":
        with H2Client(site.h2c) as client:
            stream = client.get("streams.test", ("x_user", "root"), path="/api/x?q")
            client.read_until(lambda: stream in client.ended)
            head = client.heads[stream]
        assert (head["x-frame-options"], head["x-path"]) == ("DENY", "/api/x")
        assert "server" not in head
    else:
        response = site.get("streams", "/api/x?q", "X_User: root")
        assert response.all("x-frame-options") == [b"DENY"]
        assert response.all("server") == []
    asked = site.multiplexed.seen[-1]
    assert (asked.path, asked.get(":authority")) == ("/new/x?q", "inside.test")
    assert asked.get("x-real-ip") == "127.0.0.1"
    assert asked.get("x-forwarded-host") == "streams.test"
    assert asked.get("x_user") is None


def test_the_client_is_who_a_trusted_proxy_says(site: PolicySite) -> None:
    with rawclient.Connection(site.behind) as client:
        client.get("edited.test", "/", "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 127.0.0.9")
    assert site.only().all("x-real-ip") == [b"203.0.113.7"]


def test_no_value_of_a_client_begins_a_line(site: PolicySite) -> None:
    response = site.get("edited", "/%0d%0aX-Evil:%201", "X-Given: a\tb\x80")
    assert response.get("x-path") == b"/%0D%0AX-Evil:%201"
    assert site.only().get("x-evil") is None
    assert site.only().get("x-copied") == b"a\tb\x80"


def test_frontends_without_a_cluster_are_frontends(site: PolicySite) -> None:
    """In metrics, `show`, `explain`, plans, and when they come to one and leave it again."""
    before = site.requests_of("well")
    site.get("well")
    processes.wait_until(lambda: site.requests_of("well") == before + 1, "it is counted", 15)
    shown = site.daemon.run_cli("show", "frontend/well", "--json", check=True).stdout
    [entity] = json.loads(shown)["entities"]
    assert entity["value"]["cluster"] is None
    port = site.address.rpartition(":")[2]
    for name, words in (
        ("away", "it is sent to https://b.test/: 301"),
        ("well", "it is answered here with 3 bytes: 200"),
        ("closed", "the connection is closed without an answer"),
    ):
        told = site.daemon.run_cli("explain", f"http://{name}.test:{port}/", "--json", check=True)
        said = json.loads(told.stdout)
        assert said["frontend"]["name"] == name
        assert words in said["message"]
        assert said["cluster"] is None
    told = site.daemon.run_cli("explain", f"http://strip.test:{port}/api", "--json", check=True)
    said = json.loads(told.stdout)
    assert said["cluster"]["name"] == "raw"
    assert [stage["key"] for stage in said["stages"]] == ["rewrite"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("away", "/a?b=c"),
        ("moved", "/old/x%20y?z"),
        ("strip", "/api/x?y"),
        ("groups", "/ab/12"),
        ("asking", "/user/a%2Fb?x=1"),
        ("edited", "/e?q"),
    ],
)
def test_what_is_explained_is_what_clients_and_backends_get(
    site: PolicySite, name: str, path: str
) -> None:
    fields = {"X-Part": "a b", "X-Given": "given", "Cookie": "sid=1"}
    host = f"{name}.test:{site.address.rpartition(':')[2]}"
    with rawclient.Connection(site.address) as client:
        response = client.get(host, path, *(f"{key}: {text}" for key, text in fields.items()))
    shown = [each for key, text in fields.items() for each in ("-H", f"{key}: {text}")]
    said = site.daemon.json(
        "explain", f"http://{host}{path}", "--client-address", "127.0.0.1", *shown
    )
    words = {stage["key"]: stage["words"] for stage in said["stages"]}
    assert all(stage["source"] for stage in said["stages"])
    location = response.get("location")
    if location is not None:
        assert words["redirect"] == f"it is sent to {location.decode()}: {response.status}"
        return
    asked = site.only()
    if "rewrite" in words:
        assert words["rewrite"].endswith(f"at {asked.target.decode()}")
    for line in words.get("request_headers", "").partition(";")[0].removeprefix("set ").split(", "):
        key, colon, value = line.partition(": ")
        assert not colon or asked.get(key.lower()) == value.encode()
