"""Small configurations for the tests of the control plane's pure parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reconciler.language.findings import Finding
from schemas.entities.entity import Entity, EntityKey, Provenance
from schemas.kinds.registry import MODELS

SHOP = b"""\
listeners:
  public: {address: "127.0.0.1:8080"}
clusters:
  shop:
    backends:
      a: {address: "127.0.0.1:9001"}
      b: {address: "127.0.0.1:9002"}
frontends:
  web:
    cluster: shop
    listeners: [public]
"""


def entity(kind: str, name: str, *, file: str = "a.yaml", line: int = 1, **fields: Any) -> Entity:
    """Make an entity with a canonical value out of what one would write."""
    value = MODELS[kind].model_validate(fields).value()
    return Entity(EntityKey(kind, name), value, Provenance(file, line, 3))


def frontend(name: str, *, line: int = 1, **fields: Any) -> Entity:
    """Make a frontend of the cluster "shop" on the listener "public"."""
    fields = {"cluster": "shop", "listeners": ["public"], **fields}
    return entity("frontend", name, line=line, **fields)


def texts(findings: Iterable[Finding]) -> list[str]:
    """Say where each finding points and what it says."""
    return [f"{found.key}: {'/'.join(found.path)}: {found.message}" for found in findings]
