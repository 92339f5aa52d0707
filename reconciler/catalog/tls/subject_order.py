"""Subjects of clients' certificates that are written the other way round: they match nobody.

Warnings, since a certificate may have that order. The catalog asks for the findings about the
changed keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.catalog.relations import View
from reconciler.language.findings import Finding
from schemas.base import shown
from schemas.entities.entity import EntityKey
from schemas.kinds.frontend import Frontend
from schemas.kinds.policy import Policy
from schemas.policies.client_certificate import CertificateConditions
from schemas.values.subjects import the_other_way_round

_MODELS: dict[str, type[Frontend | Policy]] = {"frontend": Frontend, "policy": Policy}


def turned(changed: Iterable[EntityKey], view: View) -> Iterator[Finding]:
    """Yield warnings about subjects that begin with what those of certificates end with."""
    for key in changed:
        entity = view.get(key) if key.kind in _MODELS else None
        asked = entity.typed(_MODELS[key.kind]).client_certificate if entity is not None else None
        subjects = asked.subjects if isinstance(asked, CertificateConditions) else []
        for subject in subjects:
            meant = the_other_way_round(subject)
            if meant is None or meant in subjects:
                continue
            message = (
                f"{key}: no certificate is likely to be {shown(subject)}: openssl prints them so "
                "by itself, and they are compared as RFC 4514 has them"
            )
            hint = f"write {shown(meant)}; or both, if there are such certificates"
            path = ("client_certificate", "subjects", subject)
            yield Finding("warning", key, path, message, hint)
