"""The base of all models: canonical values, and the one way to say that something is wrong.

Every model in `schemas/` derives from `Model`: frozen, strict (no guessing from text to number) and
closed (an unknown key is an error). A check that needs a sentence of its own raises `fault(...)`;
the validator of the reconciler puts file, line and column in front of it.

A canonical value has only what differs from its default, at whatever depth. So an entity is small,
and a release that adds a key changes the digest of no state. `value` and `of_value` lead from one
form to the other, and nothing else in the product leaves a default out or puts one in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_serializer, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from schemas.record import record

FAULT = "kakehi_fault"
"""The error type of `fault`, by which the validator knows that the sentence is ours already."""

SHOWN_CHARS_MAX = 60
"""A wrong value is quoted up to this length: enough to recognise it, and never a whole file."""


@record
class Later:
    """Marks a key of the language, or some of its values, that no part of the product does yet.

    Its form, its bounds and what it must not stand beside are checked as those of any other; then
    the validator of the reconciler refuses it, so that it is never ignored. Whoever has it work
    takes the mark away.
    """

    counted: str
    """What will count it."""
    told: str
    """How `kakehi explain` will tell of it, for example."""
    meanwhile: str
    """What there is in its place."""
    has: Callable[[Any], bool] | None = None
    """Which canonical values work. None: the default alone."""
    narrows: Mapping[str, Any] | None = None
    """The same as JSON Schema, beside that of the field."""
    decides: bool = False
    """Without it the entity would be another one, and not less of the same."""

    def works(self, value: Any, usual: Any) -> bool:
        """Say whether a value works, of a field whose default is `usual`."""
        return value == usual if self.has is None else self.has(value)


class Plain(BaseModel):
    """Fields, and the two forms of their value."""

    # Most are only ever read within another, which is built once for all that is in it.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)

    def value(self) -> dict[str, Any]:
        """Return the canonical value: only str, int, bool, null, list and dict, and no default."""
        return self.model_dump(exclude_defaults=True)

    def in_full(self) -> dict[str, Any]:
        """Return the value with every default, as people read it; without keys that are refused."""
        return self.model_dump(exclude=_plan(type(self)).refused)

    # Nobody changes what is in a model, so that all may have the same default, and most have.
    # pydantic would copy one for each, and compare all of both to leave it out of a value.

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    __hash__ = BaseModel.__hash__

    @classmethod
    def of_value(cls, value: Mapping[str, Any]) -> Self:
        """Return what has a canonical value, which has been checked before.

        What else stands in the value is left out. Raises `KeyError` for what has no default.
        """
        plan = _plan(cls)
        known = value if value.keys() <= plan.names else plan.known(value)
        fields = {**plan.fields, **known}
        for name in plan.required:
            if name not in value:
                raise KeyError(name)
        for name, inner in plan.inner.items():
            if name in value:
                fields[name] = inner(value[name])
        made = cls.__new__(cls)
        # What `model_construct` comes to, which asks each field for other names and its default.
        for name, each in (("__dict__", fields), *_SET):
            object.__setattr__(made, name, each)
        return made


class Model(Plain):
    """A kind, or a map of keys within one."""


class Kind(Model):
    """What an entity of a kind says."""

    KIND: ClassVar[str]


class OneOf(Model):
    """A map with exactly one of its keys, and perhaps some of `BESIDE`, which say more of that."""

    BESIDE: ClassVar[tuple[str, ...]] = ()

    model_config = ConfigDict(json_schema_extra=lambda schema, model: model.says_one(schema))

    @classmethod
    def choices(cls) -> list[str]:
        """Return the keys of which there is one."""
        return _choices(cls)

    @classmethod
    def says_one(cls, schema: dict[str, Any]) -> None:
        """Say it in the JSON Schema."""
        if cls.BESIDE:
            schema["oneOf"] = [{"required": [key]} for key in cls.choices()]
        else:
            schema |= {"minProperties": 1, "maxProperties": 1}

    @model_validator(mode="after")
    def _exactly_one(self) -> OneOf:
        given = [key for key in self.choices() if getattr(self, key) is not None]
        if len(given) != 1:
            keys = ", ".join(f'"{key}"' for key in self.choices())
            got = " and ".join(f'"{key}"' for key in given) or "none"
            raise fault(f"expected exactly one of {keys}, not {got}")
        return self

    @model_serializer(mode="plain")
    def _only_the_given(self) -> dict[str, Any]:
        fields = type(self).model_fields
        more = {key: getattr(self, key) for key in self.BESIDE}
        said = {key: value for key, value in more.items() if value != fields[key].default}
        return dict([self.given()]) | said

    def given(self) -> tuple[str, Any]:
        """Return the key that is there, and its value."""
        for key in self.choices():
            value = getattr(self, key)
            if value is not None:
                return key, value
        raise ValueError("a map with none of its keys")


class _Plan:
    """How a model is made of a value, found out once."""

    def __init__(self, model: type[Plain]) -> None:
        self.names = model.model_fields.keys()
        self.required = [name for name, each in model.model_fields.items() if each.is_required()]
        # Nobody changes what is in a model, so that all may have the same default.
        self.defaults = {
            name: usual_of(field)
            for name, field in model.model_fields.items()
            if not field.is_required()
        }
        # In the order in which they are declared, whichever a value has.
        self.fields = {name: self.defaults.get(name) for name in self.names}
        self.inner = {
            name: made
            for name, field in model.model_fields.items()
            if (made := _maker(field.annotation)) is not None
        }
        self.later = {
            name: marked
            for name, field in model.model_fields.items()
            if (marked := later_of(field)) is not None
        }
        self.refused = _refused(model, self.later)
        # Where there may be something that does not work yet: nowhere in most kinds.
        self.looked_at: set[str] = self.later.keys() | {
            name
            for name, field in model.model_fields.items()
            if any(_plan(inner).looked_at for inner in _models(field.annotation))
        }

    def known(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a value that has others too."""
        return {k: v for k, v in value.items() if k in self.names}


def later_of(field: FieldInfo) -> Later | None:
    """Return the mark of a field that does not work yet, or not with all of its values."""
    return next((each for each in field.metadata if isinstance(each, Later)), None)


def usual_of(field: FieldInfo) -> Any:
    """Return the default of a field that has one."""
    return field.get_default(call_default_factory=True, validated_data={})


def _refused(model: type[Plain], later: Mapping[str, Later]) -> dict[str, Any]:
    """Return the keys that are refused with whatever value, as pydantic has what it leaves out."""
    refused: dict[str, Any] = {name: True for name, mark in later.items() if mark.has is None}
    for name, field in model.model_fields.items():
        inner = next(_models(field.annotation), None)
        # In a map of entries by name, or a list of them, there is none so far.
        if (
            inner is not None
            and name not in refused
            and get_origin(field.annotation) not in (dict, list)
        ):
            within = _plan(inner).refused
            refused |= {name: within} if within else {}
    return refused


def not_there_yet(model: Plain) -> Iterator[tuple[tuple[str | int, ...], Later, Any]]:
    """Yield what a model says that does not work yet: where, its mark, and the value."""
    plan = _plan(type(model))
    for name in plan.looked_at & model.model_fields_set:
        value, mark = getattr(model, name), plan.later.get(name)
        if mark is not None and not mark.works(value, plan.defaults.get(name)):
            yield (name,), mark, value
        else:
            yield from (((name, *step), *found) for step, *found in _within(value))


def _within(value: Any) -> Iterator[tuple[tuple[str | int, ...], Later, Any]]:
    if isinstance(value, Plain):
        yield from not_there_yet(value)
    elif isinstance(value, (dict, list)):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for step, each in entries:
            yield from (((step, *path), mark, said) for path, mark, said in _within(each))


_plan = cache(_Plan)
# What else pydantic has of a model. Which fields were set is asked by no one, behind the checks
# that a value has passed.
_SET = (
    ("__pydantic_fields_set__", set[str]()),
    ("__pydantic_extra__", None),
    ("__pydantic_private__", None),
)


@cache
def _choices(model: type[OneOf]) -> list[str]:
    return [key for key in model.model_fields if key not in model.BESIDE]


def _maker(annotation: Any) -> Callable[[Any], Any] | None:
    """Return what makes the models in a field's value; None where it has none."""
    model = next(_models(annotation), None)
    if model is None:
        return None

    # In the place of some maps a word may stand, or nothing, or several of them.
    def made(given: Any) -> Any:
        if isinstance(given, list):
            return [made(each) for each in given]
        return model.of_value(given) if isinstance(given, Mapping) else given

    if get_origin(annotation) is dict:
        return lambda given: {name: made(each) for name, each in given.items()}
    return made


def _models(annotation: Any) -> Iterator[type[Plain]]:
    if isinstance(annotation, type) and issubclass(annotation, Plain):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def no_items() -> list[Any]:
    """Return the default of a field that is a list.

    pydantic asks what arguments a factory takes, each time: of `list`, that is read from a text.
    """
    return []


KEY = "[key]"
"""The last step of a path that leads to a key and not to its value, as pydantic has it."""


def fault(
    message: str, hint: str | None = None, at: tuple[str | int, ...] = ()
) -> PydanticCustomError:
    """Return the error to raise from a model's check; `hint` says how to mend it.

    `at` is the way from what is checked to what is wrong in it.
    """
    # The message is passed as context, because pydantic would take braces in it for placeholders.
    place = {"at": at} if at else {}
    return PydanticCustomError(
        FAULT, "{message}", {"message": message, "hint": hint or "", **place}
    )


def shown(value: object) -> str:
    """Return a value as an operator wrote it, cut to a length that fits a message."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"
