"""The account at an authority: one key, whoever orders first, and never replaced in silence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from reconciler.acme.client import account_key
from reconciler.acme.order import Order
from tests.harness import pki

ORDER = Order("shop", ("shop.test",), "https://ca.test/directory", (), "http-01", None)


def number(key: ec.EllipticCurvePrivateKey) -> int:
    return key.private_numbers().private_value


def test_first_orders_side_by_side_share_an_account(tmp_path: Path) -> None:
    for attempt in range(20):
        accounts = tmp_path / str(attempt) / "acme" / "accounts"
        with ThreadPoolExecutor(4) as threads:
            keys = list(threads.map(lambda _, to=accounts: account_key(ORDER, to), range(4)))
        assert len({number(key) for key in keys}) == 1
        assert number(account_key(ORDER, accounts)) == number(keys[0])
        assert accounts.stat().st_mode & 0o777 == 0o700
        assert accounts.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["torn", "empty", "of another kind"])
def test_a_damaged_key_is_set_aside_and_told(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = account_key(ORDER, tmp_path)
    (path,) = tmp_path.glob("*.pem")
    content = {
        "torn": path.read_bytes()[:100],
        "empty": b"",
        "of another kind": pki.make("shop.test", kind="rsa").key,
    }[damage]
    path.write_bytes(content)
    second = account_key(ORDER, tmp_path)
    assert number(first) != number(second)
    assert number(account_key(ORDER, tmp_path)) == number(second)
    assert path.with_suffix(".damaged").read_bytes() == content
    assert "an account key is damaged" in capsys.readouterr().err
    assert serialization.load_pem_private_key(path.read_bytes(), None)
