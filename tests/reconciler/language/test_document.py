import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reconciler.language import document
from reconciler.language.document import (
    DEPTH_MAX,
    DIAGNOSTICS_MAX,
    FILE_BYTES_MAX,
    Document,
    Node,
    read_document,
)
from tests.schemas.strategies import DOCUMENTS, file_of


def messages(data: str | bytes) -> list[str]:
    loaded = read_document("a.yaml", data.encode() if isinstance(data, str) else data)
    return [f"{found.line}:{found.column} {found.message}" for found in loaded.diagnostics]


def value(data: str) -> Any:
    loaded = read_document("a.yaml", data.encode())
    assert loaded.diagnostics == []
    return None if loaded.root is None else loaded.root.value


def test_values() -> None:
    assert value("a: {b: [1, true, ~, text]}\nc: |\n  x\n  é\nd: 'q'\n") == {
        "a": {"b": [1, True, None, "text"]},
        "c": "x\né\n",
        "d": "q",
    }
    assert value('"8080": x\n') == {"8080": "x"}
    assert value("\ufeffa: 1") == {"a": 1}
    assert value("%YAML 1.2\n---\na: 1\n...\n") == {"a": 1}


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "---\n...\n", "\ufeff"])
def test_files_without_anything(text: str) -> None:
    assert value(text) is None


def test_positions() -> None:
    loaded = read_document("a.yaml", "# x\nlisteners:\n  é: {address: [a, bc]}\n".encode())
    assert loaded.root is not None
    listeners = loaded.root.items["listeners"]
    body = listeners.items["é"]
    second = body.items["address"].elements[1]
    key = listeners.keys["é"]
    assert (key.line, key.column, key.width) == (3, 3, 1)
    assert (body.line, body.column) == (3, 6)
    assert (second.line, second.column, second.width) == (3, 20, 2)
    assert loaded.source_line(3) == "  é: {address: [a, bc]}"
    assert loaded.source_line(9) is None


def test_int_keys_are_statuses_only() -> None:
    assert value("error_pages: {503: x}") == {"error_pages": {"503": "x"}}
    assert messages("error_pages: {503: {404: x}}") == [
        "1:21 a key must be text, not 404",
    ]
    assert messages("error_pages: {503: a, '503': b}") == [
        '1:23 "503" is there twice in this map: first at line 1',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", '2:1 "a" is there twice in this map: first at line 1'),
        ("a: *x", "1:4 aliases (*name) are not supported"),
        ("a: &x 1", "1:4 anchors (&x) are not supported"),
        ("a: &x {}", "1:4 anchors (&x) are not supported"),
        ("a: !!str 1", "1:4 tags (!!str) are not supported"),
        ("a: ! x", "1:4 tags (!) are not supported"),
        ("a: !x []", "1:4 tags (!x) are not supported"),
        ("<<: {}", "1:1 merge keys (<<) are not supported"),
        ("a: 1\n---\nb: 2", "2:1 a file holds one document: a second begins here"),
        ("%YAML 1.1\n---\na: 1", "1:1 files are read as YAML 1.2"),
        ("1: x", "1:1 a key must be text, not 1"),
        ("true: x", "1:1 a key must be text, not true"),
        ("~: x", "1:1 a key must be text, not nothing"),
        ("? [a]\n: x", "1:3 a key must be text, not a list"),
        ("a: 010", "1:4 010 means different things to different readers of YAML"),
        ("\ta: 1", "1:1 a tab cannot indent in YAML"),
        ("a: [1\n", '1:4 the "[" that opens here is never closed'),
        ("a: 'x", "1:4 the quotes that open here are never closed"),
        ("a: b: c", '1:5 a ":" is not possible here'),
        ("a: @x", '1:4 no value begins with "@"'),
        ("{a: b:c}", None),
        ("a\x01: 1", "1:2 the character U+0001 is not allowed here"),
        ("x: é\n\x02", "2:1 the character U+0002 is not allowed here"),
        ("a: x\x85b: y", "1:5 the character U+0085 is not allowed here"),
        ('a: "\\ud800"', None),
    ],
)
def test_what_is_refused(text: str, message: str | None) -> None:
    found = messages(text)
    assert found
    if message is not None:
        assert found == [message]


def test_all_errors_are_found_in_one_go() -> None:
    assert len(messages("a: *x\nb: &y 1\nc: 1\nc: 2\n3: 4\n")) == 4


def test_what_is_not_utf_8() -> None:
    assert messages(b"a: 1\nbc: \xff") == ["2:5 the byte 0xff here is not UTF-8"]


def test_every_dimension_has_a_bound() -> None:
    assert messages(b"#" * (FILE_BYTES_MAX + 1)) == [
        "0:0 the file is too large: a file may have 4 MiB"
    ]
    assert messages(b"#" * FILE_BYTES_MAX) == []
    assert value("[" * DEPTH_MAX + "]" * DEPTH_MAX) is not None
    deep = messages("[" * (FILE_BYTES_MAX // 2))
    assert deep == [f"1:{DEPTH_MAX + 1} the file nests deeper than {DEPTH_MAX} levels"]
    many = messages("a: *x\n" * 5000)
    assert len(many) == DIAGNOSTICS_MAX + 1
    assert many[-1].endswith("there are more errors in this file, which are not shown")


def test_a_bomb_of_aliases_is_not_expanded() -> None:
    text = "a: &a [x,x]\n" + "".join(f"b{n}: [*a,*a,*a]\n" for n in range(9))
    assert all("supported" in message for message in messages(text))


@given(st.binary(max_size=200))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    read_document("a.yaml", data)


YAML_PIECES = st.lists(
    st.sampled_from(
        [
            *"abc012:-?{}[],#&*!|>'\"%@`~=<.\n\n\n   \t_+é\x00\x85\r\ufeff\\",
            ": ",
            "- ",
            "\n  ",
            "a: ",
            "'x'",
        ]
    ),
    max_size=40,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(YAML_PIECES)
def test_no_text_that_looks_like_yaml_makes_it_raise(text: str) -> None:
    read_document("a.yaml", text.encode())


@settings(max_examples=1500, deadline=None)
@given(YAML_PIECES)
def test_what_it_accepts_means_the_same_to_ruamel(text: str) -> None:
    loaded = read_document("a.yaml", text.encode())
    # A file that is one text is refused later; the parsers differ on a "#" in such a block.
    if loaded.diagnostics or (loaded.root is not None and isinstance(loaded.root.value, str)):
        return
    try:
        other = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        # libyaml is more lenient in places ("a" and a tab, "|#"): then its value must be ours.
        other = YAML(typ="safe", pure=False).load(text)
    assert repr(other) == repr(None if loaded.root is None else loaded.root.value)


@given(DOCUMENTS)
def test_every_document_of_the_language_is_accepted(written: dict[str, Any]) -> None:
    data = file_of(written)
    loaded = read_document("a.yaml", data)
    assert loaded.diagnostics == []
    assert loaded.root is not None
    assert loaded.root.value == written == YAML(typ="safe", pure=True).load(data.decode())
    _check_places(loaded, loaded.root)


def _check_places(loaded: Document, node: Node) -> None:
    """Every scalar stands where the source has it."""
    for key, child in node.items.items():
        place = node.keys[key]
        line = loaded.source_line(place.line)
        assert line is not None
        assert line[place.column - 1] == '"'
        _check_places(loaded, child)
    for child in node.elements:
        _check_places(loaded, child)


def test_it_works_without_the_c_part(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: {b: [1, true]}\nc: 'x'\n"
    expected = value(text)
    monkeypatch.setattr(document, "CParser", None)
    assert value(text) == expected
    assert messages("a: [1\n") == ['1:4 the "[" that opens here is never closed']
    assert messages("a: 'x") == ["1:4 the quotes that open here are never closed"]
    assert messages("x: é\n\x02") == ["2:1 the character U+0002 is not allowed here"]
    assert messages('a: "\\ud800"') == [
        "1:4 the text holds a lone surrogate, which is no character"
    ]
    assert messages("a: 1\na: 2\n") == ['2:1 "a" is there twice in this map: first at line 1']


def test_importing_it_is_cheap() -> None:
    """`kakehi validate` starts in a tenth of a second: deepdiff must not be imported for it."""
    code = "import sys, reconciler.catalog.catalog; sys.exit('deepdiff' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
