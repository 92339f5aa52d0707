"""The certificate: a chain and its private key, served to clients that ask for its hostnames."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.base import Model, fault, shown
from schemas.material import FilePath
from schemas.names import parse_hostname


def _hostname(value: object) -> str:
    name = parse_hostname(value)
    if name == "*" or name.startswith("["):
        raise fault(f"{shown(value)} cannot be a certificate's: expected a name or *.name")
    return name


def _sorted(names: list[str] | None) -> list[str] | None:
    if names is None:
        return None
    if not names:
        raise fault("the list is empty", "leave it out for the names in the certificate")
    return sorted(set(names))


class Certificate(Model):
    """A certificate chain and its private key, for every https listener."""

    certificate: Annotated[
        FilePath,
        Field(
            description=(
                "The chain in PEM, the leaf first. Relative to the config directory (then the "
                "committed content counts), or absolute (then the file is watched)."
            ),
            examples=["tls/shop.crt"],
        ),
    ]
    hostnames: Annotated[
        list[Annotated[str, BeforeValidator(_hostname)]] | None,
        AfterValidator(_sorted),
        Field(
            description=(
                "Names for which it is served. Default: the DNS names in the certificate itself."
            ),
            examples=[["shop.example.com", "*.shop.example.com"]],
        ),
    ] = None
    private_key: Annotated[
        FilePath,
        Field(
            description="The private key of the leaf in PEM, not encrypted; a path as above.",
            examples=["/etc/ssl/private/shop.key"],
        ),
    ]
