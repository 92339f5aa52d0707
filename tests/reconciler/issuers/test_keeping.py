"""When keys are fetched: at once, in time, and once for many unknown ones; what is told of it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from reconciler.issuers import keeping
from reconciler.issuers.fetch import FetchError
from reconciler.issuers.keeping import IssuerKeys, WantedKeys
from tests.harness.tokens import Signer, jwks

ONE, OTHER = (jwks(Signer("ES256", name)).encode() for name in ("one", "other"))


class Rig:
    """Keys of one URL, which a test answers for."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.answer: bytes | str = ONE
        self.fetched = self.came = self.unknown = 0
        path = str(directory / "keys" / "a.json")
        self.wanted = {path: WantedKeys("https://a/", path)}
        self.path = directory / "keys" / "a.json"
        patch.setattr(keeping, "fetch", self._fetch)
        patch.setattr(keeping, "_HINT_S", 0.01)
        patch.setattr(keeping, "_FIRST_RETRY_S", 0.02)
        patch.setattr(keeping, "HINT_PAUSE_S", 0.3)

    def _fetch(self, _url: str, _ca: str | None) -> bytes:
        self.fetched += 1
        if isinstance(self.answer, str):
            raise FetchError(self.answer)
        return self.answer

    def _has_come(self) -> None:
        self.came += 1

    def run(self, *steps: Callable[[IssuerKeys], bool]) -> None:
        """Each step is asked until it says yes."""

        async def all_steps() -> None:
            keys = IssuerKeys(
                self.path.parent, lambda: self.wanted, lambda: self.unknown, self._has_come
            )
            running = asyncio.create_task(keys.run())
            for step in steps:
                async with asyncio.timeout(10):
                    while not step(keys):  # noqa: ASYNC110  # nobody tells
                        await asyncio.sleep(0.005)
            running.cancel()
            await asyncio.wait([running])

        asyncio.run(all_steps())


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_what_is_fetched_is_a_file_and_told_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "REFRESH_S", 0.02)
    rig.run(lambda _: rig.fetched > 3)
    assert rig.path.read_bytes() == ONE
    assert rig.came == 1
    rig.answer = OTHER
    rig.run(lambda _: rig.came == 2, lambda keys: keys.failures() == {"https://a/": 0})
    assert rig.path.read_bytes() == OTHER


@pytest.mark.parametrize("answer", ["it answered 500", b"{}", b'{"keys": [{"kty": "oct"}]}'])
def test_what_was_fetched_last_counts_until_better_is_had(rig: Rig, answer: bytes | str) -> None:
    rig.answer = answer
    rig.run(lambda keys: keys.failures().get("https://a/", 0) > 2)
    assert not rig.path.exists()

    def is_told(keys: IssuerKeys, meanwhile: str) -> bool:
        return any(said.endswith(meanwhile) for said in keys.warnings())

    rig.run(lambda keys: is_told(keys, "requests that need them get 503"))
    rig.answer = ONE
    rig.run(lambda _: rig.came == 1)
    rig.answer = answer
    # Of another daemon, a day ago.
    then = time.time() - 24 * 3600
    os.utime(rig.path, (then, then))
    rig.run(lambda keys: is_told(keys, f"those of {since(then)} UTC count"))
    assert rig.path.read_bytes() == ONE


def test_an_issuer_may_take_all_keys_back(rig: Rig) -> None:
    rig.answer = ONE
    rig.run(lambda _: rig.came == 1)
    rig.answer = jwks().encode()
    rig.run(lambda _: rig.came == 2, lambda keys: keys.failures() == {"https://a/": 0})
    assert rig.path.read_bytes() == rig.answer


def since(then: float) -> str:
    return datetime.fromtimestamp(then, UTC).strftime("%Y-%m-%d %H:%M")


def test_many_unknown_keys_have_them_fetched_once(rig: Rig) -> None:
    rig.run(lambda _: rig.came == 1)
    before = rig.fetched
    began: list[float] = []

    def name_more(_: IssuerKeys) -> bool:
        rig.unknown += 1
        began.append(asyncio.get_running_loop().time())
        return rig.fetched >= before + 3

    rig.run(name_more)
    # The first as it began, and the others each behind a pause.
    assert began[-1] - began[0] >= 0.5


def test_who_is_named_no_more_is_left_alone(rig: Rig) -> None:
    rig.answer = "it answered 500"

    def forget(keys: IssuerKeys) -> bool:
        if not keys.warnings():
            return False
        rig.wanted = {}
        return True

    rig.run(forget, lambda keys: not keys.warnings() and keys.failures() == {})


def test_what_nobody_names_stays_for_a_while_and_goes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what lies there from before, and half of a file that was never finished."""
    rig.run(lambda _: rig.came == 1)
    left = [rig.path.with_name(name) for name in ("b.json", "b.json.new")]
    for each in left:
        each.write_bytes(ONE)
    wanted, rig.wanted = rig.wanted, {}
    began: list[float] = []

    def are_gone(_: IssuerKeys) -> bool:
        began.append(time.monotonic())
        return not any(each.exists() for each in (*left, rig.path))

    def take_back(_: IssuerKeys) -> bool:
        rig.wanted = wanted
        return True

    # A commit that is taken back finds them, whether or not anybody answers.
    rig.answer = "it answered 500"
    monkeypatch.setattr(keeping, "UNNAMED_S", 0.5)
    monkeypatch.setattr(keeping, "_LOOK_S", 0.05)
    rig.run(lambda _: True, take_back, lambda keys: keys.failures() == {"https://a/": 1})
    assert rig.path.exists()
    rig.wanted = {}
    rig.run(are_gone)
    assert began[-1] - began[0] > 0.4


def test_of_very_many_that_nobody_names_the_first_go_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_LOOK_S", 0.05)
    rig.path.parent.mkdir()
    for number in range(100):
        rig.path.with_name(f"{number}.json").write_bytes(ONE)
    rig.run(lambda _: len(list(rig.path.parent.iterdir())) <= 64 + 1)


def test_something_else_in_the_place_of_keys_makes_room(rig: Rig) -> None:
    rig.path.mkdir(parents=True)
    rig.run(lambda keys: rig.came == 1 and not keys.warnings())
    assert rig.path.read_bytes() == ONE
    rig.path.unlink()
    os.mkfifo(rig.path)
    rig.run(lambda keys: rig.came == 2 and not keys.warnings())
    assert rig.path.read_bytes() == ONE
    for each in rig.path.parent.iterdir():
        each.rmdir() if each.is_dir() else each.unlink()
    rig.path.parent.rmdir()
    rig.path.parent.write_bytes(b"")
    rig.run(lambda keys: rig.came == 3 and not keys.warnings())
    assert rig.path.read_bytes() == ONE


def test_who_does_not_answer_keeps_nobody_waiting(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of fifty issuers one answers, and is asked as often as it should be."""
    monkeypatch.setattr(keeping, "REFRESH_S", 0.05)
    (good,) = rig.wanted.values()
    silent = [WantedKeys(f"https://{number}/", f"{good.path}.{number}") for number in range(49)]
    rig.wanted = {each.path: each for each in (*silent, good)}
    answered: list[float] = []

    def fetch(url: str, _ca: str | None) -> bytes:
        if url == good.url:
            answered.append(time.monotonic())
            return ONE
        time.sleep(0.5)
        raise FetchError("it did not answer in time")

    monkeypatch.setattr(keeping, "fetch", fetch)
    rig.run(lambda keys: len(keys.warnings()) == 49, lambda _: len(answered) > 20)
    assert max(later - one for one, later in pairwise(answered[1:])) < 0.5
