import pytest

from schemas.kinds.cluster import Cluster
from tests.schemas.refusals import refusal


def test_the_full_value_has_every_default() -> None:
    assert Cluster().in_full() == {
        "fallback": None,
        "health_check": None,
        "keep_alive_connections": 1024,
        "limits": {"head_bytes": 65_536, "header_count": 256},
        "load_balancing": "round_robin",
        "panic": None,
        "protocol": "http",
        "proxy_protocol": None,
        "retries": 2,
        "retry": None,
        "timeouts": {
            "connect": 3000,
            "keep_alive": 50000,
            "response_body": 300000,
            "response_head": 60000,
            "tunnel": 3600000,
        },
        "tls": None,
    }


def test_policies() -> None:
    for policy in ("round_robin", "random", "least_connections", "power_of_two"):
        assert Cluster.model_validate({"load_balancing": policy}).load_balancing == policy
    assert "expected one of" in refusal("cluster", {"load_balancing": "rr"})
    assert "expected one of" in refusal("cluster", {"load_balancing": None})


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("retries", 11, "11 is too large: it must be at most 10"),
        ("retries", 1.5, "expected a whole number, not 1.5"),
        ("retries", True, "expected a whole number, not true"),
        ("keep_alive_connections", -1, "-1 is too small"),
        ("protocol", "h2c", 'expected "http" or "h2", not "h2c"'),
        ("proxy_protocol", 2, 'expected "v1" or "v2", not 2'),
        ("timeouts", {"tunnel": "200h"}, "at most 168h"),
    ],
)
def test_what_is_refused(field: str, value: object, sentence: str) -> None:
    assert sentence in refusal("cluster", {field: value})
