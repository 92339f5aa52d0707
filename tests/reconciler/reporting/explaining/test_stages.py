"""What a request comes to, in the order in which the engine takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.catalog.policies import merged
from reconciler.reporting.explaining.stages import Ending, Stages, stages_of
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.frontend import Frontend
from schemas.kinds.policy import Policy


def told(
    secure: bool,
    fields: dict[str, Any],
    policy: dict[str, Any] | None = None,
    client: str | None = None,
    takes: Callable[[str], bool] = lambda _: True,
) -> tuple[Stages, Ending | None]:
    frontend = Frontend.model_validate({"listeners": ["web"], **fields})
    says = Policy.model_validate(policy or {})
    named = Entity.of(EntityKey("policy", "secure"), says, Provenance("p.yaml", 7, 3))
    itself = Entity.of(EntityKey("frontend", "web"), frontend, Provenance("f.yaml", 1, 1))
    words = merged([[itself], [named]])
    return stages_of(frontend, words, secure=secure, client=client, takes=takes)


def keys(*, secure: bool = True, **fields: Any) -> list[str]:
    stages, ending = told(secure, fields)
    end = [f"-> {ending[0]}"] if ending else []
    return [stage["key"] for stage in stages] + end


ALL: dict[str, Any] = {
    "cluster": "shop",
    "client_certificate": "required",
    "forward_auth": {"cluster": "sso", "path": "/verify", "copy_headers": ["X-User"]},
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
        "forward_auth",
        "rewrite",
        "request_headers",
        "mirror",
        *answered,
    ]


def test_cookies_of_backends_are_told_of() -> None:
    said = {
        "*": {"secure": True, "http_only": True, "same_site": "lax"},
        "session": {"domain": "drop", "path": {"/app": "/"}},
        "plain": None,
    }
    stages, _ = told(True, {"cluster": "c", "set_cookie": said})
    assert [(stage["key"], stage["words"]) for stage in stages] == [
        ("set_cookie", "other cookies of backends: Secure, HttpOnly, SameSite=Lax"),
        ("set_cookie", "cookie session of backends: no Domain, Path from /app to /"),
    ]
    policy = {"set_cookie": {"session": {"domain": "a.test"}}}
    (stage,) = told(True, {"cluster": "c"}, policy)[0]
    assert stage["by"]["name"] == "secure"
    # What is answered here has none of theirs.
    assert keys(cluster="c", redirect="https", secure=False, set_cookie=said) == [
        "redirect",
        "-> 308",
    ]


def test_what_would_be_sent_back_is_answered_here() -> None:
    for methods, status in [([], 405), (["TRACE"], None)]:
        asked = Frontend.model_validate({"listeners": ["web"], "cluster": "c", "methods": methods})
        _, ending = stages_of(asked, {}, secure=True, method="TRACE")
        assert (ending and ending[0]) == status


def test_which_answers_a_line_is_in_is_told() -> None:
    line = {"text": "max-age=60", "answers": "success"}
    stages, _ = told(True, {"cluster": "c", "response_headers": {"set": {"Cache-Control": line}}})
    assert [stage["words"] for stage in stages] == ["set Cache-Control (answers: success)"]


def test_what_is_answered_before_gets_no_further() -> None:
    assert keys(secure=False, **ALL) == ["redirect", "response_headers", "-> 308"]
    end = {"client_certificate": "required", "redirect": {"port": 8080, "status": 301}}
    assert keys(**end) == ["client_certificate", "redirect", "-> 301"]
    assert keys(respond={"status": 503}) == ["respond", "-> 503"]
    assert keys(respond={"close": True}) == ["respond", "-> 0"]
    assert keys(secure=False, redirect="https", respond={"status": 200}) == ["redirect", "-> 308"]
    assert keys(redirect="https", respond={"status": 200}) == ["respond", "-> 200"]


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (None, ["deny", "allow", "allow", "client_certificate", "-"]),
        ("10.1.2.3", ["deny", "allow", "allow", "client_certificate", "-"]),
        ("10.9.0.1", ["deny", "allow", "allow", "-> 403"]),
        ("192.0.2.1", ["deny", "-> 403"]),
        ("2001:db8::1", ["deny", "allow", "-> 403"]),
    ],
)
def test_who_may_ask_by_everybodys_word(client: str | None, expected: list[str]) -> None:
    own = {"cluster": "c", "allow": ["10.0.0.0/8"], "client_certificate": "required"}
    policy = {"allow": ["10.1.0.0/16"], "deny": ["192.0.2.0/24"]}
    stages, ending = told(True, own, policy, client=client)
    assert [each["key"] for each in stages] + [
        "-" if ending is None else f"-> {ending[0]}"
    ] == expected


def test_it_is_said_in_words() -> None:
    to = {"scheme": "https", "hostname": "a.test", "path": {"prefix": "/b"}, "query": "drop"}
    [stage], _ = told(False, {"redirect": to})
    place = "scheme https, host a.test, prefix /b, no query"
    assert stage["words"] == f"it is sent to {place}: 302"
    asked = {"cluster": "sso", "path": "/verify", "copy_headers": ["X-User"]}
    [stage, _], _ = told(True, {"respond": {}, "forward_auth": asked})
    question = "cluster sso is asked for /verify whether it may pass, and says X-User"
    assert stage["words"] == question
    _, ending = told(True, {"cluster": "c", "forward_auth": asked}, takes=lambda name: name == "c")
    whom = 'cluster "sso", which is asked,'
    assert ending == (503, f"{whom} has no backend that takes requests: 503")
    shown = {"client_certificate": {"subjects": ["CN=b", "CN=a"], "names": ["*.a.test"]}}
    [stage], _ = told(True, {"cluster": "c", **shown})
    others = "one of others than names *.a.test and subjects CN=a, CN=b"
    assert stage["words"] == f"a client that has shown none gets 403, and {others}"
    edited = {"set": {"X-B": "b", "X-A": "a"}, "remove": ["Server"]}
    [stage], _ = told(True, {"cluster": "c", "request_headers": edited})
    assert stage == {"key": "request_headers", "words": "set X-A, X-B; remove Server", "by": None}


def test_each_effect_tells_the_policy_that_it_comes_from() -> None:
    own = {"set": {"X-A": "ours", "X-C": None}}
    theirs = {"set": {"x-a": "theirs", "X-C": "c"}, "remove": ["Server"], "add": {"Vary": "X-A"}}
    policy = {
        "response_headers": theirs,
        "hsts": {"max_age_days": 2},
        "compression": {"encodings": ["zstd", "gzip"], "types": ["text/*"]},
        "error_pages": {"503": {"body": "soon"}},
    }
    stages, _ = told(True, {"cluster": "c", "response_headers": own}, policy)
    by = {"name": "secure", "source": {"file": "p.yaml", "line": 7}}
    squeezed = "answers of text/* from 1KiB on are compressed by zstd or gzip, none with cookies "
    squeezed += "or private ones"
    assert [(stage["key"], stage["words"], stage["by"]) for stage in stages] == [
        ("response_headers", "set X-A", None),
        ("response_headers", "add Vary; remove Server", by),
        ("error_pages", "the page of 503, where the proxy answers by itself", by),
        ("compression", squeezed, by),
        ("hsts", "browsers stay at TLS for 2 days", by),
    ]
    stages, _ = told(
        True,
        {"cluster": "c", "hsts": None, "compression": None, "error_pages": {"503": None}},
        policy,
    )
    assert {stage["key"] for stage in stages} == {"response_headers"}
