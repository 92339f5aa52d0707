"""A subject that is written the other way round is told, with the right form."""

from __future__ import annotations

import pytest

from reconciler.catalog.catalog import load_directory
from schemas.entities.diagnostic import Diagnostic

BASE = """\
listeners:
  safe: {address: "127.0.0.1:8443", protocol: https}
policies:
  known: {client_certificate: {subjects: [SUBJECTS]}}
"""


def warnings(subjects: str) -> list[Diagnostic]:
    _, found = load_directory([("a.yaml", BASE.replace("SUBJECTS", subjects).encode())])
    return [each for each in found if "openssl prints them so" in each.message]


@pytest.mark.parametrize(
    ("subject", "meant"),
    [
        ("O=Shop,CN=alice", "CN=alice,O=Shop"),
        ("O=Shop, CN=alice", "CN=alice,O=Shop"),
        ("C=DE,O=Shop\\, Inc.,OU=a+OU=b,CN=alice", "CN=alice,OU=a+OU=b,O=Shop\\, Inc.,C=DE"),
        ("DC=test,DC=shop,CN=alice", "CN=alice,DC=shop,DC=test"),
    ],
)
def test_it_is_turned(subject: str, meant: str) -> None:
    [found] = warnings(f"'{subject}'")
    assert found.hint == f'write "{meant}"; or both, if there are such certificates'
    assert (found.severity, found.line) == ("warning", 4)


@pytest.mark.parametrize(
    "subjects",
    [
        "'CN=alice,O=Shop'",
        "'CN=alice'",
        "'O=Shop'",
        "'emailAddress=m@x.test,CN=m'",
        "'UID=a,CN=m'",
        "'CN=alice,OU=x,CN=users'",
        "'O=Shop,CN=alice', 'CN=alice,O=Shop'",
    ],
)
def test_it_may_be_meant(subjects: str) -> None:
    assert warnings(subjects) == []
