"""Entities completed by the files that they name, and the store of these files."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import UnreadableError
from reconciler.materials.completing import Completed, complete
from reconciler.materials.reading import MATERIAL_BYTES_MAX, no_files, read_external
from reconciler.storage.kept.contents import MaterialStore
from schemas.changes.change import Change
from schemas.entities.entity import Entity
from schemas.entities.material import materials_of
from schemas.messages.files import read_regular
from tests.harness import pki
from tests.harness.pki import Pair
from tests.reconciler.building import entity


def completed(pair: Pair, **fields: Any) -> Completed:
    files = {"a.crt": pair.chain, "a.key": pair.key}

    def read(path: str) -> bytes:
        return files[path] if path in files else read_external(path)

    return complete(certificate(**fields), read)


def certificate(**fields: Any) -> Entity:
    return entity(
        "certificate", "shop", **{"certificate": "a.crt", "private_key": "a.key", **fields}
    )


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def pair() -> Pair:
    return pki.make("shop.test", "*.shop.test")


def test_paths_get_the_hash_of_their_content(pair: Pair) -> None:
    done = completed(pair)
    assert done.remarks == []
    assert done.entity is not None
    assert done.entity.value == {
        "certificate": {"path": "a.crt", "sha256": digest(pair.chain)},
        "hostnames": ["*.shop.test", "shop.test"],
        "private_key": {"path": "a.key", "sha256": digest(pair.key)},
    }
    assert done.contents == {digest(pair.chain): pair.chain, digest(pair.key): pair.key}


def test_hostnames_may_be_fewer(pair: Pair) -> None:
    done = completed(pair, hostnames=["a.shop.test"])
    assert done.entity is not None
    assert done.entity.value["hostnames"] == ["a.shop.test"]
    wrong = completed(pair, hostnames=["other.test"])
    assert (wrong.entity, wrong.remarks[0].field) == (None, "hostnames")


def test_a_certificate_without_any_name_must_be_given_some() -> None:
    (remark,) = completed(pki.make("10.0.0.1")).remarks
    assert "has no DNS name" in remark.message


def test_every_file_that_is_missing_is_told_with_its_path() -> None:
    done = complete(
        certificate(certificate="/nowhere/a.crt", private_key="/nowhere/b.key"), read_external
    )
    assert done.entity is None
    assert [remark.message for remark in done.remarks] == [
        "/nowhere/a.crt: No such file or directory",
        "/nowhere/b.key: No such file or directory",
    ]
    assert [remark.field for remark in done.remarks] == ["certificate", "private_key"]
    assert {remark.hint for remark in done.remarks} == {"there is no directory /nowhere"}
    assert [remark.message for remark in complete(certificate(), no_files).remarks] == [
        "a.crt: the file is not there",
        "a.key: the file is not there",
    ]


def test_what_may_be_meant_by_a_name_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "shop.crt").write_bytes(b"")
    with pytest.raises(UnreadableError, match="No such file or directory") as raised:
        read_external(str(tmp_path / "shpo.crt"))
    assert raised.value.hint == f'did you mean "{tmp_path}/shop.crt"?'
    # All that there is, if it is little, and otherwise none but what is like it.
    with pytest.raises(UnreadableError) as raised:
        read_external(str(tmp_path / "key.pem"))
    assert raised.value.hint == "there is shop.crt"
    for name in ("bin", "boot", "dev", "etc", "home", "certificates-of-web.pem"):
        (tmp_path / name).mkdir()
    with pytest.raises(UnreadableError) as raised:
        read_external(str(tmp_path / "key.pem"))
    assert raised.value.hint == "there is certificates-of-web.pem"
    with pytest.raises(UnreadableError) as raised:
        read_external(str(tmp_path / "private.key"))
    assert raised.value.hint == "no name there is like it"


def test_swapped_files_are_told_as_swapped_and_nothing_else(pair: Pair, tmp_path: Path) -> None:
    key, chain = tmp_path / "a.key", tmp_path / "a.crt"
    key.write_bytes(pair.key)
    chain.write_bytes(pair.chain)
    chain.chmod(0o644)
    done = complete(certificate(certificate=str(key), private_key=str(chain)), read_external)
    (remark,) = done.remarks
    assert (remark.severity, remark.field) == ("error", "certificate")
    assert "swapped" in remark.message


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="directory"):
        read_external(str(tmp_path))
    large = tmp_path / "large.pem"
    large.write_bytes(bytes(MATERIAL_BYTES_MAX + 1))
    with pytest.raises(UnreadableError, match="more than 1024 KiB"):
        read_external(str(large))


def test_a_key_that_everybody_can_read_is_a_warning(pair: Pair, tmp_path: Path) -> None:
    key = tmp_path / "a.key"
    key.write_bytes(pair.key)
    for mode, warned in ((0o644, True), (0o640, False), (0o600, False)):
        key.chmod(mode)
        done = completed(pair, private_key=str(key))
        assert done.entity is not None
        assert [remark.severity for remark in done.remarks] == ["warning"] * warned
    key.chmod(0o604)
    (remark,) = completed(pair, private_key=str(key)).remarks
    assert (remark.field, remark.hint) == ("private_key", f"chmod o-r {key}")


def test_a_cluster_has_files_too(pair: Pair) -> None:
    files = {"ca.pem": pair.pem, "a.crt": pair.chain, "a.key": pair.key}
    tls = {"ca": "ca.pem", "certificate": "a.crt", "private_key": "a.key"}
    done = complete(entity("cluster", "shop", tls=tls), files.__getitem__)
    assert done.entity is not None
    value = done.entity.value["tls"]
    assert isinstance(value, dict)
    assert value["ca"] == {"path": "ca.pem", "sha256": digest(pair.pem)}
    files["ca.pem"] = b"junk"
    assert [
        each.field
        for each in complete(entity("cluster", "shop", tls=tls), files.__getitem__).remarks
    ] == ["ca"]


def test_other_kinds_are_left_alone() -> None:
    plain = entity("cluster", "shop")
    assert complete(plain, no_files).entity == plain
    other = entity("backend", "shop/one", address="127.0.0.1:1")
    assert complete(other, no_files).entity is other


# The store.


def held(store: MaterialStore) -> set[str]:
    return {path.name for path in store.directory.iterdir()}


def kept(store: MaterialStore, pair: Pair) -> Entity:
    done = completed(pair)
    assert done.entity is not None
    store.keep([done.entity], done.contents)
    return done.entity


class Running:
    """The entities that run, as the database answers for them."""

    def __init__(self, *entities: Entity) -> None:
        self._entities = {entity.key: entity for entity in entities}

    def names(self, digest: str) -> bool:
        return any(
            digest == found.sha256
            for each in self._entities.values()
            for found in materials_of(each)
        )

    def apply(self, store: MaterialStore, *changes: Change) -> None:
        for change in changes:
            self._entities.pop(change.key, None)
            if change.after is not None:
                self._entities[change.key] = change.after
        store.applied(changes)


def put(before: Entity | None, after: Entity | None) -> Change:
    action = "add" if before is None else "update" if after is not None else "remove"
    found = after or before
    assert found is not None
    return Change(action, found.key, before, after, ())


def test_contents_come_and_go_with_what_runs(tmp_path: Path, pair: Pair) -> None:
    running = Running()
    store = MaterialStore(tmp_path, running.names)
    assert store.directory.stat().st_mode & 0o777 == 0o700
    first = kept(store, pair)
    assert held(store) == {digest(pair.chain), digest(pair.key)}
    assert {path.stat().st_mode & 0o777 for path in store.directory.iterdir()} == {0o600}
    running.apply(store, put(None, first))
    other = pki.make("shop.test")
    second = kept(store, other)
    assert len(held(store)) == 4
    running.apply(store, put(first, second))
    assert held(store) == {digest(other.chain), digest(other.key)}
    running.apply(store, put(second, None))
    assert held(store) == set()


def test_a_content_of_two_entities_stays_for_the_other(tmp_path: Path, pair: Pair) -> None:
    running = Running()
    store = MaterialStore(tmp_path, running.names)
    one = kept(store, pair)
    two = Entity(one.key._replace(name="two"), one.value, one.provenance)
    running.apply(store, put(None, one), put(None, two))
    running.apply(store, put(one, None))
    assert len(held(store)) == 2
    running.apply(store, put(two, None))
    assert held(store) == set()


def test_what_came_to_nothing_is_removed(tmp_path: Path, pair: Pair) -> None:
    running = Running()
    store = MaterialStore(tmp_path, running.names)
    served = kept(store, pair)
    running.apply(store, put(None, served))
    refused = kept(store, pki.make("shop.test"))
    store.dropped([refused, served])
    assert held(store) == {digest(pair.chain), digest(pair.key)}


def test_a_start_keeps_what_runs_and_nothing_else(tmp_path: Path, pair: Pair) -> None:
    running = Running()
    store = MaterialStore(tmp_path, running.names)
    served = kept(store, pair)
    kept(store, pki.make("shop.test"))
    running = Running(served)
    again = MaterialStore(tmp_path, running.names)
    again.forget_unused()
    assert held(again) == {digest(pair.chain), digest(pair.key)}
    running.apply(again, put(served, None))
    assert held(again) == set()


def test_the_body_of_an_answer_is_a_file_of_bounded_size() -> None:
    frontend = entity("frontend", "page", listeners=["web"], respond={"file": "page.html"})
    contents = {"page.html": b"<h1>Soon</h1>"}
    done = complete(frontend, contents.__getitem__)
    assert done.remarks == []
    assert done.entity is not None
    [material] = materials_of(done.entity)
    assert done.contents == {material.sha256: contents["page.html"]}
    contents["page.html"] = bytes(64 * 1024 + 1)
    done = complete(frontend, contents.__getitem__)
    assert done.entity is None
    assert [(remark.field, remark.message) for remark in done.remarks] == [
        ("file", "the file has 65537 bytes; an answer may have 65536")
    ]
    missing = complete(frontend, no_files)
    assert [remark.message for remark in missing.remarks] == ["page.html: the file is not there"]


def test_a_frontend_without_a_file_stays_as_it_is() -> None:
    frontend = entity("frontend", "shop", listeners=["web"], cluster="shop")
    assert complete(frontend, no_files).entity is frontend


@pytest.mark.parametrize("found", ["gone", "pipe", "no PEM", "fine"])
def test_the_authorities_that_an_order_trusts_are_looked_at(
    tmp_path: Path, pair: Pair, found: str
) -> None:
    path = tmp_path / "ca.pem"
    match found:
        case "pipe":
            os.mkfifo(path)
        case "no PEM":
            path.write_bytes(b"garbage")
        case "fine":
            path.write_bytes(pair.pem)
    ordered = entity("certificate", "own", acme={"ca": str(path)}, hostnames=["shop.test"])
    expected = {
        "gone": f"{path}: No such file or directory",
        "pipe": f"{path}: it is no regular file",
        "no PEM": f"{path}: the file holds no PEM certificate",
    }
    done = complete(ordered, read_external)
    if found == "fine":
        assert (done.entity, done.remarks) == (ordered, [])
        return
    [remark] = done.remarks
    assert (done.entity, remark.severity, remark.field) == (None, "error", "ca")
    assert remark.message == expected[found]


@pytest.mark.skipif(not os.access("/proc/kmsg", os.R_OK), reason="root alone may read such a file")
def test_a_file_with_nothing_to_be_read_now_cannot_be_read() -> None:
    """Such are below /proc and on FUSE: a regular file that says "not now"."""
    kernel_log = Path("/proc/kmsg")
    with contextlib.suppress(UnreadableError):
        # What the kernel has to say.
        read_external(str(kernel_log))
    with pytest.raises(UnreadableError, match="it has nothing to be read now"):
        read_external(str(kernel_log))
    with pytest.raises(OSError, match="it has nothing to be read now"):
        read_regular(kernel_log)
