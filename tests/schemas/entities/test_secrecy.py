from __future__ import annotations

import pytest

from schemas.entities.secrecy import names_credential, without_credentials, without_secrets

HASH = "a" * 64


@pytest.mark.parametrize(
    "name",
    ["authorization", "Proxy-Authorization", "cookie", "x-api-key", "x-csrf-token", "client-secret"]
    + ["x-password", "aws-credentials"],
)
def test_a_name_that_carries_credentials(name: str) -> None:
    assert names_credential(name)


@pytest.mark.parametrize("name", ["x-tier", "accept", "cookie-consent", "x-authorized-by"])
def test_a_name_that_carries_none(name: str) -> None:
    assert not names_credential(name)


def test_values_of_a_frontend() -> None:
    value = {
        "cluster": "token",
        "headers": {"authorization": {"exact": "Bearer x"}, "x-tier": {"exact": "gold"}},
        "query": {"api_key": {"regex": "x+"}, "v": {"exact": "2"}},
        "cookies": {"PHPSESSID": {"exact": "x", "not": True}, "beta": {"exact": "1"}},
    }
    assert without_secrets("frontend", value) == {
        "cluster": "token",
        "headers": {"authorization": {"exact": "(secret)"}, "x-tier": {"exact": "gold"}},
        "query": {"api_key": {"regex": "(secret)"}, "v": {"exact": "2"}},
        "cookies": {"PHPSESSID": {"exact": "(secret)", "not": True}, "beta": {"exact": "1"}},
    }
    # Whether there is any is no secret.
    there = {"headers": {"authorization": {"present": True}}}
    assert without_secrets("frontend", there) == there


def test_the_hash_of_a_private_key() -> None:
    file = {"path": "tls/key.pem", "sha256": HASH}
    shown = {"path": "tls/key.pem", "sha256": "(secret)"}
    assert without_secrets("certificate", {"certificate": file, "private_key": file}) == {
        "certificate": file,
        "private_key": shown,
    }
    assert without_secrets("cluster", {"tls": {"ca": file, "private_key": file}}) == {
        "tls": {"ca": file, "private_key": shown}
    }
    assert without_secrets("cluster", {"tls": {"ca": file, "private_key": None}}) == {
        "tls": {"ca": file, "private_key": None}
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://joe:hunter2@host/x.git", "https://(secret)@host/x.git"),
        ("https://ghp_token@host/x.git", "https://(secret)@host/x.git"),
        ("HTTPS://joe:p@ss:w@host:8443/x", "HTTPS://(secret)@host:8443/x"),
        ("ssh://git@host/x.git", "ssh://git@host/x.git"),
        ("ssh://git:pass@host/x.git", "ssh://git:(secret)@host/x.git"),
        ("git@host:x.git", "git@host:x.git"),
        ("https://host/x@y.git", "https://host/x@y.git"),
        ("origin", "origin"),
        (
            "unable to access 'https://joe:hunter2@host/x.git/': Could not resolve host: host",
            "unable to access 'https://(secret)@host/x.git/': Could not resolve host: host",
        ),
    ],
)
def test_urls_in_a_text(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
