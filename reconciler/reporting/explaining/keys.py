"""The lines at which policies say what `explain` tells, in the files as they were committed.

The running state knows of an entity where its name stands. Called by
`reconciler.reporting.control.answers`, with the files that it has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.language.document import read_document
from reconciler.language.raw import RawEntity, raw_entities
from schemas.entities.entity import EntityKey
from schemas.messages.results import ExplainResult


def files_named(result: ExplainResult) -> set[str]:
    """Return the files in which the policies stand whose word counts."""
    return {by["source"]["file"] for by in _speakers(result)}


def point_at_keys(result: ExplainResult, files: Mapping[str, bytes]) -> None:
    """Have each effect of a policy name the line of its key, where the file still has it."""
    written: dict[str, dict[EntityKey, RawEntity]] = {}
    for file, content in files.items():
        entities = raw_entities(read_document(file, content))
        written[file] = {raw.key: raw for raw in entities if raw.key.kind == "policy"}
    for stage in result["stages"]:
        by = stage["by"]
        if by is None:
            continue
        source = by["source"]
        raw = written.get(source["file"], {}).get(EntityKey("policy", by["name"]))
        # Another content of the file would be another policy.
        if raw is not None and raw.name_node.line == source["line"]:
            key = raw.body.keys.get(stage["key"])
            source["line"] = key.line if key is not None else source["line"]


def _speakers(result: ExplainResult) -> list[dict[str, Any]]:
    return [stage["by"] for stage in result["stages"] if stage["by"] is not None]
