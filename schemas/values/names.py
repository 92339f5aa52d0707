"""The grammars of names, hostnames, addresses and networks: text in, canonical text out.

Used by the models only. Each function either returns the one canonical spelling, so that two
spellings of one thing are equal in the state, or raises a `fault` that says what was expected.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, TypeGuard

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from schemas.base import fault, shown

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
NAME_EXPECTED = (
    "a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins with a letter or a digit"
)
HOSTNAME_CHARS_MAX = 253  # RFC 1035 §2.3.4, without the root's dot
LABEL_CHARS_MAX = 63
TOKEN_CHARS_MAX = 256
ANY_IPV4 = str(ipaddress.IPv4Address(0))

_BROADCAST = ipaddress.IPv4Address(0xFFFFFFFF)

_NAME = re.compile(NAME_PATTERN)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PORTS = re.compile(r"[0-9]+(?:[-:,][0-9]+)+")
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)+")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


def is_name(value: object) -> TypeGuard[str]:
    """Say whether a value is a name of an entity."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def parse_name(value: object) -> str:
    """Return a name of an entity, which must be canonical as written."""
    if not is_name(value):
        hint = _name_hint(value) if isinstance(value, str) else None
        raise fault(f"{shown(value)} is not a name: {NAME_EXPECTED}", hint)
    return value


def parse_hostname(value: object) -> str:
    """Return a hostname, `*.` and a hostname, or `*`: lower case, ASCII, without a final dot."""
    expected = 'expected a hostname like "shop.example.com", "*.example.com", or "*" for any'
    if not isinstance(value, str):
        raise fault(f"{expected}, not {shown(value)}")
    if value == "*":
        return value
    if value.startswith("[") and value.endswith("]"):
        return _literal_hostname(value)
    wildcard, plain = ("*.", value[2:]) if value.startswith("*.") else ("", value)
    ascii_name = ascii_hostname(plain.lower().removesuffix("."))
    if ascii_name is None or len(wildcard + ascii_name) > HOSTNAME_CHARS_MAX:
        raise fault(f"{expected}, not {shown(value)}", _hostname_hint(value))
    return wildcard + ascii_name


def parse_address(value: object, *, to_connect: bool = False) -> str:
    """Return an address as `IP:port`, IPv6 in brackets, each in its canonical spelling."""
    expected = 'expected an address like "127.0.0.1:8080" or "[::1]:8080"'
    if not isinstance(value, str):
        raise fault(f"{expected}, not {shown(value)}", _port_hint(str(value), to_connect))
    host, _, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise fault(f"{expected}, not {shown(value)}", _address_hint(value, to_connect)) from None
    if bracketed != (ip.version == 6):
        raise fault(f"{expected}, not {shown(value)}", _address_hint(value, to_connect))
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise fault(f"{shown(value)} has no valid port: it must be 1 to 65535", _range_hint(port))
    return f"[{_plain_ip(ip)}]:{port}" if bracketed else f"{ip}:{port}"


def _listened(address: str) -> str:
    """Return an address as it is, unless no connection of TCP can come to it."""
    ip, port = split_address(address)
    if not ip.is_multicast and ip != _BROADCAST:
        return address
    every = f"{ANY_IPV4}:{port}" if ip.version == 4 else f"[::]:{port}"
    reason = f"{shown(address)} is an address for many hosts, to which no connection can come"
    raise fault(reason, f'write an address of this machine, or "{every}" for any')


def parse_network(value: object) -> str:
    """Return a network as `IP/bits`; a single address stands for itself."""
    expected = 'expected a network like "10.0.0.0/8" or "fd00::/8"'
    if not isinstance(value, str):
        raise fault(f"{expected}, not {shown(value)}")
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        raise fault(f"{expected}, not {shown(value)}", _network_hint(value)) from None
    _plain_ip(interface.ip)
    network = interface.network
    if interface.ip != network.network_address:
        raise fault(f"{shown(value)} is an address in a network", f'did you mean "{network}"?')
    return str(network)


def parse_method(value: object) -> str:
    """Return a request method: RFC 9110 has them case-sensitive, and all known are upper case."""
    if not is_token(value):
        raise fault(f'expected a method like "GET" or "POST", not {shown(value)}')
    if value == "*":
        raise fault('"*" is no method', "leave methods out for all of them")
    if value != value.upper():
        raise fault(f"{shown(value)} is not upper case", f'did you mean "{value.upper()}"?')
    if value == "CONNECT":
        raise fault("CONNECT cannot lead to a cluster: Kakehi is a reverse proxy")
    return value


def parse_header_name(value: object) -> str:
    """Return the name of a header field in lower case."""
    if not is_token(value):
        raise fault(f'expected the name of a header like "x-tier", not {shown(value)}')
    if value.lower() == "host":
        raise fault("the Host header is not matched here", 'match it with "hostname:"')
    return value.lower()


def is_token(value: object) -> TypeGuard[str]:
    """Say whether a value is a token (RFC 9110 §5.6.2), as methods and header names are."""
    return (
        isinstance(value, str)
        and len(value) <= TOKEN_CHARS_MAX
        and _TOKEN.fullmatch(value) is not None
    )


def port_of(address: str) -> str:
    """Return the port of an address in canonical form, as text."""
    return address.rpartition(":")[2]


def split_address(address: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """Take a canonical address apart again."""
    host, _, port = address.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")), int(port)


Name = Annotated[
    str,
    BeforeValidator(parse_name),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"}),
]
Hostname = Annotated[str, BeforeValidator(parse_hostname)]
ADDRESS_PATTERN = r"([0-9.]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}"
Address = Annotated[
    str,
    BeforeValidator(parse_address),
    WithJsonSchema({"type": "string", "pattern": f"^{ADDRESS_PATTERN}$"}),
]
Listened = Annotated[Address, AfterValidator(_listened)]
"""Of addresses those at which clients can come."""
Network = Annotated[str, BeforeValidator(parse_network)]
Method = Annotated[str, BeforeValidator(parse_method)]


def _sorted_unique(values: list[str]) -> list[str]:
    return sorted(set(values))


SortedUnique = AfterValidator(_sorted_unique)
"""For lists whose order means nothing: sorting them makes two spellings one value."""

POLICIES_MAX = 8
Policies = Annotated[
    list[Name],
    SortedUnique,
    Field(
        max_length=POLICIES_MAX,
        description=(
            "Policies whose word counts here. The frontend's own word goes before its policies', "
            "and these before those of the listener."
        ),
        examples=[["secure"]],
    ),
]


def _plain_ip(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    # Zones name an interface of one machine, and mapped addresses are spelled differently by
    # Python and Rust: neither can be part of a canonical value.
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id:
        raise fault(f"{shown(str(ip))} has a zone, which cannot be part of a configuration")
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        raise fault(f"{shown(str(ip))} is an IPv4 address", f'write "{ip.ipv4_mapped}"')
    return str(ip)


def _literal_hostname(value: str) -> str:
    try:
        return f"[{_plain_ip(ipaddress.IPv6Address(value[1:-1]))}]"
    except ValueError:
        raise fault(f"expected an IPv6 address in the brackets, not {shown(value)}") from None


def ascii_hostname(name: str) -> str | None:
    """Return a hostname as it travels, by IDNA where it has letters of other scripts."""
    if not name.isascii():
        # Its tables take as long to load as all models of a kind, and most names are ASCII.
        import idna  # noqa: PLC0415

        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError:
            return None
    labels = name.split(".")
    if all(len(label) <= LABEL_CHARS_MAX and _LABEL.fullmatch(label) for label in labels):
        return name
    return None


def _name_hint(value: str) -> str | None:
    better = re.sub(r"[^a-z0-9._-]+", "-", value.lower()).strip("-._")[:63]
    return f'did you mean "{better}"?' if _NAME.fullmatch(better) else None


def _network_hint(value: str) -> str | None:
    if value.lower() in ("*", "all", "any", "everyone"):
        return f'every client is "{ANY_IPV4}/0" and "::/0"'
    return None


def _hostname_hint(value: str) -> str | None:
    if "://" in value or "/" in value:
        return 'a hostname has no scheme and no path; the path is matched with "path:"'
    if ":" in value:
        return "a hostname has no port; the port belongs to the listener"
    if "*" in value:
        return 'a "*" can only stand for the first labels, as in "*.example.com"'
    if value.startswith("."):
        name = value.removeprefix(".")
        return f'write hostnames: [{name}, "*.{name}"], or one of both'
    if value.startswith("~") or any(char in value for char in "^$\\()|"):
        return 'a hostname is no expression: name each in hostnames:, or all below one by "*.name"'
    return None


def _address_hint(value: str, to_connect: bool) -> str | None:
    if value.startswith(("unix:", "/", "@")):
        if to_connect:
            return 'did you mean "unix:/run/app.sock"? It begins by "unix:", and has the whole path'
        return "clients come by TCP, and by no Unix socket: write IP address and port"
    scheme, _, rest = value.rpartition("://")
    if scheme:
        return _url_hint(rest.partition("/")[0])
    host, _, port = value.rpartition(":")
    has_port = _PORT.fullmatch(port) is not None
    if host in ("", "*") and has_port:
        return _port_hint(value, to_connect) or _which_address(port, to_connect)
    if host == "localhost" and has_port:
        return f'did you mean "127.0.0.1:{port}"?'
    if host in ("", "*") and _range_hint(port):
        return _range_hint(port)
    bare = host.strip("[]")
    ip = _ip(bare)
    if ip is not None and has_port:
        # Either brackets around IPv4, or none around IPv6.
        return f'did you mean "{f"[{ip}]" if ip.version == 6 else ip}:{port}"?'
    ip = _ip(value.strip("[]"))
    if ip is not None:
        return f'the port is missing: "{f"[{ip}]" if ip.version == 6 else ip}:8080"'
    name = host if ":" in value else value
    if _NUMBERS.fullmatch(name):
        return "an IPv4 address is four numbers from 0 to 255, none with a leading zero"
    if ascii_hostname(name.lower()):
        return "hostnames are not resolved: write the IP address" + ("" if host else " and a port")
    return None


def _url_hint(authority: str) -> str:
    try:
        return f'an address has no scheme and no path; did you mean "{parse_address(authority)}"?'
    except PydanticCustomError:
        return "an address has no scheme and no path: write IP address and port"


def _port_hint(text: str, to_connect: bool) -> str | None:
    if not _PORT.fullmatch(text):
        return None
    every = "" if to_connect else f', or "{ANY_IPV4}:{text}" for any'
    return f'write the IP address too: "127.0.0.1:{text}"{every}'


def _which_address(port: str, to_connect: bool) -> str:
    if to_connect:
        return f'write the IP address of the host: "127.0.0.1:{port}" for this machine'
    return f'write "{ANY_IPV4}:{port}" for every IPv4 address, "[::]:{port}" for every IPv6 one'


def _range_hint(port: str) -> str | None:
    """Say how to write what is more than one port, or any."""
    if _PORTS.fullmatch(port):
        return "an address has one port: write an entry for each"
    if port.strip("0") == "" and port:
        return "a port of the system's choice would be another one at each start: name one"
    return None


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that somebody may have meant."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    return None if ip.scope_id else ip.ipv4_mapped or ip
