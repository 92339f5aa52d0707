import pytest

from schemas.certificate import Certificate
from tests.schemas.refusals import refusal

PATHS = {"certificate": "tls/shop.crt", "private_key": "/etc/ssl/private/shop.key"}


def test_hostnames_come_from_the_file_unless_they_are_given() -> None:
    assert Certificate.model_validate(PATHS).value() == {**PATHS, "hostnames": None}


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
