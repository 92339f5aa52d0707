"""Templates: texts in which values of a request stand in braces, `{client_address}`.

A closed set of values, and the groups of the regex by which a path is matched. `{{` and `}}` are
braces. The engine expands them (`proxy/engine/src/policy/changes/template.rs`); here is told what
is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

from schemas.base import fault, shown

VALUES = (
    "client_address",
    "client_certificate_subject",
    "frontend",
    "hostname",
    "listener",
    "path",
    "query",
    "request_id",
    "scheme",
    "tls_version",
)
TAKING_A_NAME = ("cookie", "header")
TEXT_CHARS_MAX = 4096

_IN_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_GROUP = re.compile(r"[0-9]{1,3}|[A-Za-z_][A-Za-z0-9_]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VARIABLE = re.compile(
    r"\$\{?(host|http_host|remote_addr|scheme|request_uri|uri|args|query_string|request_id|"
    r"ssl_protocol)\b\}?"
)
_FETCHED = re.compile(
    r"%(?:\{[^{}]*\})?\[([^\],]*)[^\]]*\]|%[A-Z_]{3,}(?:\([^()]*\))?(?::[0-9]+)?%"
)
"""What HAProxy and Envoy put in: `%[src]`, `%{+Q}[ssl_c_s_dn]`, `%REQ(…)%`."""
_MEANT = {
    "src": "{client_address}",
    "req.hdr(host)": "{hostname}",
    "hdr(host)": "{hostname}",
    "path": "{path}",
    "query": "{query}",
    "ssl_c_s_dn": "{client_certificate_subject}",
    "ssl_fc_protocol": "{tls_version}",
    "unique-id": "{request_id}",
    "host": "{hostname}",
    "http_host": "{hostname}",
    "remote_addr": "{client_address}",
    "scheme": "{scheme}",
    "request_uri": "{path}",
    "uri": "{path}",
    "args": "{query}",
    "query_string": "{query}",
    "request_id": "{request_id}",
    "ssl_protocol": "{tls_version}",
}


def check_template(value: object) -> str:
    """Return a text whose braces make sense; `check_groups` asks whether a group is there."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value.values())) is None:
        name = next(iter(value))
        raise fault("a text with braces wants quotes", f'write "{{{name}}}"')
    if not isinstance(value, str):
        hint = f'write it in quotes: "{shown(value)}"' if isinstance(value, (int, float)) else None
        raise fault(f"expected text, not {shown(value)}", hint)
    if len(value) > TEXT_CHARS_MAX:
        raise fault(f"the text is too long: at most {TEXT_CHARS_MAX} characters")
    check_printable(value, "header and no path")
    variable = _VARIABLE.search(value)
    if variable is not None:
        raise fault(f'"{variable[0]}" is no value here', f'write "{_MEANT[variable[1]]}"')
    fetched = _FETCHED.search(value)
    if fetched is not None:
        meant = _MEANT.get(fetched[1] or "")
        hint = f'write "{meant}"' if meant else f"known: {', '.join(VALUES)}"
        raise fault(f'"{fetched[0]}" is no value here', hint)
    for found in _IN_BRACES.finditer(value):
        if found[0] in ("{", "}"):
            raise fault(f'the "{found[0]}" stands alone', f'a brace is written "{found[0] * 2}"')
        if found[1] is not None:
            _check_name(found[1])
    return value


def check_printable(value: str, what: str) -> None:
    """Raise a fault about a text with a control character, which nothing of that sort has."""
    control = _CONTROL.search(value)
    if control is not None:
        # Not the value itself: an error is read by more people, and it may be a password.
        where = f"character {control.start() + 1} is U+{ord(control[0]):04X}"
        way_out = "write it on one line" if control[0] in "\r\n" else "leave it out"
        message = f"the text has a control character, which no {what} has"
        raise fault(message, f"{where}: {way_out}")


def check_groups(text: str, groups: frozenset[str], at: tuple[str | int, ...] = ()) -> None:
    """Raise a fault when a template names a group that the path's regex does not have.

    `at` is the way to it from what is checked.
    """
    for name in named(text):
        if ":" in name or name in VALUES or name in groups:
            continue
        close = get_close_matches(name, [*VALUES, *groups], n=1)
        hint = f'did you mean "{{{close[0]}}}"?' if close else f"known: {', '.join(VALUES)}"
        if name.isdecimal():
            hint = "groups are those of path: {regex: …}"
        raise fault(f"{{{name}}} is neither a value nor a group of the path's regex", hint, at)


def named(text: str) -> Iterator[str]:
    """Yield what stands in the braces of a template."""
    return (found[1] for found in _IN_BRACES.finditer(text) if found[1] is not None)


def without_values(text: str) -> str:
    """Return what is written in a template beside its values."""
    return _IN_BRACES.sub(lambda found: found[0][0] if found[1] is None else "", text)


def keeping(text: str, names: frozenset[str]) -> str:
    """Return a template in which some values, named in lower case, stand for themselves."""
    return _IN_BRACES.sub(
        lambda found: f"{{{found[0]}}}" if (found[1] or "").lower() in names else found[0], text
    )


def _check_name(name: str) -> None:
    kind, colon, of = name.partition(":")
    if colon:
        if kind not in TAKING_A_NAME or not _TOKEN.fullmatch(of):
            known = "with a name there are {header:NAME} and {cookie:NAME}"
            raise fault(f"{{{name}}} is no value", known)
    elif name in TAKING_A_NAME:
        raise fault(f"{{{name}}} wants a name", f"write {{{name}:NAME}}")
    elif not _GROUP.fullmatch(name):
        raise fault(f"{{{name}}} is no value", f"known: {', '.join(VALUES)}")
