"""When a request is sent again, and how often. Part of a cluster."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from schemas.base import Model, fault, shown
from schemas.clusters.health_check import STATUSES_MAX
from schemas.values.forms import A_WORD, LIST, WORD
from schemas.values.names import SortedUnique, parse_method
from schemas.values.units import Duration, Measured

ATTEMPTS_MAX = 10
_METHODS = ("all", "idempotent")


def parse_retried(value: object) -> int:
    """Return a status after which a request may be sent again."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not isinstance(value, int) or not 400 <= value <= 599:
        hint = "write each status by itself" if isinstance(value, str) else None
        raise fault(f"expected a status from 400 to 599, not {shown(value)}", hint)
    return value


def _methods(value: object) -> object:
    if value in _METHODS or isinstance(value, list):
        return value
    hint = None
    if value in ("any", "*", "non_idempotent", True):
        hint = 'write "all", which sends orders and payments again, too'
    elif isinstance(value, str):
        hint = f"write a list: [{value}]"
    raise fault(f'expected "idempotent", "all" or a list of methods, not {shown(value)}', hint)


def _form_of(value: object) -> str:
    return WORD if isinstance(value, str) else LIST


Error = Literal["connect", "refused_stream", "reset", "timeout"]


def _usual_errors() -> list[Error]:
    return ["connect", "refused_stream"]


class RetryWhen(Model):
    """After what a request is sent again."""

    errors: Annotated[
        list[Error],
        SortedUnique,
        Field(
            description=(
                "connect: there is no connection, or no handshake. refused_stream: the backend "
                "has not looked at it. reset: the connection ends before the head of an answer. "
                "timeout: no head within `per_try`, or the time for it."
            ),
            examples=[["connect", "reset"]],
        ),
    ] = Field(default_factory=_usual_errors)
    grpc: Annotated[
        list[
            Literal[
                "aborted",
                "cancelled",
                "deadline_exceeded",
                "internal",
                "resource_exhausted",
                "unavailable",
            ]
        ],
        SortedUnique,
        Field(
            description="Statuses of gRPC in an answer without messages.",
            examples=[["unavailable"]],
        ),
    ] = Field(default_factory=list)
    statuses: Annotated[
        list[Annotated[int, BeforeValidator(parse_retried)]],
        SortedUnique,
        Field(
            max_length=STATUSES_MAX,
            description=(
                "Statuses of answers, which are thrown away; Retry-After is waited for, and an "
                "answer that asks for more than 10s is passed on."
            ),
            examples=[[502, 503]],
        ),
    ] = Field(default_factory=list)


class Retry(Model):
    """Further attempts of a request, each at another backend while one is left."""

    attempts: Annotated[
        int, Field(ge=0, le=ATTEMPTS_MAX, description="So many further ones at most.")
    ] = 2
    backoff: Annotated[
        Annotated[int, Measured("duration", "0s", "10s")],
        Field(
            description=(
                "Longest pause before the second of them, drawn by lot and doubled by each that "
                "follows, up to ten times that. 0s: at once. The first one never waits."
            )
        ),
    ] = 0
    body_bytes: Annotated[
        Annotated[int, Measured("size", "0B", "1MiB")],
        Field(
            description=(
                "Bodies up to this size are kept until there is an answer, so that they can be "
                "sent again; a request with a larger one is sent once."
            )
        ),
    ] = 0
    budget: Annotated[
        Annotated[int, Measured("share", "1%", "100%")] | None,
        Field(
            description=(
                "Further attempts are at most this share of the requests of the last ten seconds, "
                "and always three a second, in each worker. null: no bound but attempts."
            ),
            examples=["20%"],
        ),
    ] = None
    methods: Annotated[
        Annotated[
            Annotated[Literal["all", "idempotent"], A_WORD]
            | Annotated[
                Annotated[
                    list[Annotated[str, BeforeValidator(parse_method)]],
                    SortedUnique,
                    Field(min_length=1, max_length=16),
                ],
                Tag(LIST),
            ],
            Discriminator(_form_of),
        ],
        BeforeValidator(_methods),
        Field(
            description=(
                "Which may be sent again when something of them has gone out: idempotent (GET, "
                "HEAD, OPTIONS, TRACE, PUT, DELETE), all, or a list. What never left is sent "
                "elsewhere whatever its method is."
            ),
            examples=[["GET", "HEAD"]],
        ),
    ] = "idempotent"
    per_try: Annotated[
        Duration | None,
        Field(
            description=(
                "How long one attempt may take until the head of its answer. null: as long as "
                "the timeouts say."
            ),
            examples=["2s"],
        ),
    ] = None
    when: Annotated[RetryWhen, Field(description="After what.")] = RetryWhen.of_value({})


Retried = Annotated[
    Retry | None,
    Field(
        description=(
            "Further attempts of a request that failed. `retries: N` is short for {attempts: N}, "
            "and both are an error. null: as retries says."
        ),
        examples=[{"attempts": 2, "when": {"errors": ["connect", "reset"]}}],
    ),
]
