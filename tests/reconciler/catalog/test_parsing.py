"""One file as text, for the process that takes in what others have parsed."""

from __future__ import annotations

import pytest

from reconciler.catalog.parsing import parse, parsed_entities
from reconciler.catalog.relations import relations_of
from reconciler.materials.completing import complete
from reconciler.materials.reading import no_files
from schemas.entities.entity import EntityKey

FILE = b"""
listeners: {public: {address: '127.0.0.1:80'}}
clusters:
  shop: {backends: {a: {address: '10.0.0.1:80'}}}
  bank: {tls: {ca: bank.pem}, backends: {a: {address: '10.0.0.2:443'}}}
frontends: {web: {listeners: [public], cluster: shop}}
certificates: {shop: {certificate: shop.crt, private_key: shop.key}}
"""


def test_what_names_no_files_is_taken_in_as_it_is() -> None:
    """Its relations come along, and there is nothing to complete it by."""
    text = parse(FILE)
    assert text is not None
    found = {each.key: each for each in parsed_entities(text)}
    named = {EntityKey("cluster", "bank"), EntityKey("certificate", "shop")}
    assert {key for key, each in found.items() if each.relations is None} == named
    for key, each in found.items():
        entity = each.at("shop.yaml")
        if key in named:
            assert complete(entity, no_files).remarks
        else:
            assert each.relations == tuple(relations_of(entity))
            assert complete(entity, no_files).entity is entity


@pytest.mark.parametrize("text", [b"clusters: {shop: {retires: 1}}", b"a: [", b"\0"])
def test_what_has_findings_has_no_such_form(text: bytes) -> None:
    assert parse(text) is None
