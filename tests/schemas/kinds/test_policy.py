"""The policy: what may stand in one, and what is refused there."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.kinds.frontend import Frontend
from schemas.kinds.policy import Policy
from schemas.policies.effects import Effects
from tests.schemas.refusals import refusal


def test_whatever_stands_in_a_policy_may_stand_in_a_frontend() -> None:
    # Of a policy alone it is said what it lets others do.
    assert Policy.model_fields.keys() - Frontend.model_fields.keys() == {"overridable"}
    for name, field in Effects.model_fields.items():
        usual = field.get_default(call_default_factory=True)
        assert usual == Frontend.model_fields[name].get_default(call_default_factory=True), name


def test_a_written_null_is_part_of_the_value_and_a_default_is_not() -> None:
    policy = Policy.model_validate(
        {
            "hsts": None,
            "error_pages": {"503": None},
            "request_headers": {"set": {"X-A": None}, "add": {"X-B": None}},
            "response_headers": {},
        }
    )
    assert policy.value() == {
        "hsts": None,
        "error_pages": {"503": None},
        "request_headers": {"add": {"X-B": None}, "set": {"X-A": None}},
    }
    assert Policy.of_value(policy.value()) == policy
    assert Policy.model_validate({"hsts": "inherit"}).value() == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hsts": "off"}, 'expected a map or "inherit", not "off"'),
        ({"hsts": {}}, '"max_age_days" is missing'),
        ({"response_headers": {"set": {"X-A": "{1}"}}}, "neither a value nor a group"),
        ({"request_headers": {"set": {"Host": "a"}}}, "the proxy's own to say"),
        ({"request_headers": {"set": {"X-A": None}, "remove": ["x-a"]}}, "is named twice"),
        ({"forward_auth": "authelia"}, "expected a map"),
        ({"forward_auth": {}}, '"cluster" is missing'),
        ({"forward_auth": {"cluster": "a", "path": "verify"}}, 'a path like "/verify"'),
        (
            {"forward_auth": {"cluster": "a", "path": "http://sso/verify"}},
            'a path like "/verify", not "http://sso/verify"',
        ),
        ({"forward_auth": {"cluster": "a", "path": "/a b"}}, "only printable ASCII"),
        ({"forward_auth": {"cluster": "a", "path": "/" + "a" * 1024}}, "at most 1024"),
        ({"forward_auth": {"cluster": "a", "timeout": "2m"}}, "60s"),
        ({"forward_auth": {"cluster": "a", "cache": {"ttl": "1s"}}}, '"headers" is missing'),
        ({"forward_auth": {"cluster": "a", "cache": {"headers": ["a"]}}}, '"ttl" is missing'),
        (
            {"forward_auth": {"cluster": "a", "cache": {"headers": ["a"], "ttl": "2h"}}},
            "1s to 1h",
        ),
        (
            {"forward_auth": {"cluster": "a", "cache": {"headers": [], "ttl": "1s"}}},
            "at least 1",
        ),
        (
            {"forward_auth": {"cluster": "a", "cache": {"headers": ["accept"], "ttl": "1s"}}},
            "does not show who a client is",
        ),
        ({"forward_auth": {"cluster": "a", "copy_headers": ["Host"]}}, "the proxy's own to say"),
        (
            {"forward_auth": {"cluster": "a", "copy_headers": ["X-User", "x-user"]}},
            "are the same header",
        ),
        ({"error_pages": {"200": None}}, "expected a status from 400 to 599"),
        ({"cluster": "shop"}, '"shop" is not valid here'),
        ({"allow": []}, "the list is empty"),
        ({"deny": ["all"]}, 'expected a network like "10.0.0.0/8"'),
        (
            {"allow": ["10.0.0.0/8"], "deny": ["0.0.0.0/0"]},
            "10.0.0.0/8 is allowed in vain: deny goes first, and has 0.0.0.0/0",
        ),
        ({"allow": ["10.1.0.0/16"], "deny": ["10.0.0.0/8"]}, "allowed in vain"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    assert message in str(refusal("policy", fields))


def test_lists_of_policies_are_bounded() -> None:
    names = [f"p{number}" for number in range(9)]
    frontend = {"listeners": ["a"], "cluster": "c", "policies": names}
    assert "at most 8" in str(refusal("frontend", frontend))


def test_a_level_that_is_the_usual_one_needs_no_encoding() -> None:
    written = {"compression": {"encodings": ["br"], "levels": {"zstd": 3, "gzip": 3, "br": 4}}}
    policy = Policy.model_validate(written)
    assert policy.value() == {"compression": {"encodings": ["br"]}}
    other = {"compression": {"encodings": ["br"], "levels": {"zstd": 4}}}
    assert "zstd is not among the encodings" in str(refusal("policy", other))
