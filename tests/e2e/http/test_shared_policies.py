"""What frontends and listeners share by name: merged as the model says, changed for exactly those.

The configuration is made by chance from a seed; what each client and backend sees is compared with
a model that has none of our code (`tests/property/merging.py`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import ports, rawclient, wire
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import Exchange, RawBackend, answer
from tests.harness.tlssite import TlsSite
from tests.property import merging
from tests.property.merging import Raw

SEED = 20
COUNT = 24
NAMES = ["X-A", "X-B", "X-C"]
THEIRS = [(name, "theirs") for name in NAMES]
FAR = ["f0", "f1"]
NEAR = [f"n{number}" for number in range(6)]
LISTENERS = {"main": [], "h2c": FAR, "secure": FAR}


class Made:
    """A configuration by chance, without contradictions."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.policies = {name: self._says() for name in (*FAR, *NEAR)}
        while merging.is_contradictory([self.policies[name] for name in FAR]):
            self.policies[FAR[1]] = self._says()
        self.frontends: dict[str, Raw] = {}
        for number in range(COUNT):
            self.frontends[f"w{number}"] = self._frontend()

    def says(self, name: str) -> Raw:
        """What a policy says instead, so that no list is in contradiction."""
        while True:
            new = self._says()
            if new != self.policies[name] and self._agrees({**self.policies, name: new}):
                return new

    def far(self, listener: str) -> list[Raw]:
        return [self.policies[name] for name in LISTENERS[listener]]

    def near(self, frontend: Raw) -> list[Raw]:
        return [self.policies[name] for name in frontend["policies"]]

    def _agrees(self, policies: dict[str, Raw]) -> bool:
        lists = [each["policies"] for each in self.frontends.values()]
        return not any(
            merging.is_contradictory([policies[name] for name in names]) for names in (FAR, *lists)
        )

    def _frontend(self) -> Raw:
        own = self._says() if self._random.random() < 0.5 else {}
        while True:
            names = sorted(self._random.sample(NEAR, self._random.randrange(3)))
            if not merging.is_contradictory([self.policies[name] for name in names]):
                return {**own, "policies": names}

    def _says(self) -> Raw:
        said: Raw = {key: self._edits() for key in ("request_headers", "response_headers")}
        hsts = self._random.choice([..., ..., None, {"max_age_days": self._random.randrange(1, 4)}])
        return said if hsts is ... else {**said, "hsts": hsts}

    def _edits(self) -> Raw:
        edits: Raw = {"set": {}, "add": {}, "remove": []}
        for name in NAMES:
            verb = self._random.choice(["", "", "set", "add", "remove", "null"])
            if verb == "remove":
                edits["remove"].append(name.lower())
            elif verb == "null":
                edits["set"][name] = None
            elif verb:
                edits[verb][name] = self._random.choice(["a", "b"])
        return edits


class SharingSite(TlsSite):
    """Frontends by chance, on a listener without policies and on two that have some."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.made = Made(SEED)
        self.raw = RawBackend(answer(wire.response(b"x", fields=THEIRS)))
        self.h2c = ports.address()
        hosts = [f"{name}.test" for name in self.made.frontends]
        self.contents = self.files(
            {"all": self.leaf(*hosts, "plain.test")},
            clusters={"raw": [self.raw.address]},
            frontends={},
        )
        self.document: Any = self.contents["kakehi.yaml"]
        self.document["listeners"]["h2c"] = {"address": self.h2c, "h2c": True}
        for name, policies in LISTENERS.items():
            self.document["listeners"][name]["policies"] = policies
        self.document["listeners"]["h2c"]["error_pages"] = {"404": {"body": "the listener's"}}
        on = {"listeners": sorted(LISTENERS), "cluster": "raw"}
        self.document["frontends"] = {
            name: {**on, "hostname": f"{name}.test", **keys}
            for name, keys in self.made.frontends.items()
        }
        # It says nothing itself.
        self.document["frontends"]["plain"] = {**on, "hostname": "plain.test"}
        self.made.frontends["plain"] = {"policies": []}
        self.document["policies"] = self.made.policies
        self.start(self.contents)

    def __exit__(self, kind: object, *rest: object) -> None:
        super().__exit__(kind, *rest)
        self.raw.stop()

    def ask(self, name: str, listener: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """The lines that client and backend get, by header."""
        self.raw.reset()
        host, fields = f"{name}.test", [f"{each}: client" for each in NAMES]
        wanted = [*NAMES, "Strict-Transport-Security"]
        if listener == "h2c":
            with H2Client(self.h2c) as client:
                pairs = [(each.lower(), "client") for each in NAMES]
                stream = client.get(host, *pairs)
                client.read_until(lambda: stream in client.ended)
                pairs = client.lines[stream]
            got = {each: [v for n, v in pairs if n == each.lower()] for each in wanted}
        else:
            made = self.connect(host) if listener == "secure" else None
            with made or rawclient.Connection(self.address) as connection:
                response = connection.get(host, "/", *fields)
            got = {each: [text.decode() for text in response.all(each)] for each in wanted}
        [asked] = self.raw.requests
        return got, {each: [text.decode() for text in asked.all(each)] for each in NAMES}

    def expect(self, name: str, listener: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        frontend = self.made.frontends[name]
        levels = frontend, self.made.near(frontend), self.made.far(listener)
        got = lines(merging.edits("response_headers", *levels), "theirs")
        days = merging.hsts(*levels) if listener == "secure" else None
        seconds = [] if days is None else [f"max-age={days * 24 * 3600}"]
        asked = lines(merging.edits("request_headers", *levels), "client")
        return {**got, "Strict-Transport-Security": seconds}, asked


def lines(edits: dict[str, tuple[str, str]], there: str) -> dict[str, list[str]]:
    found = {}
    for name in NAMES:
        verb, text = edits.get(name.lower(), ("", ""))
        found[name] = {"": [there], "set": [text], "add": [there, text], "remove": []}[verb]
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharingSite]:
    with SharingSite(tmp_path_factory.mktemp("sharing")) as made:
        yield made


@pytest.mark.parametrize("listener", LISTENERS)
def test_every_frontend_is_served_as_the_model_says(site: SharingSite, listener: str) -> None:
    for name in site.made.frontends:
        assert site.ask(name, listener) == site.expect(name, listener), name


def test_a_change_of_a_policy_is_one_generation_for_all(site: SharingSite) -> None:
    for name in (*NEAR[:2], FAR[0]):
        generation, _ = site.running()
        site.made.policies[name] = site.made.says(name)
        site.commit(site.contents)
        assert site.running()[0] == generation + 1
        for frontend in site.made.frontends:
            for listener in LISTENERS:
                told = site.ask(frontend, listener)
                assert told == site.expect(frontend, listener), (name, frontend, listener)


def test_a_request_ends_by_the_policies_that_it_began_with(site: SharingSite) -> None:
    def answers_late(exchange: Exchange) -> None:
        exchange.wait_for_go()
        site.raw.default(exchange)

    site.raw.reset()
    site.raw.script = answers_late
    before = site.expect("plain", "secure")[0]
    with site.connect("plain.test") as client:
        client.send(b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n")
        site.raw.wait_for_requests(1)
        said = site.made.policies[FAR[0]]
        site.made.policies[FAR[0]] = {"response_headers": {"set": {"X-Late": "x"}}}
        site.commit(site.contents)
        site.raw.go.set()
        response = client.read_response()
        assert {name: [each.decode() for each in response.all(name)] for name in before} == before
        assert response.all("x-late") == []
        # The next one on the same connection is of the new generation.
        assert client.get("plain.test").all("x-late") == [b"x"]
    site.made.policies[FAR[0]] = said
    site.raw.reset()
    site.commit(site.contents)


def test_a_plan_names_those_for_whom_a_policy_counts(site: SharingSite) -> None:
    name = NEAR[2]
    before = site.made.policies[name]
    site.document["policies"][name] = site.made.says(name)
    site.repo.write(site.contents)
    plan = site.daemon.json("plan", str(site.repo.directory))
    text = site.daemon.run_cli("plan", str(site.repo.directory), check=True).stdout
    site.document["policies"][name] = before
    site.repo.write(site.contents)
    [change] = plan["changes"]
    uses = [each for each, keys in site.made.frontends.items() if name in keys["policies"]]
    assert (change["kind"], change["name"]) == ("policy", name)
    assert change["frontends"] == sorted(uses)
    assert f"counts for {len(uses)} frontend" in text


def test_explain_names_the_policy_and_its_line(site: SharingSite) -> None:
    port = site.h2c.rpartition(":")[2]
    told = site.daemon.json("explain", f"http://plain.test:{port}/")
    by = [stage["by"] for stage in told["stages"] if stage["key"] == "response_headers"]
    assert {each["name"] for each in by} <= set(FAR)
    text = site.repo.show("HEAD", "kakehi.yaml").decode().splitlines()
    for each in by:
        assert "response_headers" in text[each["source"]["line"] - 1]
        assert each["source"]["file"] == "kakehi.yaml"
    merged = merging.edits("response_headers", {}, site.made.far("h2c"))
    words = "; ".join(
        stage["words"] for stage in told["stages"] if stage["key"] == "response_headers"
    )
    assert all(name in words.lower() for name in merged)


def test_what_no_frontend_takes_has_the_listeners_word(site: SharingSite) -> None:
    far = site.document["policies"]["f0"]
    far["error_pages"] = {"404": {"body": "a policy's"}, "421": {"body": "moved"}}
    far["response_headers"] = {"set": {"X-Far": "{listener} {path}"}}
    site.document["policies"]["f1"] = {}
    site.document["listeners"]["main"]["policies"] = ["f0"]
    site.document["frontends"]["own"] = {
        "hostname": "own.test",
        "listeners": ["main"],
        "respond": {"status": 404},
        "error_pages": {"404": {"body": "its own"}},
    }
    site.document["frontends"]["bare"] = {
        **site.document["frontends"]["own"],
        "hostname": "bare.test",
        "error_pages": {"404": None},
    }
    site.commit(site.contents)
    with rawclient.Connection(site.address) as client:
        response = client.get("nobody.test", "/p")
        assert (response.status, response.body) == (404, b"a policy's")
        assert response.all("x-far") == [b"main /p"]
        assert client.get("own.test").body == b"its own"
        bare = client.get("bare.test").body
    assert bare not in (b"its own", b"a policy's"), "the built-in page"
    with H2Client(site.h2c) as client:
        stream = client.get("nobody.test", path="/p")
        client.read_until(lambda: stream in client.ended)
        head = client.heads[stream]
        assert client.bodies[stream] == b"the listener's"
    assert head["x-far"] == "h2c /p"


def test_a_listener_switches_off_the_pages_behind_it(site: SharingSite) -> None:
    public = site.document["listeners"]["h2c"]
    site.document["policies"]["f0"]["error_pages"] = {"404": {"body": "a policy's"}}
    site.document["settings"] = {"error_pages": {"404": {"body": "the proxy's"}}}
    site.document["frontends"]["ends"] = {
        "hostname": "ends.test",
        "listeners": ["h2c", "main"],
        "respond": {"status": 404},
    }
    bodies = {}
    for said in ({"404": None}, {}):
        public["error_pages"] = said
        site.commit(site.contents)
        with H2Client(site.h2c) as client:
            for host in ("nobody.test", "ends.test"):
                stream = client.get(host)
                client.read_until(lambda stream=stream: stream in client.ended)
                bodies[host, bool(said)] = client.bodies[stream]
    for host in ("nobody.test", "ends.test"):
        assert bodies[host, False] == b"a policy's"
        assert b"404" in bodies[host, True], "the built-in page"
        assert bodies[host, True] != b"the proxy's"
    port = site.h2c.rpartition(":")[2]
    public["error_pages"] = {"404": None}
    site.commit(site.contents)
    told = site.daemon.json("explain", f"http://ends.test:{port}/")["stages"]
    [page] = [each["words"] for each in told if each["key"] == "error_pages"]
    assert page == '404 is switched off, whatever policy "f0" says'
    public["error_pages"] = {}
    site.commit(site.contents)


def test_a_contradiction_is_refused_and_nothing_changes(site: SharingSite) -> None:
    generation, _ = site.running()
    before = json.loads(json.dumps(site.document))
    site.document["policies"]["f1"] = {"response_headers": {"set": {"X-Far": "another"}}}
    sha = site.repo.commit(site.contents, "contradict")
    outcome = site.daemon.ask("wait", commit=sha, timeout_s=30)
    assert outcome["outcome"] == "refused", outcome
    assert 'policy "f0"' in json.dumps(outcome).replace("\\", "")
    assert site.running()[0] == generation
    site.document["policies"]["f1"] = before["policies"]["f1"]
    site.commit(site.contents)


def test_what_policies_do_not_say_stays_when_they_change(site: SharingSite) -> None:
    other = RawBackend(answer(wire.response(b"other")))
    site.document["clusters"]["other"] = {"backends": {"raw": {"address": other.address}}}
    site.document["policies"]["lane"] = {"response_headers": {"set": {"X-Lane": "first"}}}
    site.document["frontends"]["lane"] = {
        "hostnames": ["one.test", "two.test"],
        "listeners": ["h2c", "main"],
        "path": {"regex": "/shop/([a-z]+)", "ignore_case": True},
        "policies": ["lane"],
        "response_headers": {"set": {"X-Captured": "{1}"}},
        "split": {"other": 1, "raw": 1},
        "split_by": {"header": "X-User"},
    }
    site.commit(site.contents)

    def told() -> dict[tuple[str, int], bytes]:
        found = {}
        with rawclient.Connection(site.address) as client:
            for host in ("one.test", "two.test"):
                for user in range(8):
                    response = client.get(host, "/Shop/Cart", f"X-User: {user}")
                    assert response.all("x-captured") == [b"Cart"]
                    assert response.all("x-lane") == [lane]
                    found[host, user] = response.body
        return found

    lane = b"first"
    before = told()
    assert set(before.values()) == {b"x", b"other"}
    site.document["policies"]["lane"] = {"response_headers": {"set": {"X-Lane": "second"}}}
    site.commit(site.contents)
    lane = b"second"
    assert told() == before
    other.stop()
