"""Keeps the password of a remote out of command lines, which all users of the machine can read.

Git hands the address of a remote to a program of its own (`git-remote-https URL`), whether it was
told by us or stands in the repository's configuration. So git is told to take another address in
its place, one without the password, which it gets from a credential helper for that host alone. All
of that is in variables, which only we can read. Called by `reconciler.source.remote.git_fetch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from urllib.parse import unquote

from reconciler.patience import within
from reconciler.source.git.repository_errors import RepositoryError
from schemas.entities.secrecy import without_credentials

_ANSWER_S = 10.0
_ANSWER_BYTES_MAX = 64 * 1024
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#@:]*)(:[^/?#@]*)?@(.*)", re.DOTALL)
_BY_HTTP = ("http://", "https://")
_HELPER = (
    '!f() { test "$1" = get && printf "username=%s\\npassword=%s\\n" '
    '"$KAKEHI_REMOTE_USER" "$KAKEHI_REMOTE_PASSWORD"; }; f'
)


async def hide(git_dir: Path, remote: str, environment: dict[str, str]) -> str:
    """Return what git may be told to fetch from; what it needs beside goes into `environment`.

    Raises `RepositoryError`.
    """
    given = _URL.fullmatch(remote)
    plain = remote if given is None else _take_out(given, environment)
    address = await _address_of(git_dir, plain, environment)
    found = _URL.fullmatch(address)
    if found is None or not _is_secret(found):
        return plain
    without = _take_out(found, environment)
    written = [address]
    if address != plain:
        written = await _ask(git_dir, environment, "config", "--get-all", f"remote.{plain}.url")
        # A rule of the configuration may have made the address out of it; the longest goes first.
        written = [*(written[:1] or [plain]), address]
    for each in dict.fromkeys(written):
        _configure(environment, f"url.{without}.insteadOf", each)
    if await _address_of(git_dir, plain, environment) != without:
        raise RepositoryError(
            f"the password of {without_credentials(address)} would be in the arguments of a "
            "program: give it to a credential helper of git"
        )
    return plain


def _is_secret(url: re.Match[str]) -> bool:
    """Whether there is more in front of the host than the name of a user of ssh."""
    scheme, _, password, _ = url.groups()
    return password is not None or scheme in _BY_HTTP


def _take_out(url: re.Match[str], environment: dict[str, str]) -> str:
    """Return the address without its credentials, which git gets by its environment."""
    scheme, user, password, rest = url.groups()
    if scheme not in _BY_HTTP:
        # Nothing else takes a password out of an address.
        return f"{scheme}{user}@{rest}"
    place = scheme + re.split("[/?#]", rest, maxsplit=1)[0]
    if password is None:
        _configure(environment, f"credential.{place}.username", unquote(user))
    else:
        environment["KAKEHI_REMOTE_USER"] = unquote(user)
        environment["KAKEHI_REMOTE_PASSWORD"] = unquote(password[1:])
        _configure(environment, f"credential.{place}.helper", _HELPER)
    return scheme + rest


def _configure(environment: dict[str, str], key: str, value: str) -> None:
    try:
        count = int(environment.get("GIT_CONFIG_COUNT", "0"))
    except ValueError:
        count = 0
    environment["GIT_CONFIG_COUNT"] = str(count + 1)
    environment[f"GIT_CONFIG_KEY_{count}"] = key
    environment[f"GIT_CONFIG_VALUE_{count}"] = value


async def _address_of(git_dir: Path, remote: str, environment: dict[str, str]) -> str:
    """What git would fetch from, by its configuration; `remote` itself if git cannot tell."""
    said = await _ask(git_dir, environment, "ls-remote", "--get-url", "--", remote)
    return said[0] if said else remote


async def _ask(git_dir: Path, environment: dict[str, str], *command: str) -> list[str]:
    """The lines of git's answer to a question that needs no network."""
    try:
        process = await asyncio.create_subprocess_exec(
            *("git", f"--git-dir={git_dir}", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
        )
    except OSError as error:
        raise RepositoryError(f"cannot run git: {error.strerror or error}") from None
    assert process.stdout is not None
    try:
        async with within(_ANSWER_S):
            said = await process.stdout.read(_ANSWER_BYTES_MAX)
            await process.wait()
    except TimeoutError:
        raise RepositoryError(f"git has not answered in {_ANSWER_S:g} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return said.decode("utf-8", "surrogateescape").splitlines()
