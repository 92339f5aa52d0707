"""Subjects of certificates as text (RFC 4514), in one form for whatever tool has printed them.

The engine writes those that it sees in the same form (`proxy/engine/src/tls/subject.rs`), so that
the two are compared as texts. For `schemas.policies.client_certificate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "SN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "title",
    "2.5.4.42": "GN",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
    "2.5.4.13": "description",
    "2.5.4.15": "businessCategory",
    "2.5.4.17": "postalCode",
    "2.5.4.20": "telephoneNumber",
    "2.5.4.41": "name",
    "2.5.4.43": "initials",
    "2.5.4.44": "generationQualifier",
    "2.5.4.45": "x500UniqueIdentifier",
    "2.5.4.46": "dnQualifier",
    "2.5.4.65": "pseudonym",
    "2.5.4.72": "role",
    "2.5.4.97": "organizationIdentifier",
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.3.6.1.4.1.311.60.2.1.1": "jurisdictionL",
    "1.3.6.1.4.1.311.60.2.1.2": "jurisdictionST",
    "1.3.6.1.4.1.311.60.2.1.3": "jurisdictionC",
}
"""What attributes are called; any other by its number, and its value in hexadecimal digits."""
_OTHERS = {
    "commonname": "CN",
    "countryname": "C",
    "domaincomponent": "DC",
    "e": "emailAddress",
    "email": "emailAddress",
    "givenname": "GN",
    "localityname": "L",
    "organizationname": "O",
    "organizationalunitname": "OU",
    "s": "ST",
    "stateorprovincename": "ST",
    "streetaddress": "STREET",
    "surname": "SN",
    "userid": "UID",
}
_KNOWN = {name.lower(): name for name in NAMES.values()} | _OTHERS | NAMES
_PART = re.compile(
    r"\s*(?P<name>[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)="
    r"(?P<value>(?:\\[0-9A-Fa-f]{2}|\\.|[^\\,+\"<>;])*)(?P<end>[,+]|$)"
)
_LEVEL = re.compile(r"(?:[^\\,]|\\.)+")
# Of what is around whom a certificate names.
_WIDE = {"C", "ST", "L", "O", "OU", "DC", "STREET", "postalCode"}
_ESCAPED = re.compile(rb"\\([0-9A-Fa-f]{2})|\\(.)", re.DOTALL)
_SPECIAL = re.compile(r'([,+"\\<>;])')


def canonical(text: str) -> str:
    """Return a subject in the form in which it is compared. Raises `ValueError`."""
    levels: list[list[str]] = [[]]
    for name, value, end in _parts(text):
        levels[-1].append(f"{name}={value}")
        if end == ",":
            levels.append([])
    return ",".join("+".join(sorted(level)) for level in levels)


def the_other_way_round(subject: str) -> str | None:
    """Return the subject in the other order, where it is surely not meant as it is written.

    The text of a subject begins with what is nearest to whom it names; most tools print it the
    other way round unless they are asked, from the country or the organization on. `subject` is in
    the form of `canonical`.
    """
    levels = _LEVEL.findall(subject)
    is_name = [each.partition("=")[0] == "CN" for each in levels]
    if len(levels) < 2 or not is_name[-1] or any(is_name[:-1]):
        return None
    return ",".join(levels[::-1]) if levels[0].partition("=")[0] in _WIDE else None


def _parts(text: str) -> Iterator[tuple[str, str, str]]:
    place, end = 0, ","
    while end:
        found = _PART.match(text, place)
        if found is None:
            raise ValueError("it is no subject")
        place, end = found.end(), found["end"]
        name, value = _name(found["name"]), found["value"]
        if name not in NAMES.values():
            # As it is encoded, which nobody has to know.
            if not re.fullmatch(r"#(?:[0-9A-Fa-f]{2})+", value):
                raise ValueError("of what has no name the encoded value is compared")
            yield name, value.lower(), end
            continue
        raw = value.encode()
        plain = _ESCAPED.sub(lambda one: bytes.fromhex(one[1].decode()) if one[1] else one[2], raw)
        yield name, _written(plain.decode()), end


def _name(written: str) -> str:
    known = _KNOWN.get(written.lower())
    if known is None and not written[0].isdigit():
        raise ValueError("it is no attribute")
    return known or written


def _written(value: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", value)
    escaped = "".join(f"\\{ord(each):02x}" if ord(each) < 0x20 else each for each in escaped)
    if escaped.endswith(" "):
        escaped = f"{escaped[:-1]}\\ "
    return f"\\{escaped}" if escaped.startswith((" ", "#")) else escaped
