"""The lines at which it is written what `explain` tells, in the files as they were committed.

The running state knows of an entity where its name stands. Called by
`reconciler.reporting.control.answers`, with the files that it has read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from pydantic import ValidationError

from reconciler.language.document import Node, read_document
from reconciler.language.raw import RawEntity, raw_entities
from schemas.entities.entity import EntityKey
from schemas.messages.results import ExplainResult
from schemas.policies.rate import RateLimit


def files_named(result: ExplainResult) -> set[str]:
    """Return the files in which those stand whose word counts."""
    return {stage["source"]["file"] for stage in result["stages"] if stage["source"]}


def point_at_keys(result: ExplainResult, files: Mapping[str, bytes]) -> None:
    """Have each stage name the line of its key, where the file still has it."""
    written: dict[str, dict[EntityKey, RawEntity]] = {}
    for file, content in files.items():
        entities = raw_entities(read_document(file, content))
        written[file] = {raw.key: raw for raw in entities if raw.key.kind in _SPEAKING}
    for stage in result["stages"]:
        by, source = stage["by"], stage["source"]
        who = by or result["frontend"]
        if source is None or who is None:
            continue
        whose = EntityKey("policy" if by else "frontend", who["name"])
        raw = written.get(source["file"], {}).get(whose)
        # Another content of the file would be another entity.
        if raw is not None and raw.name_node.line == source["line"]:
            key = raw.body.keys.get(stage["key"])
            found = _entry(raw.body.items.get(stage["key"]), stage.get("name")) or key
            source["line"] = found.line if found is not None else source["line"]
            if by is not None:
                by["source"] = dict(source)


_SPEAKING = ("frontend", "policy")


def _entry(limits: Node | None, called: str | None) -> Node | None:
    """Return the entry of a list of limits that is called so."""
    for entry in limits.elements if limits is not None and called is not None else ():
        with contextlib.suppress(ValidationError):
            if RateLimit.model_validate(entry.value).called() == called:
                return entry
    return None
