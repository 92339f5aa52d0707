"""The reference of the language in Markdown, out of the models: every key, its form, its default.

Written to `docs/reference.md` by `schemas.jsonschema`. What the models do not say (how files are
put together, what the forms look like) stands here as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BeforeValidator, WithJsonSchema
from pydantic.fields import FieldInfo

from schemas import names
from schemas.base import Model
from schemas.frontend import OneOf
from schemas.kinds import MODELS, inner_model, measure, parts
from schemas.material import parse_file, parse_path, parse_staple
from schemas.regex import check_regex

_HEAD = """\
# Reference of the configuration language

<!-- Generated from `schemas/` by `python -m schemas.jsonschema --write`. Do not edit. -->

A configuration is all `*.yaml` files of a directory and the directories under it; hidden ones are
left out. Any file may hold any of the maps below, and where a file lies means nothing. A name is
unique per kind in the whole directory. An unknown key is an error.

Files are read as YAML 1.2, without anchors, aliases, tags and merge keys, one document a file. A
plain text that readers of YAML take for different things (`010`, `1_000`, `2024-01-02`) is an
error: write a decimal number, or text in quotes. An address within `{ }` needs quotes.

| form | looks like |
|---|---|
| name | 1 to 63 of `a-z`, `0-9`, `.`, `_`, `-`; begins with a letter or a digit |
| duration | a whole number and `ms`, `s`, `m` or `h`: `250ms`, `30s`, `5m`, `1h` |
| size | a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`: `64KiB`, `1MiB` |
| path | of a file: `tls/shop.crt` is relative to the config directory, `/etc/…` is absolute |
| address | IP address and port: `127.0.0.1:8080`, `[::1]:8080` |
| network | IP address and bits: `10.0.0.0/8`, `fd00::/8` |
| regex | the syntax of Rust's `regex`, matched against the whole text; no look-around, no \
back-references |
"""

_INTRODUCTIONS = {
    "listener": (
        "## Listeners",
        """\
listeners:
  public-http:
    address: 0.0.0.0:8080
  public-https:
    address: 0.0.0.0:8443
    protocol: https
""",
    ),
    "cluster": (
        "## Clusters",
        """\
clusters:
  shop:
    load_balancing: least_connections
    backends:
      shop-1:
        address: 127.0.0.1:9001
      shop-2:
        address: 127.0.0.1:9002
        weight: 50
""",
    ),
    "backend": (
        "## Backends",
        "clusters:\n  shop:\n    backends:\n      shop-1:\n        address: 127.0.0.1:9001\n",
    ),
    "frontend": (
        "## Frontends",
        """\
frontends:
  shop-web:
    listeners: [public-http, public-https]
    hostname: shop.example.com
    path: {prefix: /}
    cluster: shop
""",
    ),
    "certificate": (
        "## Certificates",
        """\
certificates:
  shop:
    certificate: tls/shop.crt
    private_key: /etc/kakehi/keys/shop.key
  ordered:
    acme: {contact: [ops@example.com]}
    hostnames: [shop.example.com]
""",
    ),
    "settings": ("## Settings", "settings:\n  workers: auto\n  max_connections: 10000\n"),
}

_REMARKS = {
    "certificate": (
        "Certificates serve every https listener: the exact name a client asks for goes before the "
        "wildcard of its parent. Of several for one name the client gets one that it can verify, "
        "ECDSA before RSA. A new content of a file is a change like any other. With `acme` a "
        "certificate is ordered for those of its hostnames that frontends claim; until it has "
        "come, what was served before goes on."
    ),
    "cluster": "The key `backends` holds the cluster's backends by name, see below.",
    "backend": "Backends stand within their cluster. Elsewhere their name is `CLUSTER/BACKEND`.",
    "frontend": (
        "The hostname decides first (exact, then the longest wildcard, then any), then the path "
        "(exact, then the longest prefix, then regex), then the method, the number of headers and "
        "the number of query parameters. No match is answered by 404. Two frontends with the same "
        "match are an error."
    ),
    "settings": "They may be given once in the whole directory.",
}

_FORMS = {
    names.parse_name: "name",
    names.parse_address: "address",
    names.parse_network: "network",
    names.parse_hostname: "hostname",
    names.parse_method: "method",
    check_regex: "regex",
    parse_path: "path",
    parse_file: "path",
    parse_staple: "path",
}


def reference_markdown() -> str:
    """Return the reference as Markdown."""
    sections = [_section(kind) for kind in _INTRODUCTIONS]
    return "\n".join([_HEAD, *sections])


def _section(kind: str) -> str:
    title, example = _INTRODUCTIONS[kind]
    model = MODELS[kind]
    remark = f"\n{_REMARKS[kind]}\n" if kind in _REMARKS else ""
    rows = "\n".join(_rows(model, ""))
    return (
        f"{title}\n\n{model.__doc__}\n\n```yaml\n{example}```\n{remark}\n"
        f"| key | form | default | meaning |\n|---|---|---|---|\n{rows}\n"
    )


def _rows(model: type[Model], path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = inner_model(field)
        key = f"{path}{name}"
        yield f"| `{key}` | {_form(field)} | {_default(model, field)} | {field.description} |"
        if inner is not None:
            entry = f".{_ENTRY[name]}" if get_origin(field.annotation) is dict else ""
            yield from _rows(inner, f"{key}{entry}.")


_ENTRY = {"error_pages": "STATUS", "headers": "NAME", "query": "NAME"}
"""How an entry of a map is called in the path of a key."""


def _form(field: FieldInfo) -> str:
    measured = measure(field)
    if measured is not None:
        return f"{measured.unit}, {measured.minimum} to {measured.maximum}"
    found = parts(field)
    origin = get_origin(field.annotation)
    if origin is dict or inner_model(field) is not None:
        return "map"
    checks = [part.func for part in found if isinstance(part, BeforeValidator)]
    form = next((_FORMS[check] for check in checks if check in _FORMS), None)
    if form is not None:
        return f"list of {form}s" if origin is list else form
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in sorted(get_args(field.annotation)))
    if bool in found:
        return "`true` or `false`"
    stated = next((part.json_schema for part in found if isinstance(part, WithJsonSchema)), None)
    if stated is not None and "enum" in stated:
        return ", ".join(f"`{choice}`" for choice in stated["enum"])
    if str in found and int in found:
        return "number, or `auto`"
    return _number(found) if int in found else "text"


def _number(found: list[Any]) -> str:
    least = next(part.ge for part in found if isinstance(part, Ge))
    most = next(part.le for part in found if isinstance(part, Le))
    return f"number, {least} to {most}"


def _default(model: type[Model], field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if issubclass(model, OneOf):
        return "one of them"
    default = field.get_default(call_default_factory=True, validated_data={})
    measured = measure(field)
    if isinstance(default, Model):
        written = default.full()
        # Where it only repeats the defaults of its own keys, they are in the rows below.
        return f"`{json.dumps(written)}`" if len(written) == 1 else ""
    if measured is not None and default is not None:
        return f"`{measured.format(default)}`"
    if isinstance(default, str):
        return f"`{default}`"
    return f"`{json.dumps(default)}`"
