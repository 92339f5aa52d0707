"""Records: classes of a few named values, made in a fifth of the time that a `dataclass` takes.

`dataclass` compiles six methods for each class at each start, and there are a hundred. A record has
only `__init__` compiled, and so its fields are set like any attribute; the rest is shared. That
nothing else sets them is for the type checker to see. Used all over the control plane and the
worker: `dataclasses.replace`, `fields` and `asdict` take records, too.
"""

from collections.abc import Hashable
from dataclasses import MISSING, dataclass, field, fields
from operator import attrgetter
from typing import Any, TypeVar, cast, dataclass_transform

_Value = TypeVar("_Value")
_LEFT_OUT: Any = object()


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[_Value]) -> type[_Value]:
    """Make a class of its annotated fields: with slots, equality by value, a hash, and a `repr`.

    A field that is no argument (`init=False`) has a default.
    """
    # For a class that has none, `dataclass` has the signature read from a text.
    cls.__doc__ = cls.__doc__ or cls.__name__
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True)(cls)
    names = [each.name for each in fields(made) if each.compare]
    shown = [each.name for each in fields(made) if each.repr]
    # One name is asked for as a value, and not as a tuple of it: that is as good here.
    values: Any = attrgetter(*names) if names else lambda _: ()

    def equal(self: object, other: object) -> bool:
        if type(other) is not type(self):
            return cast("bool", NotImplemented)
        return self is other or bool(values(self) == values(other))

    def hashed(self: object) -> int:
        key: Hashable = values(self)
        return hash(key)

    def text(self: object) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({inner})"

    methods = {"__init__": _init(made), "__eq__": equal, "__hash__": hashed, "__repr__": text}
    for name, method in methods.items():
        if name not in cls.__dict__ or (name == "__hash__" and cls.__dict__[name] is None):
            method.__name__, method.__qualname__ = name, f"{made.__qualname__}.{name}"
            setattr(made, name, method)
    return cast("type[_Value]", made)


def _init(made: type) -> Any:
    """Compile what sets each field: a loop over the fields would be paid by each record."""
    known: dict[str, Any] = {"left_out": _LEFT_OUT}
    taken, lines = ["self"], []
    for number, each in enumerate(fields(made)):
        name = value = each.name
        if each.default is not MISSING:
            known[f"default{number}"] = each.default
            if each.init:
                taken.append(f"{name}=default{number}")
            else:
                value = f"default{number}"
        elif each.default_factory is not MISSING:
            known[f"make{number}"] = each.default_factory
            taken.append(f"{name}=left_out")
            value = f"make{number}() if {name} is left_out else {name}"
        else:
            taken.append(name)
        lines.append(f" self.{name} = {value}")
    source = f"def __init__({', '.join(taken)}):\n" + "\n".join(lines or [" pass"])
    exec(source, known)  # noqa: S102  # names of fields, which the compiler has taken as such
    return known["__init__"]
