"""The certificate: a chain and its private key, served to clients that ask for its hostnames.

Somebody brings the two as files, or they are ordered from an authority that speaks ACME (RFC 8555).
"""

from typing import Annotated, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from schemas.base import Kind, Model, fault, no_items, shown
from schemas.entities.material import FilePath, NamedFile, NamedStaple
from schemas.values.names import SortedUnique, parse_hostname

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"

URL_CHARS_MAX = 2048

CHALLENGES = ("http-01", "tls-alpn-01")


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


def _challenge(value: object) -> str:
    if value in CHALLENGES:
        return str(value)
    hint = None
    if value == "dns-01":
        hint = "have another client answer it, and name the files that it writes"
    raise fault(f'expected "http-01" or "tls-alpn-01", not {shown(value)}', hint)


def _directory(value: object) -> str:
    parts = urlsplit(value) if isinstance(value, str) and len(value) <= URL_CHARS_MAX else None
    if parts is None or not parts.hostname or parts.username is not None:
        raise fault(f'expected a URL like "{LETS_ENCRYPT}", not {shown(value)}')
    if parts.scheme != "https":
        raise fault("ACME is spoken over https alone", 'begin with "https://"')
    return str(value)


def _mail(value: object) -> str:
    name, at, host = value.partition("@") if isinstance(value, str) else ("", "", "")
    if not at or not name or "." not in host or not str(value).isprintable() or " " in str(value):
        hint = 'leave "mailto:" out' if str(value).startswith("mailto:") else None
        raise fault(f'expected an address like "ops@example.com", not {shown(value)}', hint)
    if name.startswith("mailto:"):
        raise fault(f"{shown(value)} is more than an address", 'leave "mailto:" out')
    return str(value)


def _absolute(path: str | None) -> str | None:
    if path is not None and not path.startswith("/"):
        raise fault(
            f"{shown(path)} is relative, and is no file of the repository", "begin with a slash"
        )
    return path


class Acme(Model):
    """How a certificate is ordered; by that the terms of the authority are agreed to."""

    ca: Annotated[
        FilePath | None,
        AfterValidator(_absolute),
        Field(
            description=(
                "Authorities to trust when asking an ACME server of one's own, in PEM; an "
                "absolute path. null: those that the system trusts."
            ),
        ),
    ] = None
    challenge: Annotated[
        str,
        BeforeValidator(_challenge),
        WithJsonSchema({"enum": list(CHALLENGES), "type": "string"}),
        Field(
            description=(
                "How the authority looks whether a hostname is ours: http-01 by a request to port "
                "80, tls-alpn-01 by a handshake at port 443. Every listener answers either."
            )
        ),
    ] = "http-01"
    contact: Annotated[
        list[Annotated[str, BeforeValidator(_mail)]],
        SortedUnique,
        Field(
            description="Mail addresses for what the authority has to tell.",
            examples=[["ops@example.com"]],
        ),
    ] = Field(default_factory=no_items)
    directory: Annotated[
        str,
        BeforeValidator(_directory),
        Field(description="Where the authority's ACME server begins."),
    ] = LETS_ENCRYPT


class Certificate(Kind):
    """A certificate chain and its private key, for every https listener."""

    KIND: ClassVar[str] = "certificate"

    acme: Annotated[
        Acme | None,
        Field(
            description=(
                "Order it, and renew it in time; {} has all defaults. Needs hostnames, and "
                "takes no files. null: the files are brought."
            )
        ),
    ] = None
    certificate: Annotated[
        NamedFile | None,
        Field(
            description=(
                "The chain in PEM, the leaf first. Relative to the config directory (then the "
                "committed content counts), or absolute (then the file is watched)."
            ),
            examples=["tls/shop.crt"],
        ),
    ] = None
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
    ocsp: Annotated[
        NamedStaple | None,
        Field(
            description=(
                "What the issuer says of its revocation: an OCSP response in DER, which is stapled "
                "to handshakes for as long as it is valid; a path as above."
            ),
            examples=["/var/lib/ocsp/shop.der"],
        ),
    ] = None
    private_key: Annotated[
        NamedFile | None,
        Field(
            description=(
                "The private key of the leaf in PEM, as it is or encrypted with age; a path as "
                "above."
            ),
            examples=["/etc/ssl/private/shop.key"],
        ),
    ] = None

    @model_validator(mode="after")
    def _brought_or_ordered(self) -> Self:
        brought = {"certificate": self.certificate, "private_key": self.private_key}
        if self.acme is None:
            for field, path in brought.items():
                if path is None:
                    hint = "give both files, or order it: acme: {}"
                    raise fault(f'"{field}" is missing', hint)
            return self
        given = [field for field, path in {**brought, "ocsp": self.ocsp}.items() if path]
        if given:
            raise fault(f"{given[0]}: with acme, the files are not yours to bring", "remove it")
        if self.hostnames is None:
            raise fault('"hostnames" is missing', "say what to order it for")
        wildcard = next((name for name in self.hostnames if name.startswith("*.")), None)
        if wildcard is not None:
            hint = "that takes dns-01: have another client order it, and name the files"
            raise fault(f"hostnames: {wildcard} cannot be ordered", hint)
        return self
