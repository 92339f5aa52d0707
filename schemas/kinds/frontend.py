"""The frontend: a match of requests (listener, hostname, path, …) and what becomes of them.

They go to a cluster, or are answered here: by a redirect, or by what the configuration says.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from schemas.base import KEY, fault, no_items, shown
from schemas.policies.cors import Cors
from schemas.policies.effects import Effects
from schemas.routes.matched import Match, path_groups
from schemas.routes.mirror import Mirrored, mirrors_of
from schemas.routes.places import Redirect, RedirectOrHttps, Rewrite, check_place
from schemas.routes.respond import Respond
from schemas.routes.split import CLUSTERS_MAX, Shares, SplitByOrClient
from schemas.values.names import Name, Policies, SortedUnique

_PROTOCOL = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+(/[A-Za-z0-9!#$%&'*+\-.^_`|~]+)?")
_NEVER_SWITCHED = ("h2", "h2c", "http", "tls")


def _protocol(value: object) -> str:
    if not isinstance(value, str) or not _PROTOCOL.fullmatch(value):
        raise fault(f'expected a name of a protocol like "websocket", not {shown(value)}')
    name = value.lower()
    if name.partition("/")[0] in _NEVER_SWITCHED:
        hint = "HTTP/2 has keys of its own: h2c of a listener, protocol of a cluster"
        raise fault(
            f"{shown(value)}: what follows would be requests that nobody has looked at", hint
        )
    return name


Protocol = Annotated[str, BeforeValidator(_protocol)]


def _redirected(value: Redirect | str | None, info: ValidationInfo) -> Redirect | str | None:
    groups = path_groups(info)
    if isinstance(value, Redirect) and groups is not None:
        check_place(value, info.data["path"], groups)
    return value


def _rewritten(value: Rewrite | None, info: ValidationInfo) -> Rewrite | None:
    groups = path_groups(info)
    if value is not None and groups is not None:
        check_place(value, info.data["path"], groups)
    return value


_SEEN_IN_REQUESTS = {
    *Effects.model_fields,
    *(Match.model_fields.keys() - {"hostname", "hostnames", "listeners"}),
    "early_data",
    "mirror",
    "policies",
    "redirect",
    "respond",
    "rewrite",
    "split",
}
_OF_BACKENDS = (
    "concurrency",
    "bandwidth",
    "intercept",
    "mirror",
    "passthrough",
    "request_headers",
    "rewrite",
    "set_cookie",
    "timeouts",
    "upgrades",
)
"""What says something about requests that go to a backend."""


def _ends_once(schema: dict[str, Any]) -> None:
    """Say in the JSON Schema that requests end in one place."""
    a_map = {"redirect": {"type": "object"}}
    schema["oneOf"] = [
        {"required": ["cluster"]},
        {"required": ["respond"]},
        {"required": ["split"]},
        {"required": ["redirect"], "properties": a_map},
    ]


class Frontend(Effects, Match):
    """A match of requests, and what becomes of them. The most specific match wins."""

    model_config = ConfigDict(json_schema_extra=_ends_once)

    KIND: ClassVar[str] = "frontend"

    cluster: Annotated[
        Name | None,
        Field(
            description=(
                "The cluster that serves the requests. A frontend has exactly one of cluster, "
                "split, redirect (a map) and respond."
            ),
            examples=["shop"],
        ),
    ] = None
    early_data: Annotated[
        bool,
        Field(
            description=(
                "Requests may come as TLS 1.3 early data (0-RTT), which whoever sees it can send "
                "again: GET, HEAD and OPTIONS without a body are passed on with `Early-Data: 1`, "
                "so that the backend can ask for them again by 425; others are answered by 425. "
                "Not where the listener asks clients for certificates."
            )
        ),
    ] = False
    mirror: Annotated[
        Mirrored,
        Field(
            description=(
                "A cluster that gets a share of the requests as well, bodies included, or up to "
                "four in a list, each with a share that is drawn by itself. Their answers are "
                "thrown away, and no client waits for one: what it does not take in time is "
                "dropped. Requests that may switch protocols are not repeated."
            ),
            examples=[{"cluster": "shadow", "share": "10%"}],
        ),
    ] = None
    passthrough: Annotated[
        bool,
        Field(
            description=(
                "Pass TLS on unread: whoever asks a listener with protocol https for this hostname "
                "(SNI) is connected with a backend, which has the certificate. Only the hostname "
                "can be matched."
            )
        ),
    ] = False
    policies: Policies = Field(default_factory=no_items)
    redirect: Annotated[
        RedirectOrHttps,
        AfterValidator(_redirected),
        Field(
            description=(
                "https: requests in clear text are sent (308) to the same host and path over TLS, "
                "at the port of the frontend's listener with protocol https, or else 443; the "
                "others go to the cluster. A map: all requests are sent to that place."
            ),
            examples=["https", {"hostname": "example.com", "status": 301}],
        ),
    ] = None
    respond: Annotated[
        Respond | None,
        Field(
            description=(
                "The answer to all requests. With a status from 400 on and no body it is the page "
                "of that status (`error_pages`)."
            ),
            examples=[{"status": 200, "body": "ok\n"}],
        ),
    ] = None
    rewrite: Annotated[
        Rewrite | None,
        AfterValidator(_rewritten),
        Field(
            description=(
                "Where requests go on their way to a backend, which is told the hostname that was "
                "asked for by `X-Forwarded-Host`."
            ),
            examples=[{"path": {"prefix": "/"}}],
        ),
    ] = None
    split: Annotated[
        Shares,
        Field(
            max_length=CLUSTERS_MAX,
            description=(
                "The clusters that serve the requests, with the share of each: of any numbers, so "
                "that 95 and 5 are per cent. 0: none for now."
            ),
            examples=[{"shop": 95, "shop-next": 5}],
        ),
    ] = Field(default_factory=dict)
    split_by: Annotated[
        SplitByOrClient,
        Field(
            description=(
                "What keeps a client at one cluster of a split: client_address, or a cookie or a "
                "header by name. Who has it not, and null: each request is drawn by itself."
            ),
            examples=["client_address", {"cookie": "lane"}],
        ),
    ] = None
    upgrades: Annotated[
        list[Protocol],
        SortedUnique,
        Field(
            description=(
                "Protocols that a request may switch to (`Upgrade`); then bytes pass unread. "
                "An empty list: none."
            ),
            examples=[["tcp", "websocket"]],
        ),
    ] = Field(default_factory=lambda: ["websocket"])

    @property
    def clusters(self) -> Sequence[str]:
        """Every cluster that its requests go to; none where it answers them."""
        return (self.cluster,) if self.cluster is not None else sorted(self.split)

    @classmethod
    def path_groups(cls, info: ValidationInfo) -> frozenset[str] | None:
        """Return the groups of its path, which has been looked at before what is done."""
        return path_groups(info)

    @model_validator(mode="after")
    def _sees_preflights(self) -> Self:
        if isinstance(self.cors, Cors) and self.methods and "OPTIONS" not in self.methods:
            hint = "add OPTIONS to methods"
            message = "cors: preflights are OPTIONS requests, which methods leaves out"
            raise fault(message, hint, at=("cors", KEY))
        return self

    @model_validator(mode="after")
    def _only_a_hostname_is_seen(self) -> Self:
        asked = self.model_fields_set & _SEEN_IN_REQUESTS
        for key in sorted(asked if self.passthrough else ()):
            if self._says(key):
                hint = f'remove "{key}", or "passthrough" to take TLS here'
                message = f"passthrough: nothing can be said about {key} of what is encrypted"
                if key == "client_addresses":
                    message = "passthrough: goes by the hostname alone, and not by client_addresses"
                elif key in ("allow", "deny"):
                    message = f"passthrough: {key} is for policies of its listeners to say"
                elif key == "split":
                    message = "passthrough: goes to one cluster"
                raise fault(message, hint, at=(key, KEY))
        return self

    def _says(self, key: str) -> bool:
        """Tell whether a key is given, and differs from its default."""
        if key not in self.model_fields_set:
            return False
        field = type(self).model_fields[key]
        given: object = getattr(self, key)
        return bool(given != field.get_default(call_default_factory=True))

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Self:
        to = self.redirect if isinstance(self.redirect, Redirect) else None
        split = self.split or None
        ends = {"cluster": self.cluster, "split": split, "redirect": to, "respond": self.respond}
        given = [key for key, end in ends.items() if end is not None]
        if not given:
            hint = (
                'for example: cluster: "shop"; or answer it here, by redirect: {…} or respond: {…}'
            )
            raise fault('"cluster" is missing', hint)
        if len(given) > 1:
            beside = 'beside a cluster there may be "redirect: https"' if to else None
            if "split" in given and "cluster" in given:
                beside = "leave cluster out: split names all of them, with their shares"
            keep = f"keep one of them, and remove {'the others' if len(given) > 2 else 'the other'}"
            raise fault(f"requests end in one place, not in {' and '.join(given)}", beside or keep)
        needless = [key for key in _OF_BACKENDS if self._says(key)]
        if self.split_by is not None and split is None:
            hint = 'write split: {shop: 95, shop-next: 5}, or remove "split_by"'
            raise fault("nothing is split", hint, at=("split_by", KEY))
        if not self.clusters and needless:
            message = f"{needless[0]}: no request gets to a backend, with {given[0]}"
            hint = f'remove "{needless[0]}", or give it a cluster'
            raise fault(message, hint, at=(needless[0], KEY))
        for at, mirror in enumerate(mirrors_of(self.mirror)):
            if mirror.cluster == self.cluster:
                message = f'"{self.cluster}" is the cluster that serves the requests'
                hint = "name another one: this one would get them twice"
                place = ("mirror", at) if isinstance(self.mirror, list) else ("mirror",)
                raise fault(message, hint, at=(*place, "cluster"))
        return self
