"""libgit2's calls for refs and objects, for which Python's lock is let go: who waits is alone.

What pygit2 wraps in C keeps the interpreter for as long as a call takes, so that a disk which
stands still would hold up all threads of the process with the one that asks. The library is the
one that pygit2 has loaded, found by its own symbols. A repository is opened here for itself, at the
first call: libgit2 lets each thread use one of its own. Used by `reconciler.source.git.applied`.
"""

from __future__ import annotations

import ctypes
import weakref
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path

from reconciler.libgit2 import library_path, pygit2

_NOT_FOUND = -3
_DIRECT = 1
_OID_BYTES = 20
BLOB = int(pygit2.enums.ObjectType.BLOB)
TAG = int(pygit2.enums.ObjectType.TAG)

_Oid = ctypes.c_ubyte * _OID_BYTES


class CallError(Exception):
    """A call has failed; the message is libgit2's."""


class _Fault(ctypes.Structure):
    _fields_ = (("message", c_char_p), ("kind", c_int))


_SIGNATURES = {
    "git_error_last": (POINTER(_Fault),),
    "git_repository_open": (c_int, POINTER(c_void_p), c_char_p),
    "git_repository_free": (None, c_void_p),
    "git_repository_odb": (c_int, POINTER(c_void_p), c_void_p),
    "git_reference_lookup": (c_int, POINTER(c_void_p), c_void_p, c_char_p),
    "git_reference_type": (c_int, c_void_p),
    "git_reference_target": (c_void_p, c_void_p),
    "git_reference_create": (
        c_int,
        POINTER(c_void_p),
        c_void_p,
        c_char_p,
        POINTER(_Oid),
        c_int,
        c_char_p,
    ),
    "git_reference_remove": (c_int, c_void_p, c_char_p),
    "git_reference_free": (None, c_void_p),
    "git_reference_iterator_glob_new": (c_int, POINTER(c_void_p), c_void_p, c_char_p),
    "git_reference_next_name": (c_int, POINTER(c_char_p), c_void_p),
    "git_reference_iterator_free": (None, c_void_p),
    "git_odb_free": (None, c_void_p),
    "git_odb_exists": (c_int, c_void_p, POINTER(_Oid)),
    "git_odb_read": (c_int, POINTER(c_void_p), c_void_p, POINTER(_Oid)),
    "git_odb_write": (c_int, POINTER(_Oid), c_void_p, c_char_p, c_size_t, c_int),
    "git_odb_object_data": (c_void_p, c_void_p),
    "git_odb_object_size": (c_size_t, c_void_p),
    "git_odb_object_type": (c_int, c_void_p),
    "git_odb_object_free": (None, c_void_p),
}


def _loaded() -> ctypes.CDLL:
    # What a library was linked with is found by its handle as well.
    library = ctypes.CDLL(library_path)
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_C = _loaded()


class ReleasedGit:
    """One repository, for one thread at a time. All raise `CallError`."""

    def __init__(self, git_dir: Path) -> None:
        self._git_dir = git_dir
        self._opened: tuple[c_void_p, c_void_p] | None = None

    def target(self, name: str) -> str | None:
        """The id that a ref has; None where there is none, or one that names another ref."""
        repository, _ = self._open()
        found = c_void_p()
        if _C.git_reference_lookup(byref(found), repository, _text(name)) != 0:
            return None
        try:
            if _C.git_reference_type(found) != _DIRECT:
                return None
            return ctypes.string_at(_C.git_reference_target(found), _OID_BYTES).hex()
        finally:
            _C.git_reference_free(found)

    def names(self, pattern: str, at_most: int) -> list[str]:
        """The refs whose names fit a pattern of the shell."""
        repository, _ = self._open()
        iterator, name, found = c_void_p(), c_char_p(), list[str]()
        _expect(_C.git_reference_iterator_glob_new(byref(iterator), repository, _text(pattern)))
        try:
            while len(found) < at_most and _C.git_reference_next_name(byref(name), iterator) == 0:
                found.append((name.value or b"").decode("utf-8", "surrogateescape"))
        finally:
            _C.git_reference_iterator_free(iterator)
        return found

    def move(self, name: str, to: str) -> None:
        """Have a ref point to an object, whatever it did before, and that on the disk."""
        repository, _ = self._open()
        made = c_void_p()
        _expect(_C.git_reference_create(byref(made), repository, _text(name), _oid(to), True, None))
        _C.git_reference_free(made)

    def remove(self, name: str) -> None:
        """Take a ref away, wherever it is written."""
        repository, _ = self._open()
        if (code := _C.git_reference_remove(repository, _text(name))) != _NOT_FOUND:
            _expect(code)

    def has(self, name: str) -> bool:
        """Whether an object is here."""
        _, objects = self._open()
        return bool(_C.git_odb_exists(objects, _oid(name)))

    def read(self, name: str, at_most: int) -> tuple[int, bytes] | None:
        """The kind and the content of an object; None where it is not here, or longer."""
        _, objects = self._open()
        found = c_void_p()
        if _C.git_odb_read(byref(found), objects, _oid(name)) != 0:
            return None
        try:
            size = _C.git_odb_object_size(found)
            if size > at_most:
                return None
            content = ctypes.string_at(_C.git_odb_object_data(found), size)
            return _C.git_odb_object_type(found), content
        finally:
            _C.git_odb_object_free(found)

    def write(self, kind: int, content: bytes) -> str:
        """Have an object with this content; return its id."""
        _, objects = self._open()
        made = _Oid()
        _expect(_C.git_odb_write(byref(made), objects, content, len(content), kind))
        return bytes(made).hex()

    def _open(self) -> tuple[c_void_p, c_void_p]:
        if self._opened is None:
            repository, objects = c_void_p(), c_void_p()
            _expect(_C.git_repository_open(byref(repository), bytes(self._git_dir)))
            # Not at the end of the process, when a thread may hang in one of them.
            weakref.finalize(self, _C.git_repository_free, repository).atexit = False
            _expect(_C.git_repository_odb(byref(objects), repository))
            weakref.finalize(self, _C.git_odb_free, objects).atexit = False
            self._opened = repository, objects
        return self._opened


def _expect(code: int) -> None:
    if code != 0:
        fault = _C.git_error_last()
        message = fault.contents.message if fault else None
        raise CallError((message or b"libgit2 fails").decode("utf-8", "replace"))


def _text(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _oid(name: str) -> ctypes.Array[ctypes.c_ubyte]:
    return _Oid.from_buffer_copy(bytes.fromhex(name))
