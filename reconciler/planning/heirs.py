"""Who takes a frontend's requests over, by requests that are tried on both sides of a change.

For each frontend beside it a request is looked for that the one has now and the other afterwards:
of all that suits both, what suits the fewest others, since these could only have it instead. So a
search is short, and what it finds is asked of the whole of both views before it is told. What could
not be tried is told as well. Pure: asks two views and the engine's own routing. Called by
`consequences`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from reconciler.catalog.candidates import candidates, covering, passes_tls_on
from reconciler.catalog.relations import HOST, View, is_passthrough, is_wide, listeners_of
from reconciler.planning.near import Moved, area_of, is_at, near_to
from reconciler.planning.samples import (
    STATES_MAX,
    Dimension,
    Router,
    Sample,
    UntriedError,
    Value,
    composed,
    dimensions,
    values,
)
from schemas.entities.entity import Entity, EntityKey
from schemas.kinds.frontend import Frontend
from schemas.record import record

CANDIDATES_MAX = 2000
"""So many frontends are asked about some requests of one hostname."""
NAMES_MAX = 300
"""So many hostnames are compared by who shares them."""
HOSTNAMES_MAX = 16
"""For so many of a frontend's hostnames that others share in different ways it is tried."""
ALIKE_MAX = 2
"""So many requests that suit the same frontends are kept."""
DIMENSIONS_MAX = 64
REQUESTS_MAX = 12
"""So many requests are tried on behalf of one frontend, one less than is told as too many."""
EFFORT_MAX = 400_000
"""So often it is asked in all whether a request suits a frontend."""
_NO_HOST = "host.invalid"
_LABELS = ("any", "any-other", "any-third")


@dataclass(slots=True)
class Effort:
    """How much may still be tried, for all changes of a plan together."""

    left: int = EFFORT_MAX

    def spend(self, asked: int) -> None:
        """Count questions. Raises `UntriedError` when there are no more."""
        self.left -= asked
        if self.left < 0:
            raise UntriedError


@dataclass(slots=True)
class Taken:
    """Who serves in one view what a frontend serves in the other."""

    names: dict[str | None, Sample] = field(default_factory=dict)
    """Each with a request that shows it; None: 404."""
    whole: bool = True
    """Whether all was tried."""


@record
class Side:
    """A frontend beside another, and in which of the two views it is."""

    entity: Entity
    here: bool
    there: bool


@record
class Search:
    """What is searched, and by what."""

    frontend: Entity
    here: View
    there: View
    router: Router
    effort: Effort
    moved: Moved

    def taken(self, names: Sequence[str]) -> Taken:
        """Return who serves in the second view what the frontend serves in the first.

        By these hostnames of it, and by those below them that other changes bring or take.
        """
        taken = Taken()
        try:
            for listener in listeners_of(self.frontend):
                if EntityKey("listener", listener) in self.there:
                    self._on(listener, names, taken)
        except UntriedError:
            taken.whole = False
        return taken

    def _on(self, listener: str, names: Sequence[str], taken: Taken) -> None:
        known: set[frozenset[tuple[EntityKey, str]]] = set()
        for name, hostname in self._hostnames(names):
            near, whole = near_to(
                self.frontend, listener, hostname, (self.here, self.there), self.moved
            )
            self.effort.spend(1 + len(near))
            # A hostname that is shared by the same frontends in the same way tells nothing new.
            if (shape := frozenset(near.items())) in known:
                continue
            if len(known) == HOSTNAMES_MAX:
                taken.whole = False
                return
            known.add(shape)
            taken.whole &= whole
            sides = [
                Side(self.frontend, here=True, there=False),
                *self._sides(near, listener, hostname),
            ]
            if is_wide(name) and not is_passthrough(self.frontend):
                # Under a hostname that is more exact TLS may end here, and nobody pass it on.
                taken.whole &= not any(is_passthrough(each.entity) for each in sides)
            self._under(listener, hostname, sides, taken)

    def _hostnames(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield its names, each with one that is asked for: under a wildcard one that none has."""
        inner = chain.from_iterable(self.moved.below.get(name, ()) for name in names)
        for number, name in enumerate(dict.fromkeys((*names, *inner))):
            if number == NAMES_MAX:
                raise UntriedError
            if name == "*":
                yield name, _NO_HOST
            elif name.startswith("*."):
                asked = (f"{label}{name[1:]}" for label in _LABELS)
                yield name, next(filter(self._is_free, asked), f"{_LABELS[0]}{name[1:]}")
            else:
                yield name, name

    def _is_free(self, hostname: str) -> bool:
        return not any(view.related(HOST, hostname) for view in (self.here, self.there))

    def _under(self, listener: str, hostname: str, sides: Sequence[Side], taken: Taken) -> None:
        found: list[tuple[Dimension, list[Value]]] = []
        asked = dimensions(each.entity for each in sides)
        taken.whole &= len(asked) <= DIMENSIONS_MAX
        for of in asked[:DIMENSIONS_MAX]:
            self.effort.spend(10 * len(sides))
            suiting, whole = values(of, [each.entity for each in sides], self.router)
            if not whole:
                taken.whole = False
                self.effort.spend(STATES_MAX)
            found.append((of, suiting))
        samples: dict[Sample, None] = {}
        cut: set[str | None] = set()
        for number, side in enumerate(sides):
            if side.there or number == 0:
                # The own bit alone: a request that nobody else takes.
                fewest = _fewest(found, 1 | 1 << number)
                samples |= dict.fromkeys(composed(hostname, each) for each in fewest)
                if len(fewest) == REQUESTS_MAX:
                    cut.add(side.entity.key.name if number else None)
        self._ask(listener, list(samples), sides, taken)
        taken.whole &= cut <= taken.names.keys()

    def _sides(self, near: Iterable[EntityKey], listener: str, hostname: str) -> Iterator[Side]:
        names = tuple(covering(hostname))
        for key in near:
            was, will_be = (
                each if is_at(listener, names, each) else None
                for each in (self.here.get(key), self.there.get(key))
            )
            if was is not None and will_be is not None and was.value == will_be.value:
                yield Side(will_be, here=True, there=True)
                continue
            if was is not None and key != self.frontend.key:
                yield Side(was, here=True, there=False)
            if will_be is not None:
                yield Side(will_be, here=False, there=True)

    def _ask(
        self, listener: str, samples: list[Sample], sides: Sequence[Side], taken: Taken
    ) -> None:
        """Take down who takes what, first by the frontends at hand, then by all."""
        self.effort.spend(2 * len(samples) * len(sides))
        own = self.frontend.key.name
        here = [each.entity for each in sides if each.here]
        there = [each.entity for each in sides if each.there]
        pairs = zip(
            samples,
            self._ranked(self.here, listener, here, samples),
            self._ranked(self.there, listener, there, samples),
            strict=True,
        )
        shown: dict[str | None, list[Sample]] = {}
        for sample, old, new in pairs:
            if old == own:
                shown.setdefault(new, []).append(sample)
        for _ in range(REQUESTS_MAX):
            # One for each that is not known yet, all of them at one time.
            asked = [
                each.pop(0) for name, each in shown.items() if each and name not in taken.names
            ]
            if not asked:
                break
            was, will_be = (
                self._winners(each, listener, asked) for each in (self.here, self.there)
            )
            won = zip(asked, was, will_be, strict=True)
            taken.names |= {new: sample for sample, old, new in won if old == own}
        taken.whole &= shown.keys() <= taken.names.keys()

    def _winners(self, view: View, listener: str, samples: Sequence[Sample]) -> list[str | None]:
        """Return who serves each of some requests, of all frontends that there are."""
        keys = {
            key: None
            for sample in samples
            for key in sorted(candidates(view, listener, sample.hostname, sample.path))
        }
        if len(keys) > CANDIDATES_MAX:
            raise UntriedError
        paths = [sample.path for sample in samples]
        asked = [each for each in map(view.__getitem__, keys) if _may_match(each, paths)]
        self.effort.spend(len(asked) * len(samples))
        return self._ranked(view, listener, asked, samples)

    def _ranked(
        self, view: View, listener: str, frontends: Sequence[Entity], samples: Sequence[Sample]
    ) -> list[str | None]:
        """Return who wins each request: of those that pass TLS on there, or of the others."""
        passing = {each.key.name for each in frontends if is_passthrough(each)}
        matched = self.router.matching(frontends, samples)
        passed = {
            hostname: passes_tls_on(view, listener, hostname)
            for hostname in {sample.hostname for sample in samples}
        }
        return [
            next((name for name in names if (name in passing) == passed[sample.hostname]), None)
            for sample, names in zip(samples, matched, strict=True)
        ]


def _may_match(frontend: Entity, paths: Iterable[str]) -> bool:
    """Leave out expressions that begin otherwise: to compile one takes as long as a search."""
    match = frontend.typed(Frontend).path
    if match.regex is None:
        return True
    beginning = area_of(match).beginning
    return any(path.startswith(beginning) for path in paths)


def _fewest(
    found: Sequence[tuple[Dimension, Sequence[Value]]], wanted: int
) -> list[dict[Dimension, str | None]]:
    """Return the requests that suit some frontends, given as bits, and as few others as can be."""
    requests: list[tuple[int, dict[Dimension, str | None]]] = [(-1, {})]
    for of, suiting in found:
        fit = [each for each in suiting if each.suits & wanted == wanted]
        requests = [
            (suits & each.suits, {**given, of: each.value})
            for suits, given in requests
            for each in _least(fit, lambda one: one.suits)
        ]
        requests = _least(requests, lambda one: one[0])[:REQUESTS_MAX]
    return [given for _, given in requests]


_T = TypeVar("_T")


def _least(every: Sequence[_T], suits: Callable[[_T], int]) -> list[_T]:
    """Leave out what suits more than another one does, and of equals all but two."""
    least: list[_T] = []
    for each in sorted(every, key=lambda one: suits(one).bit_count()):
        bits = suits(each)
        equal = sum(suits(one) == bits for one in least)
        wider = any(suits(one) & bits == suits(one) != bits for one in least)
        if not wider and equal < ALIKE_MAX:
            least.append(each)
    return least
