"""Sessions are resumed by tickets: of both versions, on any worker, and after a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tests.harness import processes, tls
from tests.harness.tlssite import TlsSite, pem_files

_VERSIONS = {"-tls1_2": ssl.TLSVersion.TLSv1_2, "-tls1_3": ssl.TLSVersion.TLSv1_3}


def session_of(connection: tls.TlsConnection) -> ssl.SSLSession:
    """The connection's session; in TLS 1.3 the ticket comes with the first answer."""
    assert connection.get("www.test").body == b"red"
    session = connection.socket.session
    assert session is not None
    assert session.has_ticket
    return session


@pytest.mark.parametrize("version", _VERSIONS)
def test_openssl_resumes_with_the_session_that_it_kept(
    single: TlsSite, tmp_path: Path, version: str
) -> None:
    single.begin(single.files({"shop": single.leaf("www.test")}))
    kept = str(tmp_path / "session.pem")
    first = tls.s_client(single.https, version, "-sess_out", kept, name="www.test", host="www.test")
    assert (bool(first.cipher), first.resumed) == (True, False), first
    again = tls.s_client(single.https, version, "-sess_in", kept, name="www.test", host="www.test")
    assert again.resumed, again
    assert "200 OK" in again.text


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_session_is_resumed_across_a_rotation_of_the_certificate(
    single: TlsSite, tmp_path: Path, version: str
) -> None:
    """The session was authenticated by the old one; what matters is that nothing fails."""
    single.begin(single.files({"shop": single.leaf("www.test")}))
    kept = str(tmp_path / "session.pem")
    tls.s_client(single.https, version, "-sess_out", kept, name="www.test", host="www.test")
    new = single.leaf("www.test")
    single.commit(pem_files({"shop": new}))
    again = tls.s_client(single.https, version, "-sess_in", kept, name="www.test", host="www.test")
    assert "200 OK" in again.text, again
    assert single.shown() == new.der


def test_a_session_of_another_name_is_not_resumed_for_this_one(
    single: TlsSite, tmp_path: Path
) -> None:
    single.begin(single.files({"one": single.leaf("www.test"), "two": single.leaf("other.test")}))
    kept = str(tmp_path / "session.pem")
    for version in _VERSIONS:
        tls.s_client(single.https, version, "-sess_out", kept, name="www.test", host="www.test")
        other = tls.s_client(single.https, version, "-sess_in", kept, name="other.test")
        assert other.cipher, other
        assert not other.resumed, f"{version}: a session of www.test opened other.test"


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_forged_ticket_costs_a_full_handshake_and_nothing_else(
    shared: TlsSite, tmp_path: Path, version: str
) -> None:
    """A ticket of another server's keys is one that we cannot open."""
    shared.begin(shared.files({"shop": shared.leaf("www.test")}))
    with TlsSite(tmp_path / "other", workers=1) as other:
        other.start(other.files({"shop": other.leaf("www.test")}))
        kept = str(tmp_path / "session.pem")
        tls.s_client(other.https, version, "-sess_out", kept, name="www.test", host="www.test")
    again = tls.s_client(shared.https, version, "-sess_in", kept, name="www.test", host="www.test")
    assert not again.resumed
    assert "200 OK" in again.text, again


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_session_of_one_worker_is_resumed_by_the_other(shared: TlsSite, version: str) -> None:
    shared.begin(shared.files({"shop": shared.leaf("www.test")}))
    context = tls.trusting(shared.authority, version=_VERSIONS[version])
    with shared.connect(context=context) as connection:
        session = session_of(connection)
        [maker] = processes.servers(shared.worker_pids(), shared.https).values()
    met: dict[int, list[bool]] = {}
    for _ in range(200):
        with shared.connect(context=context, session=session) as connection:
            # The one before may not be closed yet.
            pid = processes.servers(shared.worker_pids(), shared.https)[connection.local_port]
            met.setdefault(pid, []).append(connection.socket.session_reused is True)
            assert connection.get("www.test").body == b"red"
        if len(met) == 2 and min(len(found) for found in met.values()) >= 3:
            break
    assert len(met) == 2, met
    assert all(met[maker]), "not even its own worker resumes it"
    assert all(all(found) for found in met.values()), f"of {maker}: {met}"


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_session_is_resumed_after_a_restart_of_everything(single: TlsSite, version: str) -> None:
    single.begin(single.files({"shop": single.leaf("www.test")}))
    context = tls.trusting(single.authority, version=_VERSIONS[version])
    with single.connect(context=context) as connection:
        session = session_of(connection)
    before = single.worker_pids()
    assert single.daemon.interrupt() == 0
    single.daemon.await_end()
    single.daemon.return_()
    assert not set(before) & set(single.worker_pids())
    with single.connect(context=context, session=session) as connection:
        assert connection.get("www.test").body == b"red"
        assert connection.socket.session_reused


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_session_outlives_the_daemon_alone(single: TlsSite, version: str) -> None:
    """The workers stay, and so do their keys."""
    single.begin(single.files({"shop": single.leaf("www.test")}))
    context = tls.trusting(single.authority, version=_VERSIONS[version])
    with single.connect(context=context) as connection:
        session = session_of(connection)
    single.daemon.leave()
    single.daemon.return_()
    with single.connect(context=context, session=session) as connection:
        assert connection.socket.session_reused


@pytest.mark.parametrize("version", _VERSIONS)
def test_a_session_survives_an_unconcerned_commit(single: TlsSite, version: str) -> None:
    files = single.files({"shop": single.leaf("www.test")})
    single.begin(files)
    context = tls.trusting(single.authority, version=_VERSIONS[version])
    with single.connect(context=context) as connection:
        session = session_of(connection)
    single.commit({"more.yaml": {"clusters": {"more": {}}}})
    with single.connect(context=context, session=session) as connection:
        assert connection.socket.session_reused


def test_early_data_is_not_offered_and_so_never_replayed(single: TlsSite, tmp_path: Path) -> None:
    """A ticket that does not allow it (RFC 8446 §4.2.10) keeps every client from sending any."""
    single.begin(single.files({"shop": single.leaf("www.test")}))
    kept = str(tmp_path / "session.pem")
    first = tls.s_client(single.https, "-sess_out", kept, name="www.test", host="www.test")
    assert "Max Early Data: 0" in first.text
    early = tmp_path / "early"
    early.write_bytes(b"GET /early HTTP/1.1\r\nHost: www.test\r\n\r\n")
    again = tls.s_client(
        single.https, "-sess_in", kept, "-early_data", str(early), name="www.test", host="www.test"
    )
    assert again.resumed
    assert "Early data was not sent" in again.text
    assert not [each for each in single.daemon.access_entries() if each["path"] == "/early"]
