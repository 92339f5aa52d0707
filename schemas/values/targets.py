"""Where backends are: IP address and port, a Unix socket, a name with a port, or an SRV record.

Used by the backend's model only. Text in, the one canonical text out, as in `names`.
"""

from __future__ import annotations

import posixpath
import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from schemas.base import fault, shown
from schemas.values.names import ADDRESS_PATTERN, ascii_hostname, parse_address

PORT_MAX = 65_535
UNIX = "unix:"
SRV = "srv:"
PATH_BYTES_MAX = 107
"""What the kernel takes (`sun_path`), without the byte that ends it."""

_LETTER = re.compile("[a-z]")
_PORT = re.compile("[1-9][0-9]{0,4}")
_PATH = re.compile(r"(/[^/\x00-\x20\x7f]+)+")
UNIX_PATTERN = rf"{UNIX}(/[^/\s]+)+"
_OF_NAMES = rf"{SRV}_.+|[A-Za-z0-9_.-]+:[1-9][0-9]{{0,4}}"


def parse_target(value: object) -> str:
    """Return an address to connect to: that of one host, or where hosts are found."""
    if not isinstance(value, str):
        return parse_address(value, to_connect=True)
    if value.startswith(UNIX):
        return _unix(value)
    if value.startswith(SRV):
        return _srv(value)
    host, _, port = value.rpartition(":")
    name = ascii_hostname(host.lower().removesuffix("."))
    # What is of this machine has an address that nobody has to be asked for.
    if name is None or name == "localhost" or not (is_name(name) and _PORT.fullmatch(port)):
        return parse_address(value, to_connect=True)
    if int(port) > PORT_MAX:
        raise fault(f"{shown(value)} has no valid port: it must be 1 to {PORT_MAX}")
    return f"{name}:{port}"


def is_name(host: str) -> bool:
    """Say whether what stands before a port is a name, and no IP address."""
    return not host.startswith("[") and _LETTER.search(host.rpartition(".")[2]) is not None


def is_unix(address: str) -> bool:
    """Say whether an address is that of a Unix socket."""
    return address.startswith(UNIX)


def is_named(address: str) -> bool:
    """Say whether an address is a name that others know the addresses of."""
    host = address.rpartition(":")[0]
    return address.startswith(SRV) or (not is_unix(address) and is_name(host))


def _unix(value: str) -> str:
    path = value.removeprefix(UNIX)
    expected = 'expected a socket like "unix:/run/app.sock"'
    if path.startswith("@"):
        hint = "an abstract socket has no owner, and whoever is first has it: give it a path"
        raise fault(f"{expected}, not {shown(value)}", hint)
    if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
        better = posixpath.normpath(path).replace("//", "/")
        hint = "write the whole path, from / on"
        if _PATH.fullmatch(better):
            hint = f'did you mean "{UNIX}{better}"?'
        raise fault(f"{expected}, not {shown(value)}", hint)
    if len(path.encode()) > PATH_BYTES_MAX:
        hint = "the system takes no longer one: put it into a shorter directory"
        raise fault(f"the path of a socket has at most {PATH_BYTES_MAX} bytes", hint)
    return value


def _srv(value: str) -> str:
    expected = 'expected an SRV record like "srv:_http._tcp.app.internal"'
    name = ascii_hostname(value.removeprefix(SRV).lower().removesuffix(".")) or ""
    labels = name.split(".")
    if len(labels) < 3 or not all(label.startswith("_") for label in labels[:2]):
        raise fault(f"{expected}, not {shown(value)}", "the record itself says the ports")
    return f"{SRV}{name}"


Target = Annotated[
    str,
    BeforeValidator(parse_target),
    WithJsonSchema(
        {"type": "string", "pattern": f"^({ADDRESS_PATTERN}|{UNIX_PATTERN}|{_OF_NAMES})$"}
    ),
]
