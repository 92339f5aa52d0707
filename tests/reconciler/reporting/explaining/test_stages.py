"""What a request comes to, in the order in which the engine takes it."""

from __future__ import annotations

from typing import Any

from reconciler.reporting.explaining.stages import stages_of
from schemas.kinds.frontend import Frontend


def keys(*, secure: bool = True, **fields: Any) -> list[str]:
    frontend = Frontend.model_validate({"listeners": ["web"], **fields})
    stages, ending = stages_of(frontend, secure=secure)
    end = [f"-> {ending[0]}"] if ending else []
    return [stage["key"] for stage in stages] + end


ALL: dict[str, Any] = {
    "cluster": "shop",
    "client_certificate": "required",
    "hsts": {"max_age_days": 1},
    "mirror": {"cluster": "shadow", "share": "10%"},
    "redirect": "https",
    "request_headers": {"set": {"X-A": "a"}},
    "response_headers": {"remove": ["Server"]},
    "rewrite": {"path": {"prefix": "/new"}},
}


def test_what_goes_to_a_cluster() -> None:
    assert keys(cluster="shop") == []
    answered = ["response_headers", "hsts"]
    assert keys(**ALL) == [
        "client_certificate",
        "rewrite",
        "request_headers",
        "mirror",
        *answered,
    ]


def test_what_is_answered_before_gets_no_further() -> None:
    assert keys(secure=False, **ALL) == ["redirect", "response_headers", "-> 308"]
    end = {"client_certificate": "required", "redirect": {"port": 8080, "status": 301}}
    assert keys(**end) == ["client_certificate", "redirect", "-> 301"]
    assert keys(respond={"status": 503}) == ["respond", "-> 503"]
    assert keys(respond={"close": True}) == ["respond", "-> 0"]
    assert keys(secure=False, redirect="https", respond={"status": 200}) == ["redirect", "-> 308"]
    assert keys(redirect="https", respond={"status": 200}) == ["respond", "-> 200"]


def test_it_is_said_in_words() -> None:
    to = {"scheme": "https", "hostname": "a.test", "path": {"prefix": "/b"}, "query": "drop"}
    frontend = Frontend.model_validate({"listeners": ["web"], "redirect": to})
    [stage], _ = stages_of(frontend, secure=False)
    place = "scheme https, host a.test, prefix /b, no query"
    assert stage["words"] == f"it is sent to {place}: 302"
    edited = {"set": {"X-B": "b", "X-A": "a"}, "remove": ["Server"]}
    frontend = Frontend.model_validate(
        {"listeners": ["web"], "cluster": "c", "request_headers": edited}
    )
    [stage], _ = stages_of(frontend, secure=True)
    assert stage["words"] == "set X-A, X-B; remove Server"
