"""What a request comes to, in the order in which the engine takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reconciler.catalog.policies import merged
from reconciler.reporting.explaining.admission import Seen, asked_for
from reconciler.reporting.explaining.making import Made, made_of
from reconciler.reporting.explaining.question import asked_by
from reconciler.reporting.explaining.stages import Course, stages_of
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.frontend import Frontend
from schemas.kinds.listener import Listener
from schemas.kinds.policy import Policy
from schemas.messages.control import ExplainRequest
from schemas.policies.jwt import Jwt


def told(
    secure: bool,
    fields: dict[str, Any],
    policy: dict[str, Any] | None = None,
    *,
    client: str | None = None,
    takes: Callable[[str], bool] = lambda _: True,
    url: str = "http://a.test/x",
    method: str = "GET",
    headers: list[list[str]] | None = None,
) -> Course:
    frontend = Frontend.model_validate({"listeners": ["web"], **fields})
    says = Policy.model_validate(policy or {})
    named = Entity.of(EntityKey("policy", "secure"), says, Provenance("p.yaml", 7, 3))
    itself = Entity.of(EntityKey("frontend", "web"), frontend, Provenance("f.yaml", 1, 1))
    own = {"address": "127.0.0.1:81", "protocol": "https" if secure else "http"}
    web = Entity.of(
        EntityKey("listener", "web"), Listener.model_validate(own), Provenance("l.yaml", 1, 1)
    )
    words = merged([[itself], [named]])
    asked = asked_by(ExplainRequest(url, method, headers or [], client))
    seen = Seen(
        made_of(itself, words, [web], asked, secure=secure),
        secure,
        listener=web,
        method=method,
        client=client,
        preflight_of=asked.preflight_of,
        origin=asked.header("origin"),
        length=asked.length,
        takes=takes,
    )
    return stages_of(itself, words, seen)


def keys(*, secure: bool = True, **fields: Any) -> list[str]:
    course = told(secure, fields)
    end = [f"-> {course.ending[0]}"] if course.ending else []
    return [stage["key"] for stage in course.stages] + end


def words(*args: Any, **options: Any) -> dict[str, str]:
    return {stage["key"]: stage["words"] for stage in told(*args, **options).stages}


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


def test_a_token_that_two_ask_for_is_told_of_once() -> None:
    asked = {"issuer": "https://id.test/", "audiences": ["shop"], "keys": "keys.json"}

    def tokens(*said: dict[str, Any]) -> list[str]:
        """Whose tokens are asked for, of a frontend and of a policy."""
        named = []
        keyed = (EntityKey("frontend", "web"), EntityKey("policy", "secure"))
        for key, model, each in zip(keyed, (Frontend, Policy), said, strict=True):
            needed = {"listeners": ["web"], "cluster": "c"} if model is Frontend else {}
            jwt = Jwt.model_validate(each)
            keys = jwt.keys.model_copy(update={"sha256": "0" * 64})
            value = model.model_validate(needed)
            value = value.model_copy(update={"jwt": jwt.model_copy(update={"keys": keys})})
            named.append([Entity.of(key, value, Provenance("f.yaml", 1, 1))])
        found = asked_for(merged(named), Seen(Made(), True), unread=False)
        by = [step.stage["by"] for step in found if step.stage["key"] == "jwt"]
        return [policy["name"] if policy is not None else "web" for policy in by]

    assert tokens(asked, asked) == ["secure"]
    assert tokens(asked, asked | {"audiences": ["till"]}) == ["secure", "web"]


def test_cookies_of_backends_are_told_of() -> None:
    said = {
        "*": {"secure": True, "http_only": True, "same_site": "lax"},
        "session": {"domain": "drop", "path": {"/app": "/"}},
        "plain": None,
    }
    stages = told(True, {"cluster": "c", "set_cookie": said}).stages
    assert [(stage["key"], stage["words"]) for stage in stages] == [
        ("set_cookie", "other cookies of backends: Secure, HttpOnly, SameSite=Lax"),
        ("set_cookie", "cookie session of backends: no Domain, Path from /app to /"),
    ]
    policy = {"set_cookie": {"session": {"domain": "a.test"}}}
    (stage,) = told(True, {"cluster": "c"}, policy).stages
    assert stage["by"]["name"] == "secure"
    # What is answered here has none of theirs.
    assert keys(cluster="c", redirect="https", secure=False, set_cookie=said) == [
        "redirect",
        "-> 308",
    ]


def test_what_would_be_sent_back_is_answered_here() -> None:
    for methods, status in [([], 405), (["TRACE"], None)]:
        ending = told(True, {"cluster": "c", "methods": methods}, method="TRACE").ending
        assert (ending and ending[0]) == status


def test_which_answers_a_line_is_in_is_told() -> None:
    line = {"text": "max-age=60", "answers": "success"}
    stages = told(
        True, {"cluster": "c", "response_headers": {"set": {"Cache-Control": line}}}
    ).stages
    assert [stage["words"] for stage in stages] == [
        "set Cache-Control: max-age=60 (answers: success)"
    ]


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
    course = told(True, own, policy, client=client)
    assert [each["key"] for each in course.stages] + [
        "-" if course.ending is None else f"-> {course.ending[0]}"
    ] == expected
    unknown = "if its client may ask (--client-address)"
    assert (unknown in course.conditions) == (client is None)


def test_it_is_said_in_words() -> None:
    to = {"scheme": "https", "hostname": "a.test", "path": {"prefix": "/b"}, "query": "drop"}
    [stage] = told(False, {"redirect": to}).stages
    assert stage["words"] == "it is sent to https://a.test/b/x: 302"
    asked = {"cluster": "sso", "path": "/verify", "copy_headers": ["X-User"]}
    course = told(True, {"respond": {}, "forward_auth": asked})
    question = "cluster sso is asked for /verify whether it may pass, and says X-User"
    assert course.stages[0]["words"] == question
    assert course.conditions == ["if cluster sso lets it pass"]
    course = told(True, {"cluster": "c", "forward_auth": asked}, takes=lambda name: name == "c")
    whom = 'cluster "sso", which is asked,'
    assert course.ending == (503, f"{whom} has no backend that takes requests: 503")
    shown = {"client_certificate": {"subjects": ["CN=b", "CN=a"], "names": ["*.a.test"]}}
    course = told(True, {"cluster": "c", **shown})
    others = "one of others than names *.a.test and subjects CN=a, CN=b"
    assert course.stages[0]["words"] == f"a client that has shown none gets 403, and {others}"
    assert course.conditions == ["if its client shows such a certificate"]
    edited = {"set": {"X-B": "b", "X-A": "a"}, "remove": ["Server"]}
    source = {"file": "f.yaml", "line": 1}
    assert told(True, {"cluster": "c", "request_headers": edited}).stages == [
        {
            "key": "request_headers",
            "words": "set X-A: a, X-B: b; remove Server",
            "by": None,
            "source": source,
        }
    ]


def test_where_a_redirect_sends_it_is_what_the_engine_says() -> None:
    captured = {"path": {"regex": "/(.*)/(b)"}, "redirect": {"path": {"full": "/n/{1}"}}}
    course = told(False, captured, url="http://a.test:81/a%2Fb/b?x=1")
    assert course.ending == (302, "it is sent to http://a.test:81/n/a%2Fb?x=1: 302")
    changed = {"path": {"full": "/n"}, "query": {"full": "q={query}&p={path}"}, "status": 301}
    course = told(False, {"redirect": changed}, url="http://a.test/x?a=b")
    assert course.ending == (301, "it is sent to http://a.test/n?q=a=b&p=/x: 301")
    course = told(False, {"redirect": "https", "cluster": "c"}, url="http://a.test:81/x?y")
    assert course.ending == (308, "it is sent to https://a.test/x?y: 308")
    course = told(False, {"redirect": {"path": {"full": "/{header:X-A}"}}}, headers=[["X-A", ".."]])
    assert course.ending == (400, "where it would be sent is no normal path: 400")
    # Who asks is not known, and stays as it is written.
    course = told(False, {"redirect": {"path": {"full": "/{client_address}"}}})
    assert course.ending == (302, "it is sent to path /{client_address}: 302")


def test_what_a_backend_and_a_client_get_is_told_with_its_values() -> None:
    rewrite = {"hostname": "in.{hostname}", "path": {"full": "/y{path}"}}
    edits = {
        "X-Real-IP": "{client_address}",
        "X-Id": "{{{request_id}}}",
        "X-None": "{cookie:no}",
        "X-Token": "plain",
        "X-Via": "{listener}/{frontend}/{scheme}",
    }
    fields = {"cluster": "c", "rewrite": rewrite, "request_headers": {"set": edits}}
    found = words(False, fields, url="http://a.test/x?q", client="192.0.2.1")
    assert found["rewrite"] == "the backend gets it for host in.a.test at /y/x?q"
    assert found["request_headers"] == (
        "set X-Id: {{request_id}}, X-None (left out, since it comes to nothing), "
        "X-Real-IP: 192.0.2.1, "
        "X-Token: (secret), X-Via: web/web/http"
    )
    found = words(False, {"cluster": "c", "request_headers": {"set": {"X-IP": edits["X-Real-IP"]}}})
    assert found["request_headers"] == "set X-IP: {client_address}"
    copied = {"cluster": "sso", "path": "/", "copy_headers": ["X-User"]}
    said = {"response_headers": {"set": {"X-For": "{header:x-user}", "X-Long": "{header:x-long}"}}}
    found = words(
        False,
        {"cluster": "c", "forward_auth": copied, **said},
        headers=[["X-User", "me"], ["X-Long", "a" * 5000]],
    )
    for_nobody = "X-For: {header:x-user}"
    assert found["response_headers"] == f"set {for_nobody}, X-Long: {'a' * 200}…"
    broken = {"cluster": "c", "rewrite": {"path": {"full": "/{header:X-A}"}}}
    course = told(False, broken, headers=[["X-A", ".."]])
    assert course.ending == (400, "what it would be rewritten to is no normal path: 400")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Basic AAAA", 401),
        ("Bearer YWxpY2U6c2VjcmV0", 401),
        ("Basic YWxpY2U6c2VjcmV0", None),
    ],
)
def test_who_names_no_user_with_a_password_gets_no_further(
    header: str | None, status: int | None
) -> None:
    policy = {"basic_auth": {"realm": "admin", "users": "users.htpasswd"}}
    shown = [["Authorization", header]] if header else []
    course = told(False, {"cluster": "c"}, policy, headers=shown)
    assert (course.ending[0] if course.ending else None) == status
    if status is None:
        condition = 'if "alice" and the password are in users.htpasswd'
        assert course.conditions == [condition]
    else:
        assert "no user is named with a password: 401" in course.stages[0]["words"]
    assert "secret" not in str(course)


def test_in_clear_text_nobody_shows_a_certificate() -> None:
    for policy in ("required", {"names": ["a.test"]}):
        course = told(False, {"cluster": "c", "client_certificate": policy})
        assert course.ending == (403, "in clear text no client shows a certificate: 403")
        assert told(True, {"cluster": "c", "client_certificate": policy}).ending is None


def test_whether_a_page_may_read_the_answer() -> None:
    fields = {"cluster": "c", "cors": {"origins": ["https://*.a.test"]}}
    may, not_ = "https://x.a.test", "https://x_y.A.test"
    asks = ["Access-Control-Request-Method", "PUT"]
    assert words(True, fields, headers=[["Origin", may]])["cors"] == (
        f"pages of {may} may read the answer"
    )
    none = "none of https://*.a.test"
    assert words(True, fields, headers=[["Origin", not_]])["cors"] == (
        f"pages of {not_} may not read the answer: {none}"
    )
    for origin, status in ((may, 204), (not_, 403)):
        course = told(True, fields, method="OPTIONS", headers=[["Origin", origin], asks])
        assert course.ending is not None
        assert course.ending[0] == status


def test_a_body_that_is_too_long_gets_no_further() -> None:
    fields = {"cluster": "c", "limits": {"body_bytes": "1KiB"}}
    assert words(False, fields)["limits"] == "a body of more than 1KiB gets 413"
    for length, ending in ((1024, None), (1025, 413)):
        found = told(False, fields, method="POST", headers=[["Content-Length", str(length)]])
        assert (found.ending[0] if found.ending else None) == ending


def test_each_effect_tells_the_policy_that_it_comes_from() -> None:
    own = {"set": {"X-A": "ours", "X-C": None}}
    theirs = {"set": {"x-a": "theirs", "X-C": "c"}, "remove": ["Server"], "add": {"Vary": "X-A"}}
    policy = {
        "response_headers": theirs,
        "hsts": {"max_age_days": 2},
        "compression": {"encodings": ["zstd", "gzip"], "types": ["text/*"]},
        "error_pages": {"503": {"body": "soon"}},
    }
    stages = told(True, {"cluster": "c", "response_headers": own}, policy).stages
    by = {"name": "secure", "source": {"file": "p.yaml", "line": 7}}
    squeezed = "answers of text/* from 1KiB on are compressed by zstd or gzip, none with cookies "
    squeezed += "or private ones"
    assert [(stage["key"], stage["words"], stage["by"]) for stage in stages] == [
        ("response_headers", "set X-A: ours", None),
        ("response_headers", "add Vary: X-A; remove Server", by),
        ("error_pages", "the page of 503, where the proxy answers by itself", by),
        ("compression", squeezed, by),
        ("hsts", "browsers stay at TLS for 2 days", by),
    ]
    stages = told(
        True,
        {"cluster": "c", "hsts": None, "compression": None, "error_pages": {"503": None}},
        policy,
    ).stages
    assert {stage["key"] for stage in stages} == {"response_headers"}
