"""What the first change would build is built by then: in a process of its own, as a daemon is."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from reconciler.catalog.catalog import load_directory
from reconciler.daemon.rehearsing import unbuilt
from schemas.kinds.cluster import Cluster
from schemas.kinds.frontend import Frontend
from schemas.messages import wire
from schemas.changes.state import State
from schemas.entities.entity import Entity, EntityKey, Provenance

key, value = EntityKey("cluster", "a"), {}
state = State([Entity(key, value, Provenance("a.yaml", 1, 1))])
found = list(unbuilt(state))
assert {wire.Stage, wire.Prepare, wire.Commit, wire.Release, Cluster} <= set(found), found
assert Frontend not in found, "none runs"
for each in found:
    each.model_rebuild()
assert not list(unbuilt(state))
"""


def test_what_is_not_built_at_a_start() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
