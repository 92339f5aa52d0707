"""Brings the followed branch of a remote in, by the git program.

Into a ref of its own, so that nobody's branches and working tree are touched. No hook runs, nothing
asks for a password, and a git that hangs is ended. Called by `fetching` beside.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from reconciler.patience import within
from reconciler.source.git.refs import followed_ref
from reconciler.source.git.repository_errors import RepositoryError
from reconciler.source.remote import credentials
from schemas.entities.secrecy import without_credentials

# A fetch that takes longer hangs; the next interval tries anew.
FETCH_TIMEOUT_S = 60.0
_ERROR_BYTES_MAX = 64 * 1024
# What git says behind the reason, or before every reason.
_GENERAL = (
    "Could not read from remote repository.",
    "Please make sure",
    "and the repository exists",
)
_REASONS_MAX = 3
_REASON_CHARS_MAX = 1000
_LAST_WORDS_S = 1.0
_IS_THERE = 0
_ENDED_LOOKS, _ENDED_LOOK_S = 500, 0.01
# Most are gone at once; and then it takes a look at all processes of the machine.
_LOOKS_AT_EACH = 5


async def fetch(
    git_dir: Path, remote: str, branch: str, timeout_s: float = FETCH_TIMEOUT_S
) -> None:
    """Moves `followed_ref(remote, branch)` to the remote's branch. Raises `RepositoryError`.

    What it raises is shown to people: no password of a URL is in it, not in git's words either.
    """
    name = branch.removeprefix("refs/heads/")
    shown = without_credentials(remote)
    options = [
        "-c",
        "core.hooksPath=/dev/null",
        "-c",
        "gc.auto=0",
        "-c",
        "protocol.ext.allow=never",
    ]
    fetching = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
    # A partial clone would get commits without their files, which nobody fetches behind us.
    fetching.append("--no-filter")
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        **_batch_ssh(),
    }
    address = await credentials.hide(git_dir, remote, environment)
    refspec = f"+refs/heads/{name}:{followed_ref(remote, branch)}"
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *("git", f"--git-dir={git_dir}", *options, *fetching, "--", address, refspec),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # It may run already, with ssh below it, before we have heard that it does.
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise
    except OSError as error:
        raise RepositoryError(f"cannot run git: {error.strerror or error}") from None
    assert process.stderr is not None
    said = bytearray()
    reading = asyncio.create_task(_read_last(process.stderr, said))
    try:
        async with within(timeout_s):
            code = await process.wait()
            # Something that git started may hold its stderr for longer.
            await asyncio.wait([reading], timeout=_LAST_WORDS_S)
    except TimeoutError:
        raise RepositoryError(f"fetching from {shown} took over {timeout_s:g} s") from None
    finally:
        reading.cancel()
        await _end(process)
    if code != 0:
        reason = _reason(said.decode(errors="replace")) or f"git ended with {code}"
        raise RepositoryError(f"cannot fetch {name} from {shown}: {without_credentials(reason)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Also ssh below it, and also when this task is cancelled: a daemon leaves nobody behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await process.wait()
        # A kill is only a request, which takes its time where others compute.
        for look in range(1, _ENDED_LOOKS):
            os.killpg(process.pid, _IS_THERE)
            # Who is over may stay in the group until somebody asks for it.
            if look % _LOOKS_AT_EACH == 0 and not await asyncio.to_thread(_has_living, process.pid):
                return
            await asyncio.sleep(_ENDED_LOOK_S)


def _has_living(group: int) -> bool:
    """Whether any process of a group is not over."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended since
            state, _, found, *_ = place.read_bytes().rpartition(b")")[2].split()
            if int(found) == group and state not in (b"Z", b"X"):
                return True
    return False


async def _read_last(stream: asyncio.StreamReader, said: bytearray) -> None:
    """All is read, since git would wait otherwise, and the end is kept: that has the reason."""
    while block := await stream.read(_ERROR_BYTES_MAX):
        said += block
        del said[:-_ERROR_BYTES_MAX]


def _reason(said: str) -> str:
    """Return what git and ssh give as reasons, without what they say whatever the reason is."""
    # A host may greet at any length before git says what went wrong.
    marked = sorted(said.split("\n"), key=lambda line: not line.startswith(("fatal: ", "error: ")))
    lines = [line.strip().removeprefix("fatal: ").removeprefix("error: ") for line in marked]
    telling = [line for line in lines if line and not line.startswith(_GENERAL)]
    first = (telling or [line for line in lines if line])[:_REASONS_MAX]
    return "; ".join(line[:_REASON_CHARS_MAX] for line in first)


def _batch_ssh() -> dict[str, str]:
    given = os.environ.get("GIT_SSH_COMMAND") or os.environ.get("GIT_SSH")
    return {} if given else {"GIT_SSH_COMMAND": "ssh -o BatchMode=yes"}
