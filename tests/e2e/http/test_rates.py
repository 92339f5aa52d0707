"""How often who may ask: 429, whose requests are counted together, and what outlives a commit.

A rate of few requests an hour gives nothing back while a test runs, so that no measurement decides.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ports, rawclient, wire
from tests.harness.daemon import Kakehi
from tests.harness.h2client import H2Client
from tests.harness.rawbackend import RawBackend
from tests.harness.repo import Repo

HOURLY = {"requests": 3, "per": "1h"}
FRONTENDS: dict[str, dict[str, Any]] = {
    "own": {"rate_limit": HOURLY},
    "burst": {"rate_limit": {**HOURLY, "burst": 1}},
    "shared-a": {"policies": ["shared"]},
    "shared-b": {"policies": ["shared"]},
    "whole": {"rate_limit": {**HOURLY, "by": "frontend"}},
    "key": {"rate_limit": {**HOURLY, "by": {"header": "x-api-key"}}},
    "cookie": {"rate_limit": {**HOURLY, "by": {"cookie": "sid"}}},
    "both": {"rate_limit": {"requests": 2, "per": "1h"}, "policies": ["shared-by-both"]},
    "tried": {"rate_limit": {"requests": 1, "per": "1h", "dry_run": True}},
    "quick": {"rate_limit": {"requests": 1, "per": "1s"}},
    "denied": {"rate_limit": {"requests": 1, "per": "1h"}, "deny": ["127.0.0.0/8"]},
    "kept": {"rate_limit": HOURLY},
    "several": {
        "rate_limit": [
            {"requests": 3, "per": "1h", "status": 503},
            {"requests": 2, "per": "2h", "by": {"header": "x-api-key"}, "name": "per-key"},
        ]
    },
    "grown": {"rate_limit": [{**HOURLY, "name": "first"}, {"requests": 9, "per": "1h"}]},
    "shown": {"rate_limit": HOURLY},
    "shown-cookie": {"rate_limit": {**HOURLY, "by": {"cookie": "sid"}}},
    "far": {},
    "lifted": {"policies": ["lifting"]},
    "counted-a": {"policies": ["counted"]},
    "counted-b": {"policies": ["counted"]},
    "counted-dry": {"policies": ["counted-dry"]},
    "combined": {"rate_limit": {**HOURLY, "by": [{"header": "x-api-key"}, "client_address"]}},
    "without": {"rate_limit": {**HOURLY, "by": [{"header": "x-api-key"}, {"cookie": "sid"}]}},
    "left": {"policies": ["left-too"], "rate_limit": {**HOURLY, "fields": "all"}},
    "left-here": {"rate_limit": {**HOURLY, "fields": "all"}},
    "untold": {"rate_limit": {"requests": 1, "per": "1h", "fields": "none"}},
    "wide": {"rate_limit": {**HOURLY, "ipv6_prefix": 48}},
    "narrow": {"rate_limit": {"requests": 1, "per": "1h", "ipv6_prefix": 128}},
}


class Rated:
    """One worker; `test_rates_of_a_host` has two."""

    def __init__(self, directory: Path) -> None:
        self.plain, self.told, self.far, self.lets, self.admin = (ports.address() for _ in range(5))
        self.behind = RawBackend(lambda exchange: exchange.send(wire.response(b"behind")))
        self.daemon = Kakehi(Repo(directory), workers=1)
        self.daemon.repo.commit({"kakehi.yaml": self.document()})
        self.daemon.start()

    def document(self) -> dict[str, Any]:
        return {
            "settings": {"admin": self.admin, "access_log": str(self.daemon.access_log)},
            "listeners": {
                "plain": {"address": self.plain, "h2c": True},
                "told": {"address": self.told, "h2c": True, "proxy_protocol": ["127.0.0.0/8"]},
                "far": {"address": self.far, "policies": ["far"]},
                "lets": {"address": self.lets, "policies": ["lets"]},
            },
            "policies": {
                "shared": {"rate_limit": HOURLY},
                "shared-by-both": {"rate_limit": HOURLY},
                "far": {"rate_limit": HOURLY},
                "lifting": {"rate_limit": HOURLY},
                "counted": {"rate_limit": HOURLY},
                "counted-dry": {"rate_limit": {"requests": 1, "per": "1h", "dry_run": True}},
                "left-too": {
                    "rate_limit": {"requests": 9, "per": "2h", "name": "day", "fields": "all"},
                    "response_headers": {"set": {"X-Own": "a"}},
                },
                "lets": {"rate_limit": {"requests": 1, "per": "1h"}, "overridable": True},
            },
            "clusters": {"c": {"backends": {"b": {"address": self.behind.address}}}},
            "frontends": {
                name: {
                    "listeners": ["far", "lets", "plain", "told"],
                    "hostname": f"{name}.test",
                    **({"cluster": "c"} if name == "left" else respond(name)),
                    **keys,
                }
                for name, keys in FRONTENDS.items()
            },
        }

    def counted(self, name: str, **labels: str) -> float:
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=15) as response:
            text = response.read().decode()
        families = text_string_to_metric_families(text)
        found = (sample for family in families for sample in family.samples)
        return sum(
            sample.value
            for sample in found
            if sample.name == f"kakehi_{name}" and labels.items() <= sample.labels.items()
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rated]:
    made = Rated(tmp_path_factory.mktemp("rates"))
    yield made
    made.daemon.stop()
    made.behind.stop()


def respond(body: str) -> dict[str, Any]:
    return {"respond": {"status": 200, "body": body}}


def ask(address: str, name: str, *fields: str, client: str = "") -> wire.Response:
    with rawclient.Connection(address) as connection:
        if client:
            family = "TCP6" if ":" in client else "TCP4"
            to = "::1" if ":" in client else "192.0.2.200"
            connection.send(f"PROXY {family} {client} {to} 56324 80\r\n".encode())
        return connection.get(f"{name}.test", "/", *fields)


def statuses(site: Rated, name: str, count: int, *fields: str) -> list[int]:
    return [ask(site.plain, name, *fields).status for _ in range(count)]


def test_whoever_asks_too_often_is_told_when_to_come_back(site: Rated) -> None:
    assert statuses(site, "own", 3) == [200] * 3
    refused = ask(site.plain, "own")
    assert refused.status == 429
    [after] = refused.all("retry-after")
    assert 1195 <= int(after) <= 1200, "one of three in an hour comes back in 20 minutes"
    assert refused.all("ratelimit-policy") == [b'"rate";q=3;w=3600']
    assert refused.all("ratelimit") == [b'"rate";r=0;t=' + after]
    [*_, entry] = site.daemon.wait_for_access(
        lambda each: each["outcome"] == "rate_limited" and each["frontend"] == "own", 1
    )
    assert entry["status"] == 429
    assert site.counted("rejected_429_total") >= 1


def test_the_same_over_http2_and_on_one_connection(site: Rated) -> None:
    with H2Client(site.told, before=b"PROXY TCP4 203.0.113.80 192.0.2.2 1 2\r\n") as client:
        streams = [client.get("own.test") for _ in range(5)]
        client.read_until(lambda: set(streams) <= client.ended)
        assert sorted(client.statuses[each] for each in streams) == [200, 200, 200, 429, 429]
        refused = [client.heads[each] for each in streams if client.statuses[each] == 429]
        assert all("retry-after" in each for each in refused)


def test_how_many_may_come_at_once(site: Rated) -> None:
    assert statuses(site, "burst", 2) == [200, 429]


def test_clients_are_counted_apart(site: Rated) -> None:
    for client in ("203.0.113.1", "203.0.113.2", "2001:db8:0:1::1"):
        found = [ask(site.told, "own", client=client).status for _ in range(4)]
        assert found == [200, 200, 200, 429], client


def test_a_network_of_ipv6_is_one_client(site: Rated) -> None:
    clients = [f"2001:db8:5::{number}" for number in range(1, 5)]
    found = [ask(site.told, "own", client=client).status for client in clients]
    assert found == [200, 200, 200, 429]
    assert ask(site.told, "own", client="2001:db8:5:1::1").status == 200


def test_of_how_many_bits_that_network_is_may_be_said(site: Rated) -> None:
    clients = [f"2001:db8:6:{number}::1" for number in range(1, 5)]
    found = [ask(site.told, "wide", client=client).status for client in clients]
    assert found == [200, 200, 200, 429]
    assert ask(site.told, "wide", client="2001:db8:7:1::1").status == 200
    for client in ("2001:db8:8::1", "2001:db8:8::2", "203.0.113.90"):
        assert ask(site.told, "narrow", client=client).status == 200
        assert ask(site.told, "narrow", client=client).status == 429
    shown = site.daemon.json("show", "limits")["limited"]
    who = {
        each["who"] for each in shown if "/wide/" in each["limit"] or "/narrow/" in each["limit"]
    }
    assert who == {"2001:db8:6::/48", "2001:db8:8::1", "2001:db8:8::2", "203.0.113.90"}


@pytest.mark.parametrize("name", ["left", "left-here"])
def test_clients_may_be_told_what_is_left(site: Rated, name: str) -> None:
    for number, left in enumerate((2, 1, 0), 1):
        answer = ask(site.plain, name)
        assert answer.status == 200
        [policy], [told] = answer.all("ratelimit-policy"), answer.all("ratelimit")
        theirs = re.fullmatch(rb'(?:"day";r=(\d);t=(\d+), )?"rate";r=(\d);t=(\d+)', told)
        assert theirs is not None, told
        assert int(theirs[3]) == left
        until = 1200 if left == 0 else number * 1200
        assert until - 5 <= int(theirs[4]) <= until
        if name == "left":
            assert policy == b'"day";q=9;w=7200, "rate";q=3;w=3600'
            assert int(theirs[1]) == 9 - number and answer.all("x-own") == [b"a"]
        else:
            assert policy == b'"rate";q=3;w=3600' and theirs[1] is None
    refused = ask(site.plain, name)
    assert (refused.status, refused.all("ratelimit-policy")) == (429, [b'"rate";q=3;w=3600'])
    assert refused.all("retry-after") and refused.all("ratelimit")[0].startswith(b'"rate";r=0;t=')


def test_clients_may_be_told_nothing_but_when_to_come_back(site: Rated) -> None:
    assert statuses(site, "untold", 1) == [200]
    refused = ask(site.plain, "untold")
    assert refused.status == 429 and refused.all("retry-after")
    assert refused.all("ratelimit") == refused.all("ratelimit-policy") == []


def test_the_rate_of_a_policy_is_one_for_all_who_name_it(site: Rated) -> None:
    assert statuses(site, "shared-a", 2) == [200, 200]
    assert statuses(site, "shared-b", 2) == [200, 429]
    assert statuses(site, "shared-a", 1) == [429]


def test_policies_count_whom_they_refuse(site: Rated) -> None:
    assert statuses(site, "counted-a", 5) == [200] * 3 + [429] * 2
    assert statuses(site, "counted-b", 1) == [429]
    assert statuses(site, "counted-dry", 3) == [200] * 3
    assert site.counted("policy_rate_limited_total", policy="counted") == 3
    assert site.counted("policy_dry_run_total", policy="counted-dry") == 2
    assert site.counted("policy_rate_limited_total", policy="counted-dry") == 0
    with urllib.request.urlopen(f"http://{site.admin}/metrics", timeout=15) as response:
        names = set(re.findall(r"^(kakehi_policy_\w+)\{", response.read().decode(), re.MULTILINE))
    kinds = ("rate_limited", "crowded", "dry_run")
    assert names == {f"kakehi_policy_{kind}_total" for kind in kinds}, "and nothing else"
    shown = {row["policy"]: row for row in site.daemon.json("show", "limits")["policies"]}
    nothing = {"rate_limited": 0, "crowded": 0, "dry_run": 0}
    assert shown["counted"] == {**nothing, "policy": "counted", "rate_limited": 3}
    assert shown["counted-dry"] == {**nothing, "policy": "counted-dry", "dry_run": 2}
    told = site.daemon.run_cli("show", "limits", check=True).stdout
    assert re.search(r"^counted +3 +0 +0$", told, re.MULTILINE), told
    # What it has counted goes with it.
    document = site.document()
    del document["frontends"]["counted-dry"], document["policies"]["counted-dry"]
    site.daemon.commit({"kakehi.yaml": document})
    assert site.counted("policy_dry_run_total") == 0
    assert site.counted("policy_rate_limited_total", policy="counted") == 3
    site.daemon.commit({"kakehi.yaml": site.document()})


def test_all_of_a_frontend_together(site: Rated) -> None:
    clients = [f"203.0.113.{number}" for number in range(10, 14)]
    found = [ask(site.told, "whole", client=client).status for client in clients]
    assert found == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("name", "field"), [("key", "X-Api-Key: {}"), ("cookie", "Cookie: a=b; sid={}")]
)
def test_by_what_a_request_has(site: Rated, name: str, field: str) -> None:
    for value in ("one", "two", ""):
        fields = [field.format(value)] if value else []
        assert statuses(site, name, 4, *fields) == [200, 200, 200, 429], value


def test_every_rate_has_to_be_kept(site: Rated) -> None:
    assert statuses(site, "both", 3) == [200, 200, 429]
    found = [ask(site.far, "far").status for _ in range(4)]
    assert found == [200, 200, 200, 429]
    assert statuses(site, "far", 5) == [200] * 5, "there nobody counts"


def test_several_of_one_frontend_by_their_names(site: Rated) -> None:
    before = site.counted("rate_limited_total")
    first, second = "X-Api-Key: one", "X-Api-Key: two"
    assert statuses(site, "several", 3, first) == [200, 200, 429]
    [refused] = [ask(site.plain, "several", first)]
    assert refused.all("ratelimit-policy") == [b'"per-key";q=2;w=7200']
    # Those that were refused have used nothing of the other one up.
    assert statuses(site, "several", 2, second) == [200, 503]
    refused = ask(site.plain, "several", second)
    assert (refused.status, refused.all("ratelimit-policy")) == (503, [b'"rate";q=3;w=3600'])
    assert site.counted("rate_limited_total") == before + 4
    entries = site.daemon.wait_for_access(lambda each: each["frontend"] == "several", 7)
    assert [each["reason"] for each in entries] == [
        *[None] * 2,
        *["frontend/several/per-key"] * 2,
        None,
        *["frontend/several/client_address"] * 2,
    ]
    assert {each["outcome"] for each in entries} == {"ok", "responded", "rate_limited"} - {"ok"}


def test_what_is_used_up_is_kept_by_the_name_over_commits(site: Rated) -> None:
    assert statuses(site, "grown", 4) == [200] * 3 + [429]
    document = site.document()
    other = {"requests": 9, "per": "1h"}
    document["frontends"]["grown"]["rate_limit"] = [
        other,
        {"requests": 4, "per": "1h", "name": "first"},
    ]
    site.daemon.commit({"kakehi.yaml": document})
    # One more in an hour, of which a quarter has still to be waited for.
    assert statuses(site, "grown", 1) == [429]
    document["frontends"]["grown"]["rate_limit"] = [other, {**HOURLY, "name": "new"}]
    site.daemon.commit({"kakehi.yaml": document})
    assert statuses(site, "grown", 4) == [200] * 3 + [429]
    site.daemon.commit({"kakehi.yaml": site.document()})


def test_a_listener_lets_frontends_ask_for_more(site: Rated) -> None:
    assert [ask(site.lets, "far").status for _ in range(2)] == [200, 429]
    assert [ask(site.lets, "lifted").status for _ in range(4)] == [200, 200, 200, 429]
    port = site.lets.rpartition(":")[2]
    [stage, _] = site.daemon.json("explain", f"http://lifted.test:{port}/")["stages"]
    assert (stage["key"], stage["by"]["name"]) == ("rate_limit", "lifting")


def test_what_is_only_tried_is_counted(site: Rated) -> None:
    before = site.counted("rate_limit_dry_run_total")
    assert statuses(site, "tried", 4) == [200] * 4
    assert site.counted("rate_limit_dry_run_total") == before + 3


def test_who_is_refused_before_uses_nothing_up(site: Rated) -> None:
    assert statuses(site, "denied", 3) == [403] * 3
    assert [ask(site.told, "denied", client="203.0.113.40").status for _ in range(2)] == [200, 429]


def test_what_is_used_up_comes_back(site: Rated) -> None:
    deadline = time.monotonic() + 20
    assert ask(site.plain, "quick").status == 200
    refused = 0
    while ask(site.plain, "quick").status == 429:
        refused += 1
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert refused > 0


def test_several_together_are_one_count_for_each_combination(site: Rated) -> None:
    one, other = "203.0.113.120", "203.0.113.121"

    def found(client: str, *fields: str) -> list[int]:
        return [ask(site.told, "combined", *fields, client=client).status for _ in range(4)]

    limited = [200, 200, 200, 429]
    assert found(one, "X-Api-Key: a") == limited
    assert found(one, "X-Api-Key: b") == limited
    assert found(other, "X-Api-Key: a") == limited
    assert found(other) == limited
    # Over HTTP/2 they are the same.
    with H2Client(site.told, before=f"PROXY TCP4 {one} 192.0.2.2 1 2\r\n".encode()) as client:
        streams = [client.get("combined.test", ("x-api-key", key)) for key in ("a", "c")]
        client.read_until(lambda: set(streams) <= client.ended)
        assert [client.statuses[each] for each in streams] == [429, 200]
    rows = site.daemon.json("show", "limits")["limited"]
    name = "frontend/combined/client_address,header:x-api-key"
    who = [row["who"] for row in rows if row["limit"] == name]
    assert len(who) == 4 and all(
        re.fullmatch(r"203.0.113.12[01],hash:[0-9a-f]{8}", it) for it in who
    )
    site.daemon.run_cli("forgive", name, "--who", who[0], check=True)
    rows = site.daemon.json("show", "limits")["limited"]
    assert {row["who"] for row in rows if row["limit"] == name} == {*who[1:]}


def test_who_has_none_of_several_is_counted_with_others_alike(site: Rated) -> None:
    assert statuses(site, "without", 4) == [200, 200, 200, 429]
    assert statuses(site, "without", 4, "Cookie: sid=a") == [200, 200, 200, 429]
    assert statuses(site, "without", 1, "Cookie: sid=a", "X-Api-Key: b") == [200]


def test_a_commit_gives_nobody_anything_back(site: Rated) -> None:
    assert statuses(site, "kept", 3) == [200] * 3
    document = site.document()
    document["frontends"]["kept"]["response_headers"] = {"set": {"X-New": "1"}}
    site.daemon.commit({"kakehi.yaml": document})
    refused = ask(site.plain, "kept")
    assert (refused.status, refused.all("x-new")) == (429, [b"1"])
    del document["frontends"]["kept"]["rate_limit"]
    site.daemon.commit({"kakehi.yaml": document})
    assert ask(site.plain, "kept").status == 200
    site.daemon.commit({"kakehi.yaml": site.document()})


def test_who_is_limited_is_shown_and_may_be_forgiven(site: Rated) -> None:
    secret = "Cookie: sid=very-secret"
    assert statuses(site, "shown", 4) == [200] * 3 + [429]
    assert statuses(site, "shown", 1) == [429]
    assert statuses(site, "shown-cookie", 4, secret) == [200] * 3 + [429]
    for client in ("203.0.113.99", "2001:db8:99::1"):
        assert [ask(site.told, "shown", client=client).status for _ in range(4)][-1] == 429
    rows = site.daemon.json("show", "limits")["limited"]
    shown = {(row["limit"], row["who"]): row for row in rows}
    limit, by_cookie = "frontend/shown/client_address", "frontend/shown-cookie/cookie:sid"
    mine = shown[limit, "127.0.0.1"]
    assert mine["refused"] == 2
    assert 1_100_000 < mine["wait_ms"] <= 1_200_000
    assert {who for name, who in shown if name == limit} == {
        "127.0.0.1",
        "203.0.113.99",
        "2001:db8:99::/64",
    }
    [hashed] = [who for name, who in shown if name == by_cookie]
    assert hashed.startswith("hash:")
    assert "secret" not in str(rows)
    told = site.daemon.run_cli("show", "limits", check=True).stdout
    assert limit in told
    assert "203.0.113.99" in told

    done = site.daemon.run_cli("forgive", limit, "--who", "127.0.0.1", check=True)
    assert done.stdout == f"{limit}: 127.0.0.1 may ask again\n"
    assert statuses(site, "shown", 4) == [200] * 3 + [429]
    assert ask(site.told, "shown", client="203.0.113.99").status == 429, "nobody else"
    done = site.daemon.run_cli("forgive", by_cookie, check=True)
    assert statuses(site, "shown-cookie", 1, secret) == [200]
    # All: those too who were refused by nobody yet.
    assert statuses(site, "shown-cookie", 2, secret) == [200] * 2
    site.daemon.run_cli("forgive", "--all", check=True)
    assert statuses(site, "shown-cookie", 4, secret) == [200] * 3 + [429]
    assert site.daemon.run_cli("forgive", "--who", "nobody").stdout.startswith("nobody")
    for line in ([], ["--all", "--who", "x"]):
        assert site.daemon.run_cli("forgive", *line).returncode == 64


def test_what_no_limit_is_called_is_said_with_what_there_is(site: Rated) -> None:
    def told(name: str) -> str:
        done = site.daemon.run_cli("forgive", name)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    assert 'no rate limit that runs is called "frontend/shown-cookie"' in told(
        "frontend/shown-cookie"
    )
    assert "frontend/shown-cookie/cookie:sid" in told("frontend/shown-cookie")
    assert 'did you mean "frontend/shown/client_address"?' in told("frontend/shown/client_addres")
    assert "there are: " in told("nope")


def test_a_limit_that_runs_no_more_limits_nobody(site: Rated) -> None:
    def limits() -> set[str]:
        rows = site.daemon.json("show", "limits")["limited"]
        return {row["limit"] for row in rows if "/gone" in row["limit"]}

    rate = {"rate_limit": {"requests": 1, "per": "1h"}}
    names = ("gone-rate", "gone-frontend", "gone-policy", "gone-use", "gone-name")
    document = site.document()
    for name in names:
        document["frontends"][name] = {**document["frontends"]["shown"], "hostname": f"{name}.test"}
        document["frontends"][name] |= rate
    for name in ("gone-policy", "gone-use"):
        document["policies"][name] = rate
        del document["frontends"][name]["rate_limit"]
        document["frontends"][name]["policies"] = [name]
    site.daemon.commit({"kakehi.yaml": document})
    for name in names:
        assert statuses(site, name, 2) == [200, 429]
    before = limits()
    assert before == {
        "frontend/gone-rate/client_address",
        "frontend/gone-frontend/client_address",
        "frontend/gone-name/client_address",
        "policy/gone-policy/client_address",
        "policy/gone-use/client_address",
    }
    del document["frontends"]["gone-rate"]["rate_limit"]
    del document["frontends"]["gone-frontend"]
    del document["frontends"]["gone-policy"]["policies"], document["policies"]["gone-policy"]
    del document["frontends"]["gone-use"]["policies"]
    document["frontends"]["gone-name"] = {
        **document["frontends"]["gone-name"],
        "rate_limit": {"requests": 1, "per": "1h", "name": "other"},
    }
    site.daemon.commit({"kakehi.yaml": document})
    assert limits() == set()
    for name in before:
        assert site.daemon.run_cli("forgive", name).returncode == 1
    site.daemon.commit({"kakehi.yaml": site.document()})


def test_explain_tells_the_rate_and_whose_it_is(site: Rated) -> None:
    port = site.plain.rpartition(":")[2]
    [stage, _] = site.daemon.json("explain", f"http://shared-a.test:{port}/")["stages"]
    assert stage["words"] == ("3 requests in 1h, 3 at once, for each client address; more get 429")
    assert (stage["key"], stage["by"]["name"]) == ("rate_limit", "shared")
    refused = "; more get"
    stages = site.daemon.json("explain", f"http://several.test:{port}/")["stages"]
    assert [stage["words"] for stage in stages[:2]] == [
        f"client_address: 3 requests in 1h, 3 at once, for each client address{refused} 503",
        f"per-key: 2 requests in 2h, 2 at once, for each header x-api-key{refused} 429",
    ]
