"""Fetching with the git program: from repositories that are there, and from what is none."""

from __future__ import annotations

import asyncio
import http.server
import os
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from reconciler.source.git.refs import followed_ref
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.remote.git_fetch import fetch
from reconciler.source.source import Source
from tests.harness import processes
from tests.harness.ports import address
from tests.harness.repo import Repo


def failure(repo: Repo, remote: str) -> str:
    """What is said when a fetch fails."""
    with pytest.raises(RepositoryError) as raised:
        asyncio.run(fetch(repo.directory / ".git", remote, "refs/heads/main", timeout_s=20))
    return str(raised.value)


def test_the_branch_comes_into_a_ref_of_its_own(repo: Repo, tmp_path: Path) -> None:
    upstream = Repo(tmp_path / "upstream")
    commit = upstream.commit({"a.yaml": "1"})
    asyncio.run(fetch(repo.directory / ".git", str(upstream.directory), "refs/heads/main"))
    assert repo.git("rev-parse", followed_ref(str(upstream.directory), "refs/heads/main")) == commit
    assert repo.git("branch", "--list") == ""


def test_into_a_partial_clone_commits_come_with_their_files(repo: Repo, tmp_path: Path) -> None:
    upstream = Repo(tmp_path / "upstream")
    upstream.commit({"a.yaml": "1"})
    for name in ("allowfilter", "allowanysha1inwant"):
        upstream.git("config", f"uploadpack.{name}", "true")
    place, url = tmp_path / "partial", f"file://{upstream.directory}"
    repo.git("clone", "-q", "--no-local", "--filter=blob:none", url, str(place))
    commit = upstream.commit({"a.yaml": "2", "b.yaml": "3"})
    asyncio.run(fetch(place / ".git", "origin", "refs/heads/main"))
    source = Source(place, "main", "origin")
    assert source.head().commit == commit
    assert source.changed(None, source.head().tree).files == {"a.yaml": b"2", "b.yaml": b"3"}


def test_the_password_of_a_url_is_not_said(repo: Repo) -> None:
    said = failure(repo, f"http://joe:hunter2@{address()}/x.git")
    assert "http://(secret)@127.0.0.1" in said
    assert "hunter2" not in said
    assert "joe" not in said


def test_each_remote_has_a_ref_of_its_own() -> None:
    url, branch = "https://joe:a@host/x.git", "refs/heads/feature/x"
    assert followed_ref("origin", branch) == "refs/kakehi/remote/origin/feature/x"
    refs = {followed_ref(each, branch) for each in ("origin", "a/b", "../a", url, url + "2")}
    assert len(refs) == 5
    assert followed_ref(url, branch) == followed_ref("https://joe:b@host/x.git", branch)


def test_the_reason_is_a_whole_sentence(repo: Repo, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    said = failure(repo, str(nothing))
    assert said == (
        f"cannot fetch main from {nothing}: '{nothing}' does not appear to be a git repository"
    )
    upstream = Repo(tmp_path / "upstream")
    upstream.commit({"a.yaml": "1"})
    upstream.git("branch", "-m", "trunk")
    said = failure(repo, str(upstream.directory))
    assert said.endswith(": couldn't find remote ref refs/heads/main")


class Guarded:
    """A server that wants a password; it looks at all processes' arguments when it is asked."""

    def __init__(self, moved_to: str | None = None) -> None:
        self.authorizations: list[str] = []
        self.arguments = b""
        outer = self

        class Liveness(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.arguments += b"".join(
                    content
                    for each in Path("/proc").glob("[0-9]*/cmdline")
                    if (content := read(each))
                )
                given = self.headers.get("Authorization")
                if moved_to is not None:
                    self.send_response(302)
                    self.send_header("Location", moved_to + self.path)
                elif given is None:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                else:
                    outer.authorizations.append(given)
                    self.send_response(500)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liveness)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# In no other test: the arguments of all processes of the machine are looked at.
SECRET = "joe:tanuki%402@"


@pytest.mark.parametrize("written", ["url", "named", "by a rule", "named by a rule", "two urls"])
def test_a_password_is_in_no_ones_arguments_and_reaches_the_server(
    repo: Repo, written: str
) -> None:
    guarded = Guarded()
    try:
        port = guarded.server.server_address[1]
        url, remote = f"http://{SECRET}127.0.0.1:{port}/x.git", "team"
        if "rule" in written:
            repo.git("config", f"url.http://{SECRET}127.0.0.1:{port}/.insteadOf", "our:")
            url = "our:x.git"
        if written in ("url", "by a rule"):
            remote = url
        else:
            repo.git("remote", "add", "team", url)
        if written == "two urls":
            repo.git("remote", "set-url", "--add", "team", "http://127.0.0.1:1/other.git")
        said = failure(repo, remote)
    finally:
        guarded.server.shutdown()
        guarded.server.server_close()
    assert guarded.authorizations[:1] == ["Basic " + b64encode(b"joe:tanuki@2").decode()], said
    assert b"git-remote-http" in guarded.arguments
    assert b"tanuki" not in guarded.arguments
    assert "tanuki" not in said


def test_a_token_in_the_place_of_the_user_is_no_argument_either(repo: Repo) -> None:
    guarded = Guarded()
    try:
        port = guarded.server.server_address[1]
        repo.git("remote", "add", "team", f"http://t0ken@127.0.0.1:{port}/x.git")
        said = failure(repo, "team")
    finally:
        guarded.server.shutdown()
        guarded.server.server_close()
    assert b"git-remote-http" in guarded.arguments
    assert b"t0ken" not in guarded.arguments
    assert "could not read Password" in said, "the user reached git"


def test_a_password_is_given_to_its_host_alone(repo: Repo) -> None:
    elsewhere = Guarded()
    guarded = Guarded(moved_to=f"http://localhost:{elsewhere.server.server_address[1]}")
    try:
        port = guarded.server.server_address[1]
        failure(repo, f"http://{SECRET}127.0.0.1:{port}/x.git")
    finally:
        for each in (guarded, elsewhere):
            each.server.shutdown()
            each.server.server_close()
    assert elsewhere.arguments, "git went there"
    assert elsewhere.authorizations == []


def test_the_user_of_ssh_is_kept_and_its_password_is_not_passed(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ssh"
    program.write_text('#!/bin/sh\necho "fatal: called with $*" >&2\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(program))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    repo.git("remote", "add", "plain", "ssh://git@host.test/x.git")
    repo.git("remote", "add", "secret", "ssh://git:hunter2@host.test/x.git")
    for remote in ("plain", "secret"):
        assert "called with git@host.test git-upload-pack" in failure(repo, remote)


def test_all_that_git_says_is_read(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe holds, in pieces, and the reason comes last."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        "i=0; while [ $i -lt 4000 ]; do echo 'remote: a long greeting of the host, in vain' >&2;"
        " i=$((i+1)); done\nsleep 0.3\necho 'fatal: the reason' >&2\nexit 128\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert "the reason" in failure(repo, "/nowhere")


@pytest.mark.parametrize(("times", "late_s"), [(15, 0.0), (1, 2.0)])
def test_nobody_outlives_a_fetch_that_is_cancelled(
    repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, late_s: float
) -> None:
    """Many times, since those who are killed are mostly gone at once all the same.

    And where it is heard late that git has been started, as on a machine that is busy.
    """
    real = asyncio.create_subprocess_exec

    async def heard_late(*arguments: Any, **more: Any) -> asyncio.subprocess.Process:
        process = await real(*arguments, **more)
        await asyncio.sleep(late_s)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", heard_late)
    groups = tmp_path / "groups"
    program = tmp_path / "ssh"
    program.write_text(
        "#!/bin/sh\nsleep 60 &\nsleep 60 &\nread _ _ _ _ group _ < /proc/$$/stat\n"
        f"echo $group >> {groups}\nwait\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(program))
    monkeypatch.setenv("GIT_SSH_VARIANT", "simple")
    groups.touch()

    async def cancelled(number: int) -> None:
        fetching = asyncio.create_task(
            fetch(repo.directory / ".git", "ssh://host.test/x.git", "refs/heads/main")
        )
        await asyncio.to_thread(
            processes.wait_until,
            lambda: len(groups.read_text().splitlines()) > number,
            "git has called it",
        )
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        group = int(groups.read_text().splitlines()[-1])
        assert [pid for pid in processes.group(group) if processes.is_alive(pid)] == []

    async def many() -> None:
        for number in range(times):
            await cancelled(number)

    asyncio.run(many())
