"""Secrecy: what of a configuration is a secret, and how it is shown. Decided here and nowhere else.

A secret is the hash of a private key, and the value that a frontend asks of a header, a query
parameter or a cookie, or that it or a policy gives to a header, by whose name one expects a
credential. Called by whoever shows values to people: the differ (plan, history), `show` and
`explain`. Pure.
"""

from __future__ import annotations

import re

from schemas.entities.entity import Json

HIDDEN = "(secret)"

_PRIVATE_KEY = ("private_key", "sha256")
_MATCHES = ("cookies", "headers", "query")
"""The fields of a frontend whose keys are names that are chosen by whoever sends the request."""
_EDITS = ("request_headers", "response_headers")
_PLAIN = ("answers", "not", "present")
"""What is said of a value without telling it."""

_CREDENTIAL_NAME = re.compile(
    r"(?:proxy-)?authorization|cookie|.*(?:token|secret|key|password|credential).*", re.IGNORECASE
)
_SESSION_NAME = re.compile(r".*(?:sess|sid|auth|jwt).*", re.IGNORECASE)
_URL_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/?#\s'\"]*)@")


def names_credential(name: str) -> bool:
    """Whether the value of a header or query parameter of this name is taken for a credential."""
    return _CREDENTIAL_NAME.fullmatch(name) is not None


def is_secret(kind: str, path: tuple[str, ...]) -> bool:
    """Whether what stands at a path through the value of an entity is a secret."""
    if kind in ("frontend", "policy"):
        # The name of the field: below `headers`, or below `request_headers.set`.
        if len(path) <= 2 or path[0] not in (*_MATCHES, *_EDITS) or path[-1] in _PLAIN:
            return False
        name = path[1 if path[0] in _MATCHES else 2]
        is_session = path[0] == "cookies" and _SESSION_NAME.fullmatch(name) is not None
        return is_session or names_credential(name)
    return path[-2:] == _PRIVATE_KEY


def without_secrets(kind: str, value: Json, path: tuple[str, ...] = ()) -> Json:
    """Return what stands at a path through the value of an entity as it may be shown."""
    if isinstance(value, dict):
        return value_without_secrets(kind, value, path)
    return HIDDEN if value is not None and is_secret(kind, path) else value


def value_without_secrets(
    kind: str, value: dict[str, Json], path: tuple[str, ...] = ()
) -> dict[str, Json]:
    """Return the same of a whole value, or of a map within one."""
    return {name: without_secrets(kind, item, (*path, name)) for name, item in value.items()}


def without_credentials(text: str) -> str:
    """Return a text with the users and passwords of its URLs hidden; the user of ssh is none."""
    return _URL_USER.sub(_without_user, text)


def _without_user(found: re.Match[str]) -> str:
    user, colon, _ = found["user"].partition(":")
    if found["scheme"].endswith("ssh"):
        return f"{found['scheme']}://{user}{colon and colon + HIDDEN}@"
    return f"{found['scheme']}://{HIDDEN}@"
