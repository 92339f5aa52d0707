from typing import Any

import pytest
from pydantic import ValidationError

from schemas.kinds.frontend import Frontend
from tests.schemas.refusals import refusal

BASE: dict[str, Any] = {"cluster": "shop", "listeners": ["public-http"]}


def value_of(**fields: object) -> dict[str, Any]:
    return Frontend.model_validate(BASE | fields).in_full()


def test_the_full_value_has_every_default() -> None:
    assert value_of() == {
        "allow": None,
        "basic_auth": None,
        "client_addresses": None,
        "client_certificate": None,
        "cluster": "shop",
        "compression": "inherit",
        "concurrency": None,
        "cookies": {},
        "cors": "inherit",
        "deny": None,
        "early_data": False,
        "error_pages": {},
        "forward_auth": None,
        "headers": {},
        "hostname": "*",
        "hostnames": None,
        "hsts": "inherit",
        "intercept": "inherit",
        "jwt": None,
        "limits": {"body_bytes": None},
        "listeners": ["public-http"],
        "methods": [],
        "mirror": None,
        "passthrough": False,
        "path": {"prefix": "/"},
        "policies": [],
        "query": {},
        "bandwidth": None,
        "rate_limit": None,
        "redirect": None,
        "request_headers": {"add": {}, "remove": [], "set": {}},
        "respond": None,
        "response_headers": {"add": {}, "remove": [], "set": {}},
        "rewrite": None,
        "set_cookie": {},
        "split": {},
        "split_by": None,
        "timeouts": {
            "request": "inherit",
            "request_body": "inherit",
            "response_body": "inherit",
            "response_head": "inherit",
            "tunnel": "inherit",
        },
        "upgrades": ["websocket"],
    }


def test_lists_are_sorted_and_unique() -> None:
    value = value_of(listeners=["b", "a", "b"], methods=["POST", "GET", "POST"])
    assert value["listeners"] == ["a", "b"]
    assert value["methods"] == ["GET", "POST"]


def test_header_names_are_lower_case_and_a_plain_text_is_exact() -> None:
    value = value_of(headers={"X-Tier": "gold", "x-v": {"regex": "[0-9]+"}}, query={"v": "2"})
    assert value["headers"] == {"x-tier": {"exact": "gold"}, "x-v": {"regex": "[0-9]+"}}
    assert value["query"] == {"v": {"exact": "2"}}


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ({"prefix": "/"}, {"prefix": "/"}),
        ({"prefix": "/api/"}, {"prefix": "/api"}),
        ({"exact": "/api/"}, {"exact": "/api/"}),
        ({"exact": "/caf%c3%a9"}, {"exact": "/caf%C3%A9"}),
        ({"regex": "/item/[0-9]+"}, {"regex": "/item/[0-9]+"}),
        ({"prefix": "/a", "exact": None}, {"prefix": "/a"}),
        ({"suffix": ".php"}, {"suffix": ".php"}),
        ({"suffix": "/%2fa", "ignore_case": False}, {"suffix": "/%2Fa"}),
        ({"regex": "/a", "ignore_case": True}, {"regex": "/a", "ignore_case": True}),
    ],
)
def test_paths(written: dict[str, Any], canonical: dict[str, str]) -> None:
    assert value_of(path=written)["path"] == canonical


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("path", "/api", "expected a map with one of prefix, exact, regex, suffix, not"),
        ("path", {}, 'expected exactly one of "prefix", "exact", "regex", "suffix", not none'),
        ("path", {"prefix": "/", "exact": "/"}, 'not "prefix" and "exact"'),
        ("path", {"prefix": "api"}, 'expected a path like "/api"'),
        ("path", {"prefix": "/a?b"}, "characters that no path has"),
        ("path", {"prefix": "/é"}, "characters that no path has"),
        ("path", {"prefix": "/%zz"}, "characters that no path has"),
        ("path", {"prefix": "/a//b"}, "not a normal path"),
        ("path", {"prefix": "/a/../b"}, "not a normal path"),
        ("path", {"prefix": "/%41"}, '"%41" needs no escape'),
        ("path", {"exact": "/%00"}, "is in no path"),
        ("path", {"prefix": "/api/*"}, 'a prefix ends without "*"'),
        ("path", {"exact": "/" + "a" * 2048}, "too long"),
        ("path", {"regex": "(?=a)"}, "look-ahead"),
        ("path", {"suffix": "*.php"}, 'a suffix begins without "*"'),
        ("path", {"suffix": ""}, 'expected the end of paths like ".php", not ""'),
        ("path", {"suffix": ".p?p"}, '".p?p" has characters that no path has'),
        ("path", {"suffix": "%41"}, '"%41" needs no escape'),
        ("path", {"exact": "/a", "ignore_case": True}, "exact paths are looked up as they are"),
        ("path", {"prefix": "/a", "ignore_case": "yes"}, 'expected true or false, not "yes"'),
        ("headers", {"X-A": "1", "x-a": "2"}, '"X-A" and "x-a" are the same header'),
        ("headers", {"Host": "x"}, "the Host header is not matched here"),
        ("headers", {"x-a": 5}, "expected text, not 5"),
        ("headers", {"x-a": " gold"}, "the text begins or ends with a space"),
        ("headers", {"x-a": "a\nb"}, "a control character"),
        ("headers", {f"x-{number}": "a" for number in range(17)}, "at most 16 may be"),
        ("query", {"v": "x" * 4097}, "too long"),
        ("query", {"": "x"}, "expected the name of a query parameter"),
        ("query", {"v": {"exact": "1", "regex": "2"}}, "expected exactly one of"),
        ("listeners", [], "the list is empty; it needs at least 1"),
        ("listeners", "public-http", "expected a list"),
        ("listeners", ["A"], '"A" is not a name'),
        ("methods", ["get"], '"get" is not upper case'),
        ("hostname", "a:80", "expected a hostname"),
        ("cluster", None, '"cluster" is missing'),
        ("headers", {"x-a": {"not": True}}, 'one of "exact", "regex", "present", not none'),
        ("headers", {"x-a": {"not": {"exact": "1"}}}, "expected true or false, not a map"),
        ("headers", {"x-a": {"present": True, "not": True}}, "present says both"),
        ("headers", {"x-a": {"present": "yes"}}, 'expected true or false, not "yes"'),
        ("cookies", {"a b": "1"}, "expected the name of a cookie"),
        ("cookies", {"a": "1;2"}, "where the value of a cookie ends"),
        ("cookies", {f"c{number}": "a" for number in range(17)}, "at most 16 may be"),
        ("client_addresses", ["10.0.0.1/8"], "is an address in a network"),
        ("client_addresses", [], "the list is empty"),
        ("client_addresses", "10.0.0.0/8", "expected a list"),
        ("hostnames", [], "the list is empty"),
        ("hostnames", ["a.test:80"], "expected a hostname"),
    ],
)
def test_what_is_refused(field: str, value: object, sentence: str) -> None:
    assert sentence in refusal("frontend", {**BASE, field: value})


def test_values_that_must_be_there_or_must_not() -> None:
    written = {"x-a": {"exact": "1", "not": True}, "x-b": {"present": False, "not": False}}
    value = value_of(headers=written, query={"q": {"present": True}}, cookies={"Beta": "1"})
    assert value["headers"] == {"x-a": {"exact": "1", "not": True}, "x-b": {"present": False}}
    assert (value["query"], value["cookies"]) == (
        {"q": {"present": True}},
        {"Beta": {"exact": "1"}},
    )


def test_shares_of_clusters() -> None:
    given = {"listeners": ["web"], "split": {"b": 5, "a": 95}, "split_by": {"header": "X-User"}}
    frontend = Frontend.model_validate(given)
    assert frontend.value()["split_by"] == {"header": "x-user"}
    assert (frontend.cluster, frontend.clusters) == (None, ["a", "b"])
    assert Frontend.of_value(frontend.value()) == frontend


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"cluster": "a", "split": {"b": 1}},
            "requests end in one place, not in cluster and split",
        ),
        ({"split": {}}, '"cluster" is missing'),
        ({"split": {"a": 0, "b": 0}}, "no cluster has a share"),
        ({"split": {"a": -1}}, "too small"),
        ({"split": {"A": 1}}, '"A" is not a name'),
        ({"split": {f"c{number}": 1 for number in range(17)}}, "at most 16 may be"),
        ({"split": ["a", "b"]}, "expected a map"),
        ({"split": {"a": 1}, "split_by": "lane"}, 'expected "client_address" or a map'),
        ({"split": {"a": 1}, "split_by": {"cookie": "a b"}}, "expected the name of a cookie"),
        ({"split": {"a": 1}, "split_by": {}}, 'exactly one of "cookie", "header", not none'),
        ({"cluster": "a", "split_by": "client_address"}, "nothing is split"),
        ({"split": {"a": 1}, "passthrough": True}, "passthrough: goes to one cluster"),
    ],
)
def test_shares_that_are_none(more: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal("frontend", {"listeners": ["web"], **more})


def test_a_hostname_or_several() -> None:
    several = Frontend.model_validate(BASE | {"hostnames": ["B.test", "a.test.", "b.test"]})
    assert several.names == ["a.test", "b.test"]
    assert list(Frontend.model_validate(BASE).names) == ["*"]
    with_any = Frontend.model_validate(BASE | {"hostnames": ["a.test", "*"]})
    assert with_any.names == ["*", "a.test"]
    assert Frontend.model_validate(BASE | {"hostnames": ["*"]}) == Frontend.model_validate(BASE)
    both = {**BASE, "hostname": "c.test", "hostnames": ["a.test"]}
    assert '"hostname" or "hostnames", not both' in refusal("frontend", both)


def test_protocols_that_may_be_switched_to() -> None:
    given = {"listeners": ["web"], "cluster": "shop", "upgrades": ["websocket", "TCP", "x/1"]}
    assert Frontend.model_validate(given).in_full()["upgrades"] == ["tcp", "websocket", "x/1"]
    assert Frontend.model_validate({**given, "upgrades": []}).in_full()["upgrades"] == []


@pytest.mark.parametrize("name", ["h2c", "H2", "HTTP/1.1", "tls/1.3", "a b", "", "a/", "a/1/2", 7])
def test_protocols_that_never_may(name: object) -> None:
    given = {"listeners": ["web"], "cluster": "shop", "upgrades": [name]}
    with pytest.raises(ValidationError, match=r"nobody has looked at|name of a protocol"):
        Frontend.model_validate(given)
