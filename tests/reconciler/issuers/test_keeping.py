"""When keys are fetched: at once, in time, and once for many unknown ones; what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
            keys = IssuerKeys(lambda: self.wanted, lambda: self.unknown, self._has_come)
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


@pytest.mark.parametrize("answer", ["it answered 500", b"{}", jwks().encode()])
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
    rig.run(lambda keys: is_told(keys, "fetched before this daemon began count"))
    assert rig.path.read_bytes() == ONE


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
