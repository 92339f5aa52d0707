"""Random commits against a running daemon, and the slow oracle: load every file of the commit."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from reconciler.catalog.catalog import load_directory
from reconciler.loop.stager import digest_after
from schemas.changes.change import Change
from schemas.changes.state import State
from tests.harness.repo import Repo
from tests.reconciler.entities import backend
from tests.reconciler.live import Shop, shop

FILES = ["a.yaml", "b.yml", "team/c.yaml", "team/d.yaml", "notes.txt"]
NAMES = ["one", "two", "three", "four"]


def random_file(dice: random.Random) -> str:
    """The text of a file: usually valid by itself, often in conflict with the others."""
    if dice.random() < 0.08:
        return dice.choice(["a: [", "clusters: {x: {retires: 1}}", "frontends: 3", "\x00", "- 1"])
    content: dict[str, Any] = {}
    if dice.random() < 0.8:
        content["clusters"] = {
            name: {
                "retries": dice.randint(0, 3),
                "backends": {
                    each: {"address": f"127.0.0.1:{dice.randint(9000, 9005)}"}
                    for each in dice.sample(NAMES, dice.randint(0, 2))
                },
            }
            for name in dice.sample(NAMES, 1)
        }
    if dice.random() < 0.6:
        content["frontends"] = {
            name: {
                "listeners": ["public"],
                "cluster": dice.choice([*NAMES, "shop"]),
                "hostname": f"{name}.example.com",
            }
            for name in dice.sample(NAMES, 1)
        }
    if dice.random() < 0.1:
        content["settings"] = {"max_requests": dice.randint(1, 100)}
    style = dice.choice([None, 1, 4])
    return "# generated\n" * dice.randint(0, 2) + json.dumps(content, indent=style)


def oracle(repo: Repo) -> State | None:
    """Everything in HEAD, loaded from nothing; None when it is invalid."""
    names = repo.git("ls-tree", "-r", "--name-only", "HEAD").splitlines()
    files = [
        (name, repo.git("show", f"HEAD:{name}").encode())
        for name in names
        if name.endswith((".yaml", ".yml"))
    ]
    state, _ = load_directory(files)
    return state


def mutate(running: Shop, dice: random.Random) -> None:
    repo = running.repo
    present = [name for name in FILES if (repo.directory / name).exists()]
    for _ in range(dice.randint(1, 2)):
        name = dice.choice(FILES)
        gone = name in present and dice.random() < 0.4
        if gone:
            present.remove(name)
        repo.write({name: None if gone else random_file(dice)})
        if not gone and name not in present:
            present.append(name)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_committed_runs_or_changes_nothing(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    outcomes = {True: 0, False: 0}
    with shop(tmp_path, workers=2) as running:
        files = running.files(0)
        repo = running.repo
        del files["settings.yaml"]
        running.daemon.commit({"settings.yaml": None, **files})
        before = running.daemon.status()
        for _ in range(40):
            if dice.random() < 0.15 and outcomes[True] > 3:
                repo.git("reset", "-q", "--hard", f"HEAD~{dice.randint(1, 3)}")
            else:
                mutate(running, dice)
                repo.commit()
            head = repo.head()
            waited = running.daemon.run_cli("wait", "--commit", head)
            wanted = oracle(repo)
            status = running.daemon.status()
            assert waited.returncode == (6 if wanted is None else 0), waited.stderr
            outcomes[wanted is not None] += 1
            if wanted is None:
                assert status["last_error"]["commit"] == head
                assert status["last_error"]["file"]
                assert (status["digest"], status["generation"]) == (
                    before["digest"],
                    before["generation"],
                )
                assert status["commit"] == before["commit"]
            else:
                assert status["digest"] == wanted.digest
                assert status["commit"] == head
                assert status["last_error"] is None
            assert {worker["digest"] for worker in status["workers"]} == {status["digest"]}
            before = status
        held = {
            (each["kind"], each["name"]): each["source"]
            for each in running.daemon.json("show")["entities"]
        }
        wanted = oracle(repo)
        if wanted is not None:
            for key, entity in wanted.entities.items():
                assert held[key]["line"] == entity.provenance.line, key
    assert min(outcomes.values()) >= 3, "the dice were one-sided"


def test_the_expected_digest_is_that_of_the_changed_state() -> None:
    state = State([backend("shop/a", 1), backend("shop/b", 2)])
    one, two, new = state[backend("shop/a", 1).key], backend("shop/a", 9), backend("shop/c", 3)
    changes = (
        Change("update", one.key, one, two, ()),
        Change("remove", backend("shop/b", 2).key, backend("shop/b", 2), None, ()),
        Change("add", new.key, None, new, ()),
    )
    expected = digest_after(state.digest, changes)
    state.apply(changes)
    assert state.digest == expected
