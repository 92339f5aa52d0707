"""What is fetched over https, within bounds, and the sentence where it is not."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.issuers.fetch import FETCHED_BYTES_MAX, FetchError, fetch
from tests.harness import pki, ports
from tests.harness.issuer import KeyServer

FRAMINGS = ("length", "chunks", "end")
AUTHORITY = pki.make("An authority", is_ca=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KeyServer]:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.chain)
    with KeyServer(tmp_path, pki.make("127.0.0.1", issuer=AUTHORITY)) as made:
        yield made


def failure(url: str, ca: Path, timeout_s: float = 5) -> str:
    with pytest.raises(FetchError) as caught:
        fetch(url, str(ca), timeout_s)
    return str(caught.value)


def test_what_is_there_is_had_up_to_a_size(server: KeyServer, tmp_path: Path) -> None:
    server.content = b"x" * FETCHED_BYTES_MAX
    assert fetch(f"{server.url}?a=b", str(tmp_path / "ca.pem")) == server.content
    server.content += b"x"
    assert failure(server.url, tmp_path / "ca.pem") == "it is larger than 256 KiB"


def test_other_answers_are_none(server: KeyServer, tmp_path: Path) -> None:
    server.content, server.status = b"x", 404
    assert failure(server.url, tmp_path / "ca.pem") == "it answered 404"
    server.status, server.location = 302, server.url
    said = failure(server.url, tmp_path / "ca.pem")
    assert said == "it answered 302; redirects are not followed"
    assert server.asked == 2


@pytest.mark.parametrize("framing", FRAMINGS)
def test_who_is_slow_is_given_up(server: KeyServer, tmp_path: Path, framing: str) -> None:
    """Each byte comes in time, and all of them would take an hour."""
    server.content, server.pause_s, server.framing = b"x" * 36_000, 0.1, framing
    began = time.monotonic()
    assert failure(server.url, tmp_path / "ca.pem", 0.5) == "it did not answer in time"
    assert time.monotonic() - began < 4


@pytest.mark.parametrize("framing", FRAMINGS[:2])
def test_what_ends_too_early_is_none(server: KeyServer, tmp_path: Path, framing: str) -> None:
    server.content, server.framing = b"x" * 1000, framing
    assert fetch(server.url, str(tmp_path / "ca.pem")) == server.content
    server.left_out = 1
    assert failure(server.url, tmp_path / "ca.pem") == "it ended before its end"


def test_only_whom_one_trusts_is_asked(server: KeyServer, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="its certificate is not trusted: "):
        fetch(server.url, None)
    other = server.url.replace("127.0.0.1", "localhost")
    assert "its certificate is not trusted: Hostname mismatch" in failure(
        other, tmp_path / "ca.pem"
    )
    assert failure(server.url, tmp_path / "no.pem") == (
        f"{tmp_path / 'no.pem'}: No such file or directory"
    )
    assert server.asked == 0


def test_nobody_is_there(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.chain)
    url = f"https://{ports.address()}/keys"
    assert failure(url, tmp_path / "ca.pem") == "Connection refused"
    assert "its name has no address" in failure("https://keys.invalid/", tmp_path / "ca.pem")


def test_an_address_without_a_port_is_asked_at_the_usual_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stands behind the last colon of an address of IPv6 is no port."""
    asked: list[object] = []

    def connect(address: object, _timeout_s: float) -> None:
        asked.append(address)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr("socket.create_connection", connect)
    for url in ("https://[2001:db8::1]/k", "https://[2001:db8::beef]/k", "https://[::1]:8443/k"):
        with pytest.raises(FetchError, match="Connection refused"):
            fetch(url, None)
    assert asked == [("2001:db8::1", 443), ("2001:db8::beef", 443), ("::1", 8443)]
