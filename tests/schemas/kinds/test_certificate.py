import pytest

from schemas.kinds.certificate import LETS_ENCRYPT, Certificate
from tests.schemas.refusals import refusal

PATHS = {"certificate": "tls/shop.crt", "private_key": "/etc/ssl/private/shop.key"}


def test_hostnames_come_from_the_file_unless_they_are_given() -> None:
    brought = Certificate.model_validate(PATHS)
    assert brought.value() == {field: {"path": path} for field, path in PATHS.items()}
    assert brought.hostnames is None


def test_hostnames_are_sorted_and_each_once() -> None:
    names = ["Shop.example.com.", "*.example.com", "bücher.example", "shop.example.com"]
    found = Certificate.model_validate({**PATHS, "hostnames": names}).value()
    assert found["hostnames"] == ["*.example.com", "shop.example.com", "xn--bcher-kva.example"]


@pytest.mark.parametrize("name", ["*", "[::1]", "a..b", "", 7, "f*.example.com"])
def test_what_is_no_hostname_of_a_certificate(name: object) -> None:
    assert "expected" in refusal("certificate", {**PATHS, "hostnames": [name]})


def test_no_hostnames_are_none() -> None:
    assert "the list is empty" in refusal("certificate", {**PATHS, "hostnames": []})


def test_both_files_are_needed() -> None:
    for field, path in PATHS.items():
        assert refusal("certificate", {field: path})


def ordered(**fields: object) -> dict[str, object]:
    return {"acme": {}, "hostnames": ["shop.example.com"], **fields}


def test_an_order_has_defaults_and_no_files() -> None:
    assert Certificate.model_validate(ordered()).in_full() == {
        "acme": {"ca": None, "challenge": "http-01", "contact": [], "directory": LETS_ENCRYPT},
        "certificate": None,
        "hostnames": ["shop.example.com"],
        "ocsp": None,
        "private_key": None,
    }


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"hostnames": None}, '"hostnames" is missing'),
        ({"hostnames": ["*.example.com"]}, "*.example.com cannot be ordered"),
        ({"certificate": "a.crt"}, "certificate: with acme, the files are not yours to bring"),
        ({"private_key": "a.key"}, "private_key: with acme"),
        ({"ocsp": "a.der"}, "ocsp: with acme"),
        ({"acme": {"challenge": "dns-01"}}, 'expected "http-01" or "tls-alpn-01"'),
        ({"acme": {"directory": "http://ca.test/dir"}}, "over https alone"),
        ({"acme": {"directory": "https://a:b@ca.test/"}}, "expected a URL"),
        ({"acme": {"directory": "ca.test"}}, "expected a URL"),
        ({"acme": {"directory": 7}}, "expected a URL"),
        ({"acme": {"ca": "ca.pem"}}, "is relative"),
        ({"acme": {"contact": ["mailto:a@b.test"]}}, "is more than an address"),
        ({"acme": {"contact": ["nobody"]}}, 'expected an address like "ops@example.com"'),
    ],
)
def test_what_cannot_be_ordered(fields: dict[str, object], sentence: str) -> None:
    assert sentence in refusal("certificate", ordered(**fields))
