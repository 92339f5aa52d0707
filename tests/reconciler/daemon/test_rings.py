"""The parts of a daemon as they are at run time: who is given whom, without a circle.

import-linter sees what modules name. What a part was given may lead back to it all the same: a
closure over what is made later, or a method of its own. `Daemon` is above all of them, and none of
them leads to it.
"""

from __future__ import annotations

import asyncio
import functools
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reconciler.daemon.options import DaemonOptions
from reconciler.daemon.starting import _begin
from reconciler.materials.completing import Machine
from reconciler.materials.sealed import Keyring
from reconciler.storage.store import Store
from reconciler.workers.watching.runtime_directory import RuntimeDirectory
from tests.harness.repo import Repo

PARTS_MIN = 60


def test_no_part_leads_back_to_itself(tmp_path: Path) -> None:
    Repo(tmp_path / "repository").commit({"kakehi.yaml": "settings: {}\n"})
    met, rings = asyncio.run(looked_through(tmp_path))
    assert len(met) >= PARTS_MIN, met
    assert rings == []


def test_the_walk_finds_a_ring_behind_a_closure_and_a_method() -> None:
    class Upper:
        def __init__(self) -> None:
            self.lower = [Lower(self.told), Lower(lambda: self)]

        def told(self) -> None: ...

    class Lower:
        def __init__(self, tell: Callable[[], object]) -> None:
            self.tell = functools.partial(tell)

    upper = Upper()
    for each in (Upper, Lower):
        each.__module__ = "reconciler.made_up"
    graph = graph_from(upper)
    [ring] = rings_of(graph)
    assert sorted(type(graph[node][0]).__name__ for node in ring) == ["Lower", "Lower", "Upper"]


async def looked_through(directory: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the parts that are met, and of those in each circle."""
    options = DaemonOptions(
        directory=directory / "repository",
        ref=None,
        workers=1,
        runtime_dir=directory / "run",
        state_dir=directory / "state",
        remote=None,
        fetch_interval_s=None,
        identity=None,
    )
    runtime = RuntimeDirectory(options.runtime_dir)
    store = Store(options.state_dir)
    try:
        machine = Machine(Keyring(None), directory / "issued", directory / "fetched")
        daemon = await _begin(options, store, machine, runtime)
        graph = graph_from(daemon)
    finally:
        store.close()
        runtime.close()
    names = {node: name_of(part) for node, (part, _) in graph.items()}
    return sorted(names.values()), [[names[node] for node in ring] for ring in rings_of(graph)]


Graph = dict[int, tuple[object, list[int]]]


def graph_from(root: object) -> Graph:
    """All parts that can be come to, and whom each was given."""
    graph: Graph = {}
    left = [root]
    while left:
        part = left.pop()
        if id(part) in graph:
            continue
        given = given_to(part)
        graph[id(part)] = part, [id(each) for each in given]
        left += given
    return graph


def name_of(part: object) -> str:
    return f"{type(part).__module__.removeprefix('reconciler.')}.{type(part).__name__}"


def given_to(part: object) -> list[object]:
    """What of ours its attributes hold: by themselves, or within what is nobody's part."""
    found, seen = [], set[int]()
    left: list[Any] = list(attributes(part))
    while left:
        held = left.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        if type(held).__module__.startswith("reconciler.") and not isinstance(held, type):
            found.append(held)
            continue
        match held:
            case types.MethodType():
                left.append(held.__self__)
            case types.FunctionType():
                left += [cell.cell_contents for cell in held.__closure__ or ()]
            case functools.partial():
                left += [held.func, *held.args, *held.keywords.values()]
            case list() | tuple() | set() | frozenset():
                left += held
            case dict():
                left += held.values()
    return found


def attributes(part: object) -> Iterator[object]:
    yield from getattr(part, "__dict__", {}).values()
    for each in type(part).__mro__:
        slots = getattr(each, "__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(part, name):
                yield getattr(part, name)


def rings_of(graph: Graph) -> list[list[int]]:
    """Tarjan's strongly connected components, those of more than one part."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    waiting: list[int] = []
    found: list[list[int]] = []

    def visit(node: int) -> None:
        order[node] = low[node] = len(order)
        waiting.append(node)
        for given in graph[node][1]:
            if given not in order:
                visit(given)
                low[node] = min(low[node], low[given])
            elif given in waiting:
                low[node] = min(low[node], order[given])
        if low[node] == order[node]:
            ring = waiting[waiting.index(node) :]
            del waiting[waiting.index(node) :]
            if len(ring) > 1:
                found.append(ring)

    for node in graph:
        if node not in order:
            visit(node)
    return found
