"""What becomes of a frontend's requests: a cluster, a redirect, an answer; and what is changed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.kinds.frontend import Frontend
from tests.schemas.refusals import refusal

ON: dict[str, Any] = {"listeners": ["web"]}
TO: dict[str, Any] = {**ON, "cluster": "shop"}


def value(fields: dict[str, Any]) -> dict[str, Any]:
    written: dict[str, Any] = Frontend.model_validate(ON | fields).value()
    del written["listeners"]
    return written


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ({"cluster": "c", "redirect": "https"}, {"cluster": "c", "redirect": "https"}),
        (
            {"redirect": {"scheme": "https", "status": 302, "query": "keep"}},
            {"redirect": {"scheme": "https"}},
        ),
        (
            {"redirect": {"path": {"full": "/n"}, "query": {"full": "{query}&a=b"}}},
            {"redirect": {"path": {"full": "/n"}, "query": {"full": "{query}&a=b"}}},
        ),
        (
            {"cluster": "c", "rewrite": {"query": "drop"}},
            {"cluster": "c", "rewrite": {"query": "drop"}},
        ),
        ({"respond": {"status": 200}}, {"respond": {}}),
        ({"respond": {"close": True}}, {"respond": {"close": True}}),
        ({"respond": {}}, {"respond": {}}),
        ({"redirect": {"hostname": "Ä.test"}}, {"redirect": {"hostname": "xn--4ca.test"}}),
        (
            {"redirect": "https", "respond": {"body": "ok\n"}},
            {"redirect": "https", "respond": {"body": "ok\n"}},
        ),
        (
            {"cluster": "c", "rewrite": {"path": {"prefix": "/new/"}}},
            {"cluster": "c", "rewrite": {"path": {"prefix": "/new"}}},
        ),
        (
            {"cluster": "c", "response_headers": {"remove": ["b", "A", "b"], "set": {}}},
            {"cluster": "c", "response_headers": {"remove": ["A", "b"]}},
        ),
        ({"cluster": "c", "request_headers": {}}, {"cluster": "c"}),
        (
            {"cluster": "c", "mirror": {"cluster": "d", "share": "10%"}},
            {"cluster": "c", "mirror": {"cluster": "d", "share": 10}},
        ),
        (
            {"cluster": "c", "mirror": [{"cluster": "d", "share": "100%"}]},
            {"cluster": "c", "mirror": {"cluster": "d"}},
        ),
        (
            {"cluster": "c", "mirror": [{"cluster": "d", "share": "100%"}, {"cluster": "e"}]},
            {"cluster": "c", "mirror": [{"cluster": "d"}, {"cluster": "e"}]},
        ),
        ({"cluster": "c", "rewrite": None, "respond": None}, {"cluster": "c"}),
    ],
)
def test_what_is_written_and_its_canonical_value(
    written: dict[str, Any], canonical: dict[str, Any]
) -> None:
    assert value(written) == canonical
    assert Frontend.of_value(ON | canonical) == Frontend.model_validate(ON | written)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, '"cluster" is missing'),
        ({"redirect": "https"}, '"cluster" is missing'),
        ({"cluster": "c", "respond": {"status": 200}}, "not in cluster and respond"),
        ({"redirect": {"port": 1}, "respond": {"status": 200}}, "not in redirect and respond"),
        ({"respond": {"status": 200}, "rewrite": {"hostname": "a"}}, "rewrite: no request gets"),
        ({"respond": {"status": 200}, "upgrades": ["tcp"]}, "upgrades: no request gets"),
        ({"redirect": {}}, "it leads to where it came from"),
        ({"redirect": {"query": "drop"}}, "it leads to where it came from"),
        ({"redirect": {"port": 0}}, "it must be at least 1"),
        ({"redirect": {"port": 80, "status": 300}}, "expected one of 301, 302"),
        ({"redirect": True}, 'expected "https", not true'),
        ({"redirect": {"hostname": "*.a.test"}}, "no hostname to go to"),
        ({"redirect": {"hostname": "{path}.a.test"}}, "{path} cannot stand in a hostname"),
        ({"redirect": {"hostname": "a_{hostname}:80"}}, "expected a hostname"),
        ({"redirect": {"path": {"full": "new"}}}, "expected a path"),
        ({"redirect": {"path": {"full": "/a?b=c"}}}, "a path has no query"),
        ({"redirect": {"query": {"full": "a=b"}}}, "it leads to where it came from"),
        ({"redirect": {"port": 1, "query": "a=b"}}, 'expected "keep" or "drop", not "a=b"'),
        ({"redirect": {"port": 1, "query": None}}, 'expected "keep" or "drop", not nothing'),
        ({"redirect": {"port": 1, "query": {"full": "?a=b"}}}, "the question mark is set before"),
        ({"redirect": {"port": 1, "query": {"full": ""}}}, "the query is empty"),
        ({"redirect": {"port": 1, "query": {"full": "a=b c"}}}, '" " cannot stand in a query'),
        ({"redirect": {"port": 1, "query": {"full": "a#b"}}}, '"#" cannot stand in a query'),
        ({"redirect": {"port": 1, "query": {"full": "id={1}"}}}, "{1} is neither a value nor"),
        ({"cluster": "c", "rewrite": {"query": "keep"}}, "nothing is rewritten"),
        ({"redirect": {"path": {"full": "/a/../b"}}}, "not a normal path"),
        ({"redirect": {"path": {"full": "/{1}"}}}, "{1} is neither a value nor a group"),
        (
            {"redirect": {"path": {"prefix": "/a"}}, "path": {"exact": "/b"}},
            "the frontend matches exact paths",
        ),
        ({"respond": {"close": True, "status": 404}}, "status has no place"),
        ({"respond": {"status": 204, "body": "x"}}, "an answer with the status 204 has none"),
        ({"respond": {"body": "x", "file": "a.html"}}, "an answer has one body"),
        ({"respond": {"file": "../a.html"}}, "is no plain path"),
        ({"respond": {"status": 100}}, "it must be at least 200"),
        ({"respond": {"status": 200, "content_type": "a/b\r\nX: y"}}, "expected a media type"),
        ({"cluster": "c", "rewrite": {}}, "nothing is rewritten"),
        ({"cluster": "c", "mirror": {"cluster": "c"}}, "is the cluster that serves the requests"),
        ({"respond": {}, "mirror": {"cluster": "c"}}, "mirror: no request gets"),
        ({"cluster": "c", "mirror": []}, "at least 1"),
        ({"cluster": "c", "mirror": [{"cluster": "d"}, {"cluster": "c"}]}, "is the cluster that"),
        ({"cluster": "c", "mirror": [{"cluster": "d"}] * 2}, "is named twice"),
        ({"cluster": "c", "mirror": [{"cluster": f"d{n}"} for n in range(5)]}, "at most 4"),
        ({"cluster": "c", "mirror": {"cluster": "d", "share": 10}}, 'expected a share like "10%"'),
        ({"cluster": "c", "mirror": {"cluster": "d", "share": "0%"}}, "a share of 0% is no mirror"),
        ({"cluster": "c", "mirror": {"cluster": "d", "share": "101%"}}, "from 1% to 100%"),
        (
            {"cluster": "c", "passthrough": True, "mirror": {"cluster": "d"}},
            "nothing can be said about mirror",
        ),
        ({"passthrough": True, "respond": {"status": 200}}, "nothing can be said about respond"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal("frontend", ON | fields)


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        ({"set": {"Host": "a"}}, "Host is the proxy's own to say"),
        ({"add": {"x_forwarded_for": "a"}}, "x_forwarded_for is the proxy's own"),
        ({"remove": ["Content-Length"]}, "Content-Length is the proxy's own"),
        ({"set": {"X-A": ""}}, "the text is empty"),
        ({"set": {"X-A": "a\r\nX-B: c"}}, "has a control character"),
        ({"set": {"X-A": "a\0"}}, "has a control character"),
        ({"set": {"X A": "a"}}, "expected the name of a header"),
        ({"set": {"X-A": 5}}, "expected text, not 5"),
        ({"set": {"X-A": "a"}, "remove": ["x-a"]}, "x-a is named twice"),
        ({"set": {"X-A": {"client_address": None}}}, "wants quotes"),
        ({"set": {"X-A": "{client_adress}"}}, "{client_adress} is neither"),
        ({"set": {"X-A": "{header}"}}, "{header} wants a name"),
        ({"set": {"X-A": "{env:HOME}"}}, "{env:HOME} is no value"),
        ({"set": {"X-A": "a}"}}, 'the "}" stands alone'),
        ({"set": {"X-A": "$remote_addr"}}, '"$remote_addr" is no value here'),
        ({"set": {"X-A": ["a", "b"]}}, "expected text, not a list"),
        ({"add": {"X-A": []}}, "the list is empty"),
        ({"add": {"X-A": ["a", "{client_adress}"]}}, "{client_adress} is neither"),
        ({"add": {"X-A": ["a"] * 17}}, "at most 16"),
        ({"add": {f"X-{number}": "a" for number in range(33)}}, "at most 32"),
    ],
)
def test_edits_that_are_refused(edits: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal("frontend", TO | {"request_headers": edits})


@pytest.mark.parametrize(
    ("respond", "sentence"),
    [
        ({"status": 302}, "302 sends to another place"),
        ({"status": 308, "body": "x"}, "308 sends to another place"),
    ],
)
def test_answers_that_contradict_themselves(respond: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal("frontend", ON | {"respond": respond})


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("%[src]", "{client_address}"),
        ("a%{+Q}[ssl_c_s_dn]", "{client_certificate_subject}"),
        ("%[req.hdr(host),lower]", "{hostname}"),
        ("%REQ(:path)%", "known:"),
        ("%DOWNSTREAM_REMOTE_ADDRESS%", "known:"),
    ],
)
def test_what_others_put_in_is_no_value(text: str, meant: str) -> None:
    said = refusal("frontend", TO | {"request_headers": {"set": {"X-A": text}}})
    assert "is no value here" in said
    assert value({"cluster": "c", "request_headers": {"set": {"X-A": "100%, %41%42 [a]"}}})


def test_an_edit_may_be_for_some_answers_only() -> None:
    line = {"text": "max-age=60", "answers": "success"}
    edits = {"response_headers": {"set": {"Cache-Control": line, "X-A": "a"}}}
    assert value({"cluster": "c", **edits}) == {"cluster": "c", **edits}
    for wrong, sentence in [
        ({**line, "answers": "error"}, 'expected "all" or "success"'),
        ({"text": "a"}, "answers"),
        ({**line, "text": ""}, "the text is empty"),
        ({**line, "text": "{1}"}, "{1} is neither"),
    ]:
        said = {"response_headers": {"add": {"X-A": wrong}}}
        assert sentence in refusal("frontend", TO | said)
    of_requests = {"request_headers": {"set": {"X-A": line}}}
    assert "expected text, not a map" in refusal("frontend", TO | of_requests)


def test_what_is_the_proxys_own_differs_by_the_way() -> None:
    value({"cluster": "c", "request_headers": {"set": {"Strict-Transport-Security": "x"}}})
    hsts = {"set": {"strict-transport-security": "x"}}
    assert "own to say" in refusal("frontend", TO | {"response_headers": hsts})
    value({"cluster": "c", "response_headers": {"set": {"X-Request-Id": "{request_id}"}}})
    of_client = {"set": {"X-Request-Id": "x"}}
    assert "own to say" in refusal("frontend", TO | {"request_headers": of_client})


def test_values_and_groups() -> None:
    text = "{client_address} {header:X-A} {cookie:sid} {{x}} {0}{1}{id}"
    fields = {"path": {"regex": "/(?P<id>[0-9]+)"}, "request_headers": {"set": {"X-A": text}}}
    assert value(TO | fields)["request_headers"]["set"]["X-A"] == text
    wrong = {**fields, "request_headers": {"set": {"X-A": "{2}"}}}
    assert "{2} is neither" in refusal("frontend", TO | wrong)
    # Where the path is wrong, that is all that is said.
    broken = {**fields, "path": {"regex": "("}}
    assert "never closed" in refusal("frontend", TO | broken)


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"hostname": ".example.com"}, '[example.com, "*.example.com"]'),
        ({"hostname": r"~^www\d"}, "a hostname is no expression"),
        ({"path": {"regex": "/a(?!b)"}}, "a frontend of its own"),
        ({"path": {"regex": r"/(a)\1"}}, "a frontend of its own"),
        ({"path": {"prefix": "/a/../b//c/"}}, 'did you mean "/b/c/"?'),
        ({"request_headers": {"set": {"X Y:": "a"}}}, 'did you mean "X-Y"?'),
        ({"split": {"shop": 1}}, "leave cluster out"),
    ],
)
def test_what_is_refused_has_a_way_out(fields: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Frontend.model_validate(TO | fields)
    hints = [each.get("ctx", {}).get("hint", "") for each in refused.value.errors()]
    assert any(hint in each for each in hints), hints
