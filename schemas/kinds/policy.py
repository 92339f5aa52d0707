"""The policy: what frontends and listeners have done with requests and answers, by a name.

Whatever may stand here may stand in a frontend too. What counts for a frontend is merged by leaf:
its own word goes before its policies', and these before those of the listener that a request came
to (`reconciler.catalog.policies`; the engine does the same). Who may refuse a request is no leaf:
each of the three must let it pass.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from schemas.base import Kind
from schemas.kinds.access import Allowed, Denied, check_access
from schemas.kinds.basic_auth import BasicAuthed
from schemas.kinds.bounds import Limits, RequestLimits, RequestTimeouts, Timeouts
from schemas.kinds.concurrency import Crowded
from schemas.kinds.cors import InheritedCors
from schemas.kinds.edits import HeaderEdits, RequestEdits, ResponseEdits, check_edits
from schemas.kinds.error_page import OwnErrorPages
from schemas.kinds.forward_auth import AskedFirst
from schemas.kinds.hsts import INHERIT, InheritedHsts
from schemas.kinds.rate import RateLimited

NO_GROUPS: frozenset[str] = frozenset()


def _edited(value: HeaderEdits, info: ValidationInfo) -> HeaderEdits:
    check_edits(value, NO_GROUPS, of_requests=info.field_name == "request_headers")
    return value


class Policy(Kind):
    """What is done with requests and answers, for all frontends and listeners that name it."""

    KIND: ClassVar[str] = "policy"

    allow: Allowed = None
    basic_auth: BasicAuthed = None
    concurrency: Crowded = None
    cors: InheritedCors = INHERIT
    deny: Denied = None
    error_pages: OwnErrorPages = Field(default_factory=dict)
    forward_auth: AskedFirst = None
    hsts: InheritedHsts = INHERIT
    limits: Limits = RequestLimits()
    rate_limit: RateLimited = None
    request_headers: Annotated[RequestEdits, AfterValidator(_edited)] = HeaderEdits()
    response_headers: Annotated[ResponseEdits, AfterValidator(_edited)] = HeaderEdits()
    timeouts: Timeouts = RequestTimeouts()

    @model_validator(mode="after")
    def _lets_somebody_in(self) -> Policy:
        check_access(self.allow, self.deny)
        return self
