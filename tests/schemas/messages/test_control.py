from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.messages import control
from schemas.messages.control import MalformedMessageError, Request

REQUESTS: list[Request] = [
    control.StatusRequest(),
    control.PlanRequest(commit="main", files={"a.yaml": "text", "b.yaml": None}),
    control.PlanRequest(explains=True, unreadable={"a.txt": ["gone", "commit it"], "b": ["gone"]}),
    control.WaitRequest(commit="HEAD", timeout_s=5),
    control.HistoryRequest(limit=3),
    control.ShowRequest(kind="frontend"),
    control.ExplainRequest(url="http://a/", method="POST", headers=[["A", "b"]]),
    control.DrainRequest(backend="shop/a", owner="me", ttl_s=1.5, wait=True),
    control.UndrainRequest(backend="shop/a"),
    control.StopRequest(),
    control.NamesRequest("frontend", "shop"),
]


def line(request: Request) -> bytes:
    return json.dumps({"request": request.name, **dataclasses.asdict(request)}).encode()


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: str(each.name))
def test_a_request_comes_back(request_: Request) -> None:
    assert control.decode_request(line(request_)) == request_


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[]", "not a JSON object"),
        ("{", "not a line of JSON"),
        ("{}", "unknown request None"),
        ('{"request":"reload"}', "unknown request 'reload', expected one of: status, plan"),
        ('{"request":"status","x":1}', "request 'status' has no field 'x'"),
        ('{"request":"wait"}', "lacks a field"),
        ('{"request":"wait","commit":1}', "field 'commit' of request 'wait' is not str"),
        ('{"request":"wait","commit":"a","timeout_s":true}', "is not float"),
        ('{"request":"history","limit":1.5}', "is not int"),
        ('{"request":"plan","files":{"a":1}}', "is not dict"),
        ('{"request":"explain","url":"a","headers":[["a"]]}', "is not list"),
        ('{"request":"drain","backend":"a","wait":1}', "is not bool"),
        ("[" * 100_000, "not a line of JSON"),
    ],
)
def test_what_is_no_request_is_refused_by_name(body: str, message: str) -> None:
    with pytest.raises(MalformedMessageError) as refused:
        control.decode_request(body.encode())
    assert message in str(refused.value)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.sampled_from([request.name for request in REQUESTS]), st.dictionaries(st.text(), JSON))
def test_no_request_ends_the_decoder_otherwise(name: str, fields: dict[str, Any]) -> None:
    with contextlib.suppress(MalformedMessageError):
        control.decode_request(json.dumps({**fields, "request": name}).encode())


def test_text_that_is_not_utf8_travels() -> None:
    text = b"\xff\xfe".decode(errors="surrogateescape")
    request = control.PlanRequest(files={"a.yaml": text})
    found = control.decode_request(line(request))
    assert isinstance(found, control.PlanRequest)
    assert found.files["a.yaml"] == text


def test_responses_are_one_line() -> None:
    result = json.loads(control.encode_result({"text": "two\nlines"}))
    assert result == {"ok": True, "result": {"text": "two\nlines"}}
    error = control.encode_error("not_found", "two\nlines")
    assert error.count(b"\n") == 1
    assert json.loads(error)["error"] == {"code": "not_found", "message": "two\nlines"}


@pytest.mark.parametrize("count", [0, 1, 500, 501, 1200])
def test_a_listing_is_the_line_of_its_result_in_parts(count: int) -> None:
    items = [{"name": f"é]{number}", "list": []} for number in range(count)]
    result = {"commit": None, "others": []}
    parts = list(control.encode_listing(result, "entities", iter(items)))
    assert b"".join(parts) == control.encode_result({**result, "entities": items})
    assert max(map(len, parts)) < 500 * 40, "no part has more than some of them"
