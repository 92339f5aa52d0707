from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.durable import replace_durably
from reconciler.storage import journal
from reconciler.storage.journal import Journal, Record, frame, read_frames

RECORDS = st.lists(
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=4),
    max_size=6,
)


def written(path: Path, records: list[Record]) -> list[int]:
    """Write records; return the file's size after each."""
    opened = Journal(path)
    sizes = [opened.size]
    for record in records:
        opened.append(record)
        sizes.append(opened.size)
    opened.close()
    return sizes


@given(RECORDS)
def test_what_is_framed_comes_back(records: list[Record]) -> None:
    content = b"".join(frame(record) for record in records)
    assert [record for record, _ in read_frames(content)] == records


@given(RECORDS, st.binary(max_size=64))
def test_garbage_behind_the_records_is_no_record(records: list[Record], garbage: bytes) -> None:
    content = b"".join(frame(record) for record in records)
    found = [record for record, _ in read_frames(content + garbage)]
    assert found[: len(records)] == records


@given(st.binary(max_size=256))
def test_no_bytes_make_reading_fail(content: bytes) -> None:
    for _, end in read_frames(content):
        assert end <= len(content)


def test_every_torn_tail_leaves_a_prefix_and_can_be_appended_to(tmp_path: Path) -> None:
    records: list[Record] = [{"n": number, "text": "x" * number} for number in range(9)]
    sizes = written(tmp_path / "journal", records)
    content = (tmp_path / "journal").read_bytes()
    torn = tmp_path / "torn"
    for cut in range(len(content) + 1):
        torn.write_bytes(content[:cut])
        whole = sum(size <= cut for size in sizes) - 1
        opened = Journal(torn)
        assert opened.records == records[:whole]
        assert opened.size == sizes[whole] == torn.stat().st_size
        opened.append({"more": True})
        opened.close()
        again = Journal(torn)
        assert again.records == [*records[:whole], {"more": True}]
        assert again.truncated_bytes == 0
        again.close()


def test_a_flipped_bit_ends_the_journal_there(tmp_path: Path) -> None:
    records: list[Record] = [{"n": number} for number in range(4)]
    sizes = written(tmp_path / "journal", records)
    content = (tmp_path / "journal").read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        hit = sum(size <= position for size in sizes) - 1
        assert [record for record, _ in read_frames(bytes(damaged))] == records[:hit]


def test_a_failed_append_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal(tmp_path / "journal")
    opened.append({"n": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "fdatasync", full)
        with pytest.raises(OSError, match="no space"):
            opened.append({"n": 2})
    opened.append({"n": 3})
    opened.close()
    assert Journal(tmp_path / "journal").records == [{"n": 1}, {"n": 3}]


def test_a_restart_replaces_all_records(tmp_path: Path) -> None:
    opened = Journal(tmp_path / "journal")
    opened.append({"n": 1})
    opened.restart([{"n": 2}])
    opened.append({"n": 3})
    opened.close()
    assert Journal(tmp_path / "journal").records == [{"n": 2}, {"n": 3}]
    assert [path.name for path in tmp_path.iterdir()] == ["journal"]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    Journal(tmp_path / "journal").close()
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


def test_replacing_a_file_leaves_no_other(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        replace_durably(tmp_path / "drains.json", content)
        assert (tmp_path / "drains.json").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["drains.json"]
