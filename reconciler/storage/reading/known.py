"""What of a canonical value the models of this version know, key by key and form by form.

A key that is not known is left out, and so is one whose value has another form than it may have
here: a map where a word stands, a word that nobody knew, a map of which none of the keys is known.
What cannot be without it (a required key, the one of several) is left out as a whole.
Called by `upgrade` beside, for what another version wrote; any other value is what a model wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic_core import PydanticCustomError

from schemas.base import Plain, later_of, usual_of
from schemas.entities.entity import Json

ALL = "all of it"


class _UnknownError(Exception):
    """Nothing of a value is known."""


def known_part(model: type[Plain], value: Json) -> tuple[dict[str, Json] | None, list[str]]:
    """Return what is known of an entity's value, and the paths of what is not.

    None where nothing is left of it.
    """
    lost: list[str] = []
    try:
        return _of_model(model, value, "", lost), lost
    except _UnknownError:
        return None, [ALL]


def _check(model: type[Plain], known: dict[str, Json]) -> None:
    """What is left may make no sense: a frontend without its end. Raises `_UnknownError`."""
    made = model.of_value(known)
    for check in model.__pydantic_decorators__.model_validators.values():
        try:
            if check.info.mode == "after":
                check.func(made)
        except PydanticCustomError as error:
            raise _UnknownError from error


def _of_model(model: type[Plain], value: Json, path: str, lost: list[str]) -> dict[str, Json]:
    """Raises `_UnknownError`."""
    if not isinstance(value, dict):
        raise _UnknownError
    fields, known, before = model.model_fields, dict[str, Json](), len(lost)
    is_other = False
    for key, given in value.items():
        try:
            if key not in fields:
                raise _UnknownError
            mark = later_of(fields[key])
            if mark is not None and not mark.works(given, usual_of(fields[key])):
                # A later version has it work: without it a listener may be another one.
                is_other = is_other or mark.decides
                raise _UnknownError
            known[key] = _of_any(fields[key].annotation, given, f"{path}{key}", lost)
        except _UnknownError:
            lost.append(f"{path}{key}")
    if is_other or any(field.is_required() and name not in known for name, field in fields.items()):
        raise _UnknownError
    if len(lost) > before:
        _check(model, known)
    return known


def _of_any(annotation: Any, given: Json, path: str, lost: list[str]) -> Json:
    """What is known of a value that may have one of some forms. Raises `_UnknownError`."""
    for form in _forms(annotation):
        # What is lost in a form that does not fit is not lost.
        before = len(lost)
        try:
            return _of_form(form, given, path, lost)
        except _UnknownError:
            del lost[before:]
    raise _UnknownError


def _of_form(form: Any, given: Json, path: str, lost: list[str]) -> Json:
    origin, arguments = get_origin(form), get_args(form)
    if origin is Literal:
        fits = given in arguments
    elif isinstance(form, type) and issubclass(form, Plain):
        return _of_model(form, given, f"{path}.", lost)
    elif origin is dict and isinstance(given, dict):
        return {
            name: _of_any(arguments[1], each, f"{path}.{name}", lost)
            for name, each in given.items()
        }
    elif origin is list and isinstance(given, list):
        return [_of_any(arguments[0], each, path, lost) for each in given]
    else:
        # A bool is an int to Python alone.
        fits = form is type(given)
    if not fits:
        raise _UnknownError
    return given


@cache
def _forms(annotation: Any) -> tuple[Any, ...]:
    return tuple(_each_form(annotation))


def _each_form(annotation: Any) -> Iterator[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _each_form(arguments[0])
    elif annotation is None:
        yield NoneType
    elif origin in (dict, list, Literal) or not arguments:
        yield annotation
    else:
        for each in arguments:
            yield from _each_form(each)
