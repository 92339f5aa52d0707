import pytest

from schemas.kinds.listener import Listener
from tests.schemas.refusals import refusal

ADDRESS = {"address": "127.0.0.1:8080"}


def test_the_full_value_has_every_default() -> None:
    assert Listener.model_validate(ADDRESS).in_full() == {
        "address": "127.0.0.1:8080",
        "error_pages": {},
        "limits": {
            "body_bytes": None,
            "connections": 10000,
            "head_bytes": 32768,
            "header_count": 100,
        },
        "h2c": False,
        "merge_slashes": True,
        "policies": [],
        "protocol": "http",
        "proxy_protocol": [],
        "timeouts": {
            "keep_alive": 60000,
            "request_body": 30000,
            "request_head": 10000,
            "response_write": 30000,
        },
        "tls": None,
        "trusted_proxies": [],
        "underscores_in_headers": True,
    }


def test_tls_comes_with_https() -> None:
    secure = Listener.model_validate({**ADDRESS, "protocol": "https"})
    assert secure.in_full()["tls"] == {
        "alpn": [],
        "client_auth": "required",
        "client_ca": None,
        "client_crl": None,
        "default_certificate": None,
        "profile": "intermediate",
    }
    assert "in clear text has none" in refusal("listener", {**ADDRESS, "tls": {}})
    old = {**ADDRESS, "protocol": "https", "tls": {"profile": "old"}}
    assert 'expected "intermediate" or "modern", not "old"' in refusal("listener", old)


def test_everything_can_be_set() -> None:
    listener = Listener.model_validate(
        {
            "address": "[0::0]:80",
            "protocol": "http",
            "limits": {"body_bytes": "10MiB", "connections": 5, "head_bytes": "1KiB"},
            "timeouts": {"keep_alive": "1h", "request_head": "5ms"},
            "error_pages": {"503": {"body": "later", "content_type": "text/plain"}},
            "trusted_proxies": ["fd00::/8", "10.0.0.0/8", "10.0.0.0/8"],
        }
    ).value()
    assert listener["address"] == "[::]:80"
    assert listener["limits"]["body_bytes"] == 10 << 20
    assert listener["timeouts"]["keep_alive"] == 3_600_000
    assert listener["error_pages"] == {"503": {"body": "later", "content_type": "text/plain"}}
    assert listener["trusted_proxies"] == ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize("protocol", ["h2", "h2c"])
def test_http_2_is_no_protocol_of_its_own(protocol: str) -> None:
    sentence = refusal("listener", {**ADDRESS, "protocol": protocol})
    assert "HTTP/2 is no protocol of its own here" in sentence


def test_h2c_is_for_clear_text() -> None:
    assert Listener.model_validate({**ADDRESS, "h2c": True}).value()["h2c"] is True
    secure = {**ADDRESS, "protocol": "https", "h2c": True}
    assert "offered without it" in refusal("listener", secure)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("protocol", "quic", 'expected "http", "https", "tcp" or "tls", not "quic"'),
        ("limits", {"connections": 0}, "0 is too small: it must be at least 1"),
        ("limits", {"connections": 1_000_001}, "1000001 is too large"),
        ("limits", {"header_count": 1001}, "1001 is too large"),
        ("limits", {"head_bytes": "512B"}, "from 1KiB to 64KiB"),
        ("limits", {"body_bytes": 5}, "expected a size"),
        ("timeouts", {"keep_alive": "0s"}, "from 1ms to 168h"),
        ("timeouts", {"keep_alive": None}, "expected a duration"),
        ("timeouts", 5, "expected a map"),
        ("address", None, "expected an address"),
        ("trusted_proxies", "10.0.0.0/8", "expected a list"),
    ],
)
def test_what_is_refused(field: str, value: object, sentence: str) -> None:
    assert sentence in refusal("listener", {**ADDRESS, field: value})
