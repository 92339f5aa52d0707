"""What a written null has switched off for a request, by whom, and whose word that hides.

Pure; called by `reconciler.reporting.explaining.explain`, which tells it behind all that is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.catalog.policies import Leaf, Word, words_of
from reconciler.reporting.explaining.admission import Stage, stage
from schemas.entities.entity import Entity


def switched_off(words: Mapping[Leaf, Word], levels: Sequence[Sequence[Entity]]) -> Iterator[Stage]:
    """Yield a stage for each leaf that is switched off; `levels` are those that were merged."""
    off = {leaf: word for leaf, word in words.items() if word.said is None}
    hidden: dict[Leaf, Entity] = {}
    for level in levels if off else ():
        for entity in level:
            for leaf, word in words_of(entity):
                if leaf in off and word.said is not None:
                    hidden.setdefault(leaf, entity)
    for leaf, word in off.items():
        what = f"{word.written} is switched off" if word.written else "switched off"
        whose = hidden.get(leaf)
        told = f"whatever {whose.key} says" if whose is not None else "of which nobody else speaks"
        yield stage(leaf.key, f"{what}, {told}", word.by)
