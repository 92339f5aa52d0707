import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from schemas.values import names


def hint_of(error: PydanticCustomError) -> str:
    assert error.context is not None
    return str(error.context["hint"])


@pytest.mark.parametrize("name", ["a", "0", "shop-1", "a.b_c-d", "x" * 63])
def test_names(name: str) -> None:
    assert names.parse_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", ".a", "A", "a b", "a/b", "é", "x" * 64, "a\n", 5, None])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(PydanticCustomError, match="is not a name"):
        names.parse_name(name)


def test_a_wrong_name_gets_a_better_one() -> None:
    with pytest.raises(PydanticCustomError) as caught:
        names.parse_name("Shop Web!")
    assert hint_of(caught.value) == 'did you mean "shop-web"?'


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("*", "*"),
        ("Shop.Example.COM", "shop.example.com"),
        ("shop.example.com.", "shop.example.com"),
        ("*.Example.com", "*.example.com"),
        ("café.fr", "xn--caf-dma.fr"),
        ("my_service", "my_service"),
        ("127.0.0.1", "127.0.0.1"),
        ("[0:0::1]", "[::1]"),
    ],
)
def test_hostnames(written: str, canonical: str) -> None:
    assert names.parse_hostname(written) == canonical
    assert names.parse_hostname(canonical) == canonical


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("https://shop.example.com", "no scheme"),
        ("shop.example.com/cart", "no scheme and no path"),
        ("shop.example.com:80", "no port"),
        ("shop.*.com", '"*.example.com"'),
        ("a..b", ""),
        ("-a.com", ""),
        ("a" * 64, ""),
        ("a." * 127 + "a", ""),
        ("[::1", ""),
        ("", ""),
        (8, ""),
    ],
)
def test_what_is_no_hostname(wrong: object, hint: str) -> None:
    with pytest.raises(PydanticCustomError, match="expected a hostname") as caught:
        names.parse_hostname(wrong)
    assert hint in hint_of(caught.value)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("0.0.0.0:80", "0.0.0.0:80"), ("[0:0:0::1]:443", "[::1]:443"), ("[::]:65535", "[::]:65535")],
)
def test_addresses(written: str, canonical: str) -> None:
    assert names.parse_address(written) == canonical


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("localhost:80", '"127.0.0.1:80"'),
        (":80", '"0.0.0.0:80"'),
        ("127.0.0.1", '"127.0.0.1:8080"'),
        ("::1", '"[::1]:8080"'),
        ("shop.internal:80", "not resolved"),
        ("[127.0.0.1]:80", ""),
        ("127.0.0.01:80", ""),
        ("", ""),
        (80, ""),
    ],
)
def test_what_is_no_address(wrong: object, hint: str) -> None:
    with pytest.raises(PydanticCustomError, match="expected an address") as caught:
        names.parse_address(wrong)
    assert hint in hint_of(caught.value)


@pytest.mark.parametrize("port", ["0", "65536", "080", "+80", "8 0", "٨٠"])
def test_ports(port: str) -> None:
    with pytest.raises(PydanticCustomError, match="no valid port"):
        names.parse_address(f"127.0.0.1:{port}")


def test_addresses_that_are_spelled_differently_elsewhere_are_refused() -> None:
    with pytest.raises(PydanticCustomError, match="is an IPv4 address") as caught:
        names.parse_address("[::ffff:10.0.0.1]:80")
    assert hint_of(caught.value) == 'write "10.0.0.1"'
    with pytest.raises(PydanticCustomError, match="has a zone"):
        names.parse_address("[fe80::1%eth0]:80")


@given(st.ip_addresses(), st.integers(1, 65_535))
def test_an_address_is_its_own_canonical_form(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    written = f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}"
    try:
        canonical = names.parse_address(written)
    except PydanticCustomError:
        assert isinstance(ip, ipaddress.IPv6Address)
        assert ip.ipv4_mapped is not None
        return
    assert canonical == written
    assert names.split_address(canonical) == (ip, port)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("0:0::1", "::1/128")],
)
def test_networks(written: str, canonical: str) -> None:
    assert names.parse_network(written) == canonical


def test_an_address_within_a_network_is_no_network() -> None:
    with pytest.raises(PydanticCustomError) as caught:
        names.parse_network("10.0.0.1/8")
    assert hint_of(caught.value) == 'did you mean "10.0.0.0/8"?'
    for wrong in ("10.0.0.0/33", "x", 5):
        with pytest.raises(PydanticCustomError, match="expected a network"):
            names.parse_network(wrong)


def test_methods_are_upper_case_tokens() -> None:
    assert names.parse_method("M-SEARCH") == "M-SEARCH"
    with pytest.raises(PydanticCustomError) as caught:
        names.parse_method("get")
    assert hint_of(caught.value) == 'did you mean "GET"?'
    for wrong in ("G ET", "", 5, "X" * 257):
        with pytest.raises(PydanticCustomError, match="expected a method"):
            names.parse_method(wrong)
    with pytest.raises(PydanticCustomError, match="reverse proxy"):
        names.parse_method("CONNECT")


def test_header_names_are_lower_case_tokens() -> None:
    assert names.parse_header_name("X-Tier") == "x-tier"
    with pytest.raises(PydanticCustomError) as caught:
        names.parse_header_name("Host")
    assert hint_of(caught.value) == 'match it with "hostname:"'
    for wrong in ("a b", "", "é", None):
        with pytest.raises(PydanticCustomError, match="name of a header"):
            names.parse_header_name(wrong)
