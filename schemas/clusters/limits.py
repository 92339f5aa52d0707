"""Bounds of what a cluster sends and is asked: its answers, its requests, who waits. Part of it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.base import KEY, Later, Model, fault
from schemas.values.units import Measured

COUNT_MAX = 1_000_000


def _later(told: str) -> Later:
    return Later(
        counted="kakehi_cluster_refused_total by reason, kakehi_cluster_queued",
        told=told,
        meanwhile=(
            "max_requests under settings: and concurrency: of a frontend bound how many are in "
            "flight"
        ),
    )


class ClusterLimits(Model):
    """Bounds of what backends may send, and of what they are sent."""

    backend_connections: Annotated[
        int | None,
        Field(
            ge=1,
            le=COUNT_MAX,
            description="Connections to each backend, of all workers. null: as many as it takes.",
            examples=[200],
        ),
        _later("shop/shop-1: 12 of 200 connections"),
    ] = None
    backend_requests: Annotated[
        int | None,
        Field(
            ge=1,
            le=COUNT_MAX,
            description=(
                "Requests in flight at each backend, of all workers; beyond it another one is "
                "chosen, or the request waits. null: no bound."
            ),
            examples=[100],
        ),
        _later("shop/shop-1: 7 of 100 requests in flight"),
    ] = None
    connections: Annotated[
        int | None,
        Field(
            ge=1,
            le=COUNT_MAX,
            description="Connections to all of its backends, of all workers. null: no bound.",
            examples=[1000],
        ),
        _later("limits: 40 of 1000 connections"),
    ] = None
    head_bytes: Annotated[
        Annotated[int, Measured("size", "1KiB", "128KiB")],
        Field(description="Largest response head, status line and header; 502 beyond it."),
    ] = 65_536
    header_count: Annotated[
        int,
        Field(ge=1, le=1000, description="Most fields in a response header; 502 beyond them."),
    ] = 256
    queue: Annotated[
        int | None,
        Field(
            ge=0,
            le=COUNT_MAX,
            description=(
                "So many requests may wait, in their order, until a bound of requests or "
                "connections has room; 503 with Retry-After beyond. null: none waits."
            ),
            examples=[500],
        ),
        _later("queue: 0 of 500 wait, for up to 1s"),
    ] = None
    queue_timeout: Annotated[
        Annotated[int, Measured("duration", "1ms", "1h")] | None,
        Field(
            description="How long each of them waits; then 503. null: a second.", examples=["1s"]
        ),
        _later("queue: 0 of 500 wait, for up to 1s"),
    ] = None
    requests: Annotated[
        int | None,
        Field(
            ge=1,
            le=COUNT_MAX,
            description=(
                "Requests in flight at all of its backends, of all workers; 503 with Retry-After "
                "beyond, unless one may wait. null: no bound."
            ),
            examples=[2000],
        ),
        _later("limits: 31 of 2000 requests in flight"),
    ] = None

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        bounds = (
            self.backend_connections,
            self.backend_requests,
            self.connections,
            self.requests,
        )
        if self.queue and all(bound is None for bound in bounds):
            hint = "give requests or backend_requests a value"
            raise fault("queue: nothing is bounded that could be waited for", hint, ("queue", KEY))
        if self.queue_timeout is not None and not self.queue:
            hint = 'write queue: 500, or remove "queue_timeout"'
            raise fault("queue_timeout: nobody waits", hint, ("queue_timeout", KEY))
        for each, whole in (
            ("backend_requests", "requests"),
            ("backend_connections", "connections"),
        ):
            least, most = getattr(self, each), getattr(self, whole)
            if least is not None and most is not None and least > most:
                hint = f"make {whole} larger, or {each} smaller"
                raise fault(f"{each}: it is more than {whole}, of all backends", hint, (each, KEY))
        return self
