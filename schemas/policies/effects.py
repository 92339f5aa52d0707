"""What is done with requests and answers: every key that a policy and a frontend may both have.

What counts for a frontend is merged by leaf: its own word goes before its policies', and these
before those of the listener that a request came to (`reconciler.catalog.policies`; the engine does
the same). Who may refuse a request is no leaf: each of the three must let it pass.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from schemas.base import Kind, Model, fault
from schemas.policies.access import Allowed, Denied, check_access
from schemas.policies.bandwidth import Throttled
from schemas.policies.basic_auth import BasicAuthed
from schemas.policies.bounds import Limits, RequestLimits, RequestTimeouts, Timeouts
from schemas.policies.client_certificate import CertificateAsked
from schemas.policies.compression import InheritedCompression
from schemas.policies.concurrency import Crowded
from schemas.policies.cors import InheritedCors
from schemas.policies.edits import (
    AnswerEdits,
    Edits,
    HeaderEdits,
    RequestEdits,
    ResponseEdits,
    check_edits,
)
from schemas.policies.error_page import OwnErrorPages
from schemas.policies.forward_auth import AskedFirst
from schemas.policies.hsts import InheritedHsts
from schemas.policies.intercept import InheritedIntercept
from schemas.policies.jwt import TokensTaken
from schemas.policies.nulls import adds_up
from schemas.policies.rate import RateLimited
from schemas.policies.set_cookie import SetCookie
from schemas.values.forms import INHERIT


class Effects(Kind):
    """What is done with requests and answers."""

    allow: Allowed = None
    bandwidth: Throttled = None
    basic_auth: BasicAuthed = None
    client_certificate: CertificateAsked = None
    compression: InheritedCompression = INHERIT
    concurrency: Crowded = None
    cors: InheritedCors = INHERIT
    deny: Denied = None
    error_pages: OwnErrorPages = Field(default_factory=dict)
    forward_auth: AskedFirst = None
    hsts: InheritedHsts = INHERIT
    intercept: InheritedIntercept = INHERIT
    jwt: TokensTaken = None
    limits: Limits = RequestLimits.of_value({})
    rate_limit: RateLimited = None
    request_headers: RequestEdits = HeaderEdits.of_value({})
    response_headers: ResponseEdits = AnswerEdits.of_value({})
    set_cookie: SetCookie = Field(default_factory=dict)
    timeouts: Timeouts = RequestTimeouts.of_value({})

    @classmethod
    def path_groups(cls, info: ValidationInfo) -> frozenset[str] | None:
        """Return what values may take from the path; None where that is wrong itself."""
        return frozenset()

    @field_validator("request_headers", "response_headers", mode="after")
    @classmethod
    def _edits_take_what_is_there(cls, value: Edits, info: ValidationInfo) -> Edits:
        groups = cls.path_groups(info)
        if groups is not None:
            check_edits(value, groups, of_requests=info.field_name == "request_headers")
        return value

    @model_validator(mode="after")
    def _lets_somebody_in(self) -> Self:
        check_access(self.allow, self.deny)
        return self

    @model_validator(mode="after")
    def _one_tells_who_asks(self) -> Self:
        told: dict[str, tuple[str, str]] = {}
        for key, where, names in (
            ("jwt", "headers", list(self.jwt.headers) if self.jwt is not None else []),
            (
                "basic_auth",
                "header",
                [self.basic_auth.header] if self.basic_auth is not None else [],
            ),
            (
                "forward_auth",
                "copy_headers",
                self.forward_auth.copy_headers if self.forward_auth is not None else [],
            ),
        ):
            for name in filter(None, names):
                other = told.setdefault(name.lower(), (key, where))
                if other[0] != key:
                    hint = f'leave it out of "{where}", or out of "{other[1]}" under {other[0]}'
                    at = (key, where, name) if key != "basic_auth" else (key, where)
                    message = f"{name} is told by {other[0]} as well, and nobody says by which"
                    raise fault(message, hint, at=at)
        return self


def _paths(model: type[Model], path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if adds_up(field):
            yield ".".join((*path, name))
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Model):
            yield from _paths(field.annotation, (*path, name))


ADD_UP = tuple(_paths(Effects))
"""Of these everybody's word counts, and a written null is refused (`schemas.policies.nulls`)."""


def switched_off(value: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths at which a canonical value switches off what others say behind it."""
    for key in sorted(Effects.model_fields.keys() & value.keys()):
        yield from _nulls(value[key], key)


def _nulls(value: Any, path: str) -> Iterator[str]:
    # A default is left out, so that any null was written for what it says.
    if value is None:
        yield path
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from _nulls(each, f"{path}.{name}")
