"""Reads a file: the bytes of a YAML document → plain values, each with its line and column.

Called by the catalog for each changed file. Works on libyaml's event stream, for speed and for the
positions, and refuses what a configuration has no use for: tags, anchors, merges, further
documents, duplicate keys. Rule of this file: no bytes whatever make it raise; a file is data that
anybody may have pushed, so every finding is a diagnostic and every dimension has a bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from reconciler.language import foreign, yaml_faults
from reconciler.language.scalars import AmbiguousScalarError, resolve
from schemas.base import shown
from schemas.entities.diagnostic import Diagnostic, Severity
from schemas.entities.entity import EntityKey

try:
    # The package ruamel.yaml alone installs no C part, and works without: slower by a factor of 20.
    from _ruamel_yaml import CParser  # type: ignore[import-not-found]
except ModuleNotFoundError:
    CParser = None

FILE_BYTES_MAX = 4 << 20
DEPTH_MAX = 32
"""The language nests 5 deep; beyond this a file is an attack on recursion, not a configuration."""
DIAGNOSTICS_MAX = 100
"""Per file: a broken generator makes thousands of equal errors, and nobody reads past the first."""

INT_KEYS_UNDER = frozenset({"error_pages"})
"""Maps whose keys may be whole numbers. They become text, as JSON has no other keys."""

_NO_ALIAS = 'write the value out; a text that begins with "*" wants quotes'
_YAML_TAG = "tag:yaml.org,2002:"
_NONE: Mapping[str, Node] = MappingProxyType({})
# What YAML 1.2 §5.1 allows, less what readers take differently: the three characters that end a
# line in YAML 1.1 (and in libyaml) alone, and a byte order mark amidst the text.
# Named by what is refused: a class of all that is allowed takes ten times as long to compile.
_FOREIGN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"
)
_LINE_BREAK = re.compile("\r\n|[\n\r]")


class Node:
    """A value and where it stands. `value` is plain; the children repeat it with positions.

    A broken node was refused by a diagnostic of its own: nothing more is to be said about it.
    """

    __slots__ = ("broken", "column", "elements", "items", "keys", "line", "value", "width")

    def __init__(self, value: Any, line: int, column: int, width: int = 1) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.width = width
        self.broken = False
        # Most nodes are scalars, and containers for each would double the time of loading.
        self.keys: Mapping[str, Node] = _NONE
        self.items: Mapping[str, Node] = _NONE
        self.elements: Sequence[Node] = ()


@dataclass
class Document:
    """One file, document. `root` is None when the file is empty or could not be read to its end.

    `declared` is filled by the validator: the entities that are there, valid or not.
    """

    path: str
    text: str = ""
    root: Node | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    """Errors alone."""
    warnings: list[Diagnostic] = field(default_factory=list)
    declared: set[EntityKey] = field(default_factory=set)
    unreadable: bool = False

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the file, as libyaml counts them."""
        return _LINE_BREAK.split(self.text)

    def source_line(self, line: int) -> str | None:
        """Return the text of a line counted from 1."""
        return self.lines[line - 1] if 0 < line <= len(self.lines) else None

    @property
    def full(self) -> bool:
        """Whether no further error in this file would be shown."""
        return len(self.diagnostics) > DIAGNOSTICS_MAX

    def report(self, node: Node, message: str, hint: str | None = None) -> None:
        """Add an error at a node, unless there are too many already."""
        if self.full:
            return
        if len(self.diagnostics) == DIAGNOSTICS_MAX:
            message, hint = "there are more errors in this file, which are not shown", None
        self.diagnostics.append(self._at(node, "error", message, hint))

    def warn(self, node: Node, message: str, hint: str | None = None) -> None:
        """Add a warning at a node. What is beyond the bound is lost: the file is valid."""
        if len(self.warnings) < DIAGNOSTICS_MAX:
            self.warnings.append(self._at(node, "warning", message, hint))

    def _at(self, node: Node, severity: Severity, message: str, hint: str | None) -> Diagnostic:
        source, width = self.source_line(node.line), node.width
        return Diagnostic(severity, self.path, node.line, node.column, message, hint, source, width)


def read_document(path: str, data: bytes) -> Document:
    """Return the content of one file. Never raises, whatever the bytes are."""
    document = Document(path)
    if len(data) > FILE_BYTES_MAX:
        document.unreadable = True
        limit = f"a file may have {FILE_BYTES_MAX >> 20} MiB"
        document.report(
            Node(None, 0, 0), f"the file is too large: {limit}", "split it into several"
        )
        return document
    try:
        document.text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        _report_encoding(document, data, error)
        return document
    foreign = _FOREIGN.search(document.text)
    if foreign is not None:
        _report_character(document, foreign)
        return document
    try:
        document.root = _Builder(document).build()
    except YAMLError as error:
        _report_syntax(document, error)
    return document


def _events(text: str) -> Callable[[], Any]:
    if CParser is not None:
        next_event: Callable[[], Any] = CParser(text).get_event
        return next_event
    pure_event: Callable[[], Any] = iter(YAML(typ="safe", pure=True).parse(text)).__next__
    return pure_event


class _TooDeepError(YAMLError):
    """Raised by the builder to stop at a nesting that no configuration has."""

    def __init__(self, node: Node) -> None:
        self.node = node
        super().__init__()


class _Builder:
    """Turns the events of one file into nodes; one use."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.next_event = _events(document.text)

    def build(self) -> Node | None:
        root: Node | None = None
        documents = 0
        while True:
            event = self.next_event()
            kind = type(event)
            if kind is StreamEndEvent:
                return root
            if kind is DocumentStartEvent:
                documents += 1
                if documents == 2:
                    message = "a file holds one document: a second begins here"
                    self._refuse(
                        _place(event), message, 'put it into a file of its own, or leave "---" out'
                    )
                if event.version not in (None, (1, 2)):
                    self._refuse(
                        _place(event), "files are read as YAML 1.2", "remove the directive"
                    )
            elif kind is not StreamStartEvent and kind is not DocumentEndEvent:
                node = self._node(event, 0, int_keys=False)
                root = node if documents == 1 else root

    def _node(self, event: Any, depth: int, *, int_keys: bool) -> Node:
        kind = type(event)
        if kind is ScalarEvent:
            return self._scalar(event)
        node = _place(event)
        if depth >= DEPTH_MAX:
            raise _TooDeepError(node)
        if kind is AliasEvent:
            return self._refuse(node, "aliases (*name) are not supported", _NO_ALIAS)
        self._check_properties(event, node)
        if kind is MappingStartEvent:
            self._mapping(node, depth, int_keys=int_keys)
        elif kind is SequenceStartEvent:
            self._sequence(node, depth)
        return node

    def _scalar(self, event: Any) -> Node:
        start, end = event.start_mark, event.end_mark
        width = end.column - start.column if end.line == start.line else 1
        node = Node(event.value, start.line + 1, start.column + 1, max(1, width))
        if event.anchor is not None or event.tag is not None:
            self._check_properties(event, node)
        elif event.implicit[0]:
            try:
                node.value = resolve(event.value)
            except AmbiguousScalarError as error:
                self._refuse(node, str(error), error.hint)
        elif not event.style:
            # libyaml has no other sign for a lone "!" in front of a plain scalar.
            self._refuse(node, "tags (!) are not supported", "remove it")
        elif not node.value.isascii() and not _encodable(node.value):
            self._refuse(node, "the text holds a lone surrogate, which is no character")
        return node

    def _check_properties(self, event: Any, node: Node) -> None:
        if event.anchor is not None:
            self._refuse(node, f"anchors (&{event.anchor}) are not supported", "remove it")
        if event.tag is not None:
            tag = str(event.tag).replace(_YAML_TAG, "!!")
            self._refuse(node, f"tags ({tag}) are not supported", "remove it")

    def _mapping(self, node: Node, depth: int, *, int_keys: bool) -> None:
        values: dict[str, Any] = {}
        keys: dict[str, Node] = {}
        items: dict[str, Node] = {}
        while type(event := self.next_event()) is not MappingEndEvent:
            key = self._node(event, depth + 1, int_keys=False)
            name = self._key_name(key, int_keys=int_keys)
            child = self._node(self.next_event(), depth + 1, int_keys=name in INT_KEYS_UNDER)
            if name is None:
                node.broken = True
            elif name in values:
                first = keys[name].line
                message = f"{shown(name)} is there twice in this map: first at line {first}"
                self.document.report(key, message, "keep one of them")
            else:
                keys[name] = key
                items[name] = child
                values[name] = child.value
        node.value, node.keys, node.items = values, keys, items

    def _key_name(self, key: Node, *, int_keys: bool) -> str | None:
        """Return the key as text, or None if it is no key (and say so)."""
        value = key.value
        if key.broken or isinstance(value, str):
            return None if key.broken else value
        if int_keys and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        hint = None
        source = self.document.source_line(key.line) or ""
        if isinstance(value, dict) and source[: key.column].endswith("{{"):
            hint = foreign.EXPANDED_BEFORE
        if not isinstance(value, (dict, list)) and value is not None:
            hint = f'write it in quotes: "{shown(value)}"'
        self._refuse(key, f"a key must be text, not {shown(value)}", hint)
        return None

    def _sequence(self, node: Node, depth: int) -> None:
        elements: list[Node] = []
        while type(event := self.next_event()) is not SequenceEndEvent:
            elements.append(self._node(event, depth + 1, int_keys=False))
        node.value, node.elements = [element.value for element in elements], elements

    def _refuse(self, node: Node, message: str, hint: str | None = None) -> Node:
        node.broken = True
        self.document.report(node, message, hint)
        return node


def _place(event: Any) -> Node:
    mark = event.start_mark
    return Node(None, mark.line + 1, mark.column + 1)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _report_encoding(document: Document, data: bytes, error: UnicodeDecodeError) -> None:
    document.unreadable = True
    before = data[: error.start].decode()
    document.text = before
    lines = _LINE_BREAK.split(before)
    place = Node(None, len(lines), len(lines[-1]) + 1)
    hint = "save the file as UTF-8"
    document.report(place, f"the byte 0x{data[error.start]:02x} here is not UTF-8", hint)


def _report_character(document: Document, foreign: re.Match[str]) -> None:
    document.unreadable = True
    lines = _LINE_BREAK.split(document.text[: foreign.start()])
    place = Node(None, len(lines), len(lines[-1]) + 1)
    message = f"the character U+{ord(foreign[0]):04X} is not allowed here"
    document.report(place, message, "in double quotes it can be written as an escape")


def _report_syntax(document: Document, error: YAMLError) -> None:
    document.unreadable = True
    if isinstance(error, _TooDeepError):
        document.report(error.node, f"the file nests deeper than {DEPTH_MAX} levels")
    elif (merge := yaml_faults.unresolved_merge(document.lines)) is not None:
        document.report(Node(None, merge.line, 1), merge.message, merge.hint)
    elif isinstance(error, MarkedYAMLError):
        line, column, message, hint = yaml_faults.explain(error, document.lines)
        document.report(Node(None, line, column), message, hint)
    else:
        document.report(Node(None, 0, 0), "the file is not YAML")
