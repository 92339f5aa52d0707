"""A state that runs goes on where the machine lacks a part of what it needs at a start (T45).

An address that somebody else has by now, a directory of the access log that is gone: the rest is
served, it is told, and what is missing is taken up when it is there.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.harness import pki, ports, processes, rawclient
from tests.harness.daemon import Kakehi
from tests.harness.repo import Repo
from tests.reconciler.cli.program import KAKEHI


def document(addresses: dict[str, str], **settings: Any) -> dict[str, Any]:
    """Each listener answers with its name."""
    return {
        "settings": {"drain_timeout": "1s", **settings},
        "listeners": {name: {"address": address} for name, address in addresses.items()},
        "frontends": {name: {"listeners": [name], "respond": {"body": name}} for name in addresses},
    }


@contextmanager
def taken(address: str) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(ports.split(address))
        other.listen()
        yield


def answers(address: str) -> bytes:
    with rawclient.Connection(address) as client:
        return client.get("a.test").body


def health(admin: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{admin}/healthz", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def addresses() -> dict[str, str]:
    return {"one": ports.address(), "two": ports.address()}


@pytest.mark.parametrize("end", ["everything", "a worker"])
def test_one_address_that_is_taken(
    addresses: dict[str, str], end: str, daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    admin = ports.address()
    daemon = daemons(Repo(tmp_path / "repository"), workers=2)
    daemon.repo.commit({"kakehi.yaml": document(addresses, admin=admin)})
    daemon.start()
    daemon.kill()
    with taken(addresses["two"]):
        daemon.start()
        if end == "a worker":
            os.kill(daemon.worker_pids()[0], signal.SIGKILL)
        assert answers(addresses["one"]) == b"one"
        processes.wait_until(lambda: health(admin)[0] == 503, "it is told", 10)
        said = f'listener "two" takes no connections: cannot bind {addresses["two"]}'
        assert said in health(admin)[1]
        [warning] = [each for each in daemon.status()["warnings"] if said in each]
        assert "address already in use" in warning
        daemon.commit({"a.yaml": {"clusters": {"unused": {}}}})
        assert answers(addresses["one"]) == b"one"
        processes.wait_until(lambda: "two" in daemon.run_cli("plan").stderr, "planned", 10)
        done = daemon.run_cli("plan")
        assert "No changes" in done.stdout
        assert f"warning: {said}" in done.stderr
    processes.wait_until(lambda: health(admin)[0] == 200, "it is taken up", 20)
    assert {answers(addresses["two"]) for _ in range(16)} == {b"two"}
    assert said not in str(daemon.status()["warnings"])


def test_nobody_listens_at_an_address(
    addresses: dict[str, str], daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    """Who would answer there is told, and that no request gets so far; who has the port as well."""
    admin, one = ports.address(), addresses["one"]
    daemon = daemons(Repo(tmp_path / "repository"), workers=1)
    daemon.repo.commit({"kakehi.yaml": document(addresses, admin=admin)})
    daemon.start()
    daemon.kill()
    with taken(one), taken(admin):
        daemon.start()
        ours = Path("/proc/self/comm").read_text().strip()
        by = f"address already in use by {ours} (process {os.getpid()})"
        warnings = daemon.status()["warnings"]
        assert f"no metrics are served: cannot bind {admin}: {by}" in warnings
        done = daemon.run_cli("plan")
        assert f"warning: no metrics are served: cannot bind {admin}: {by}" in done.stderr
        found = json.loads(daemon.run_cli("explain", f"http://{one}/", "--json").stdout)
        assert found["status"] is None
        assert found["frontend"]["name"] == "one"
        assert found["message"] == (
            f'listener "one" takes no connections: cannot bind {one}: {by}; '
            "once it does: it is answered here with 3 bytes: 200"
        )
        found = json.loads(
            daemon.run_cli("explain", f"http://{addresses['two']}/", "--json").stdout
        )
        assert (found["status"], "takes no" in found["message"]) == (200, False)


def test_a_commit_that_nobody_can_connect_to_is_waited_for(
    addresses: dict[str, str], daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    daemon = daemons(Repo(tmp_path / "repository"), workers=2)
    daemon.repo.commit({"kakehi.yaml": document(addresses)})
    daemon.start()
    daemon.kill()
    one, two = (
        f'listener "{name}" takes no connections: cannot bind {address}: address already in use'
        for name, address in addresses.items()
    )
    with taken(addresses["one"]):
        with taken(addresses["two"]):
            daemon.start(wait=False)
            processes.wait_until(daemon.answers, "it runs")
            commit = daemon.repo.commit({"a.yaml": {"clusters": {"unused": {}}}})
            done = daemon.run_cli("wait", "--commit", commit, "--timeout", "8s")
            assert (done.returncode, one in done.stderr, two in done.stderr) == (8, True, True), (
                done
            )
            assert done.stderr.startswith(f"waiting for {commit[:12]}: "), done
        done = daemon.run_cli("wait", "--commit", commit)
        assert (done.returncode, one in done.stderr, two in done.stderr) == (0, True, False), done
    processes.wait_until(lambda: daemon.status()["warnings"] == [], "it is taken up", 20)
    done = daemon.run_cli("wait", "--commit", commit)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_access_log_that_cannot_be_made_yet(
    addresses: dict[str, str], daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    """It is refused for no fault of its own, and served when there is a directory for it."""
    log = tmp_path / "log" / "access.log"
    daemon = daemons(Repo(tmp_path / "repository"), workers=2)
    daemon.repo.commit({"kakehi.yaml": document(addresses)})
    daemon.start()
    daemon.repo.write({"kakehi.yaml": json.dumps(document(addresses, access_log=str(log)))})
    reason = f"cannot open the access log {log}: no such file or directory"
    planned = daemon.run_cli("plan")
    assert (planned.returncode, reason in planned.stderr) == (6, True)
    commit = daemon.repo.commit({})
    waited = daemon.run_cli("wait", "--commit", commit, "--timeout", "2s")
    assert (waited.returncode, reason in waited.stderr) == (6, True)
    assert daemon.status()["retry"]["commit"] == commit
    log.parent.mkdir()
    daemon.wait(commit)
    assert answers(addresses["one"]) == b"one"
    processes.wait_until(lambda: log.stat().st_size > 0, "it is written", 10)


def test_a_commit_takes_out_what_cannot_be_had(
    addresses: dict[str, str], daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    daemon = daemons(Repo(tmp_path / "repository"), workers=2)
    daemon.repo.commit({"kakehi.yaml": document(addresses)})
    daemon.start()
    daemon.kill()
    with taken(addresses["two"]):
        daemon.start()
        moved = {**addresses, "two": ports.address()}
        daemon.commit({"kakehi.yaml": document(moved)})
        assert {answers(moved["two"]) for _ in range(16)} == {b"two"}
        processes.wait_until(
            lambda: "takes no connections" not in str(daemon.status()["warnings"]), "told", 10
        )
        daemon.commit({"kakehi.yaml": document({"one": addresses["one"]})})
        assert answers(addresses["one"]) == b"one"


def test_an_access_log_whose_directory_is_gone(
    addresses: dict[str, str], daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    place = tmp_path / "log"
    place.mkdir()
    log = place / "access.log"
    daemon = daemons(Repo(tmp_path / "repository"), workers=1)
    daemon.repo.commit({"kakehi.yaml": document(addresses, access_log=str(log))})
    daemon.start()
    daemon.kill()
    shutil.rmtree(place)
    daemon.start()
    assert answers(addresses["one"]) == b"one"
    [warning] = [each for each in daemon.status()["warnings"] if "access log" in each]
    assert f"cannot open the access log {log}: no such file or directory" in warning
    place.mkdir()

    def is_written() -> bool:
        answers(addresses["one"])
        return log.exists() and log.stat().st_size > 0

    processes.wait_until(is_written, "the log is taken up", 20)
    assert "access log" not in str(daemon.status()["warnings"])
    shutil.rmtree(place)
    os.kill(daemon.worker_pids()[0], signal.SIGKILL)
    daemon.commit({"kakehi.yaml": document(addresses, access_log="off")})
    assert answers(addresses["one"]) == b"one"


def test_the_content_of_a_page_is_lost(
    addresses: dict[str, str], daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    """What names it says so and answers 503, and the next commit goes in place of it."""
    page = tmp_path / "page.txt"
    page.write_text("hi")
    daemon = daemons(Repo(tmp_path / "repository"), workers=2)
    written = document(addresses)
    written["frontends"]["one"]["respond"] = {"file": str(page)}
    daemon.repo.commit({"kakehi.yaml": written})
    daemon.start()
    assert answers(addresses["one"]) == b"hi"
    daemon.kill()
    page.unlink()
    shutil.rmtree(daemon.state_dir / "material")
    daemon.start()
    said = [each for each in daemon.status()["warnings"] if str(page) in each]
    assert any('frontend "one"' in each for each in said), said
    with rawclient.Connection(addresses["one"]) as client:
        assert client.get("a.test").status == 503
    daemon.commit({"kakehi.yaml": document(addresses)})
    assert {answers(addresses["one"]) for _ in range(16)} == {b"one"}


def test_a_limit_of_file_sizes_is_named(addresses: dict[str, str], tmp_path: Path) -> None:
    """With so low a one nothing can be kept, and no worker counts."""
    repo, place = Repo(tmp_path / "repository"), str(tmp_path / "state")
    repo.commit({"kakehi.yaml": document(addresses)})
    line = ["run", str(repo.directory), "--state-dir", place, "--runtime-dir", str(tmp_path)]
    kept = tmp_path / "compiled"
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", KAKEHI, *line],
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(kept)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    limit = "files may have 4 KiB at most (raise the limit: LimitFSIZE= or `ulimit -f`)"
    said = f"error cannot use the state directory {place}: File too large; {limit}"
    assert done.stderr.strip().endswith(said), done.stderr
    # Python would keep modules that are cut short, and nothing could be started any more.
    assert list(kept.rglob("opened.*.pyc")) == []


def test_a_low_limit_of_file_sizes_is_told(
    addresses: dict[str, str], daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    daemon = daemons(Repo(tmp_path / "repository"), workers=1)
    daemon.repo.commit({"kakehi.yaml": document(addresses)})
    daemon.start()
    assert not daemon.status()["warnings"]
    assert daemon.process is not None
    resource.prlimit(
        daemon.process.pid, resource.RLIMIT_FSIZE, (1024 * 1024, resource.RLIM_INFINITY)
    )
    [warning] = daemon.status()["warnings"]
    assert warning.startswith("files may have 1024 KiB at most (raise the limit: ")


def shown(address: str) -> bytes:
    """The certificate of a handshake, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(ports.split(address), 10) as plain,
        context.wrap_socket(plain, server_hostname="a.test") as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("files", [0, 1100], ids=["staged", "loaded"])
def test_a_certificate_has_expired_when_the_state_is_lost(
    addresses: dict[str, str], files: int, daemons: Callable[..., Kakehi], tmp_path: Path
) -> None:
    """What was served before is served on, with a warning; an expired one that comes is refused."""
    pair = pki.make("a.test", days=12 / 86400)
    daemon = daemons(Repo(tmp_path / "repository"), workers=1)
    written = document(addresses)
    written["listeners"]["two"]["protocol"] = "https"
    written["certificates"] = {"a": {"certificate": "a.crt", "private_key": "a.key"}}
    more = {f"{number}.yaml": {"clusters": {f"c{number}": {}}} for number in range(files)}
    files_of = {"a.crt": pair.chain.decode(), "a.key": pair.key.decode()}
    daemon.repo.commit({"kakehi.yaml": written, **files_of, **more})
    daemon.start()
    der = pair.certificate.public_bytes(serialization.Encoding.DER)
    assert shown(addresses["two"]) == der
    daemon.kill()
    shutil.rmtree(daemon.state_dir)
    time.sleep(max(0.0, pair.certificate.not_valid_after_utc.timestamp() - time.time() + 0.1))
    daemon.start()
    assert answers(addresses["one"]) == b"one"
    assert shown(addresses["two"]) == der
    told = str(daemon.status()["warnings"])
    assert 'certificate "a": the certificate expired on ' in told
    # Everything is read anew.
    daemon.commit({".kakehiignore": "nothing\n"})
    other = pki.make("a.test", days=-0.1)
    late = daemon.repo.commit({"a.crt": other.chain.decode(), "a.key": other.key.decode()})
    waited = daemon.run_cli("wait", "--commit", late)
    assert (waited.returncode, "expired on" in waited.stderr) == (6, True)
