"""Conversion of data classes to builtins and back.

Reading checks every type against the annotations of the data class and names the path of a mismatch, so that a damaged
file ends in a clear message instead of an ``AttributeError`` three layers up. Nothing is ever executed.

The gate reads twenty records of thousands of values each. So the annotations of a class become a function that reads it
once, and a path is only made for a mismatch.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

#: Larger integers fit into no column of a table or array.
_TOO_LARGE = 2**63

DataClassT = TypeVar("DataClassT")


Reader = Callable[[Any], Any]


class Mismatch(ValueError):
    """Builtins that don't fit the data class; the message begins with the path."""


class _Misfit(Exception):
    """A mismatch whose path is not complete yet: what reads the part around it adds a step."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self._steps: list[str] = []

    def inside(self, step: str) -> None:
        """Add a step before the path."""
        self._steps.append(step)

    def at(self, path: str) -> str:
        """Return the message."""
        return f"{path}{''.join(reversed(self._steps))}{self}"


def to_builtins(value: Any) -> Any:
    """Return a data class as dicts, lists and scalars, ready for ``json.dumps``."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_builtins(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_builtins(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_builtins(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(value)
    return value


def from_builtins(kind: type[DataClassT], data: Any, path: str = "record") -> DataClassT:
    """Return the data class that ``to_builtins`` was given.

    Fields with a default may be absent. Unknown fields are ignored, since a newer version may add some without a new
    schema.

    Raises:
        Mismatch: A field is missing, has the wrong type, or the data class refuses its value.
    """
    try:
        result = _reader(cast(Any, kind))(data)
    except _Misfit as misfit:
        raise Mismatch(misfit.at(path)) from misfit.__cause__
    assert isinstance(result, kind)
    return result


@cache
def _reader(kind: Any) -> Reader:
    """Return the function that reads a value of an annotated type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union_reader(arguments)
    if origin in (tuple, frozenset):
        return _sequence_reader(origin, arguments[0])
    if origin is not None:
        assert issubclass(origin, Mapping)
        return _mapping_reader(arguments[1])
    if is_dataclass(kind):
        return _data_class_reader(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return partial(_read_enum, kind)
    return _read_float if kind is float else partial(_expect, kind)


def _data_class_reader(kind: Any) -> Reader:
    required = {field.name for field in fields(kind) if field.default is field.default_factory is MISSING}

    @cache  # made at the first use, since a class may have fields of its own type
    def members() -> list[tuple[str, Any, Reader]]:
        hints = get_type_hints(kind)
        return [(field.name, _exact_type(hints[field.name]), _reader(hints[field.name])) for field in fields(kind)]

    def read(data: Any) -> Any:
        items, arguments = _expect(dict, data), {}
        for name, exact_type, read_member in members():
            if name in items:
                value = items[name]
                if type(value) is not exact_type:
                    try:
                        value = read_member(value)
                    except _Misfit as misfit:
                        misfit.inside(f".{name}")
                        raise
                arguments[name] = value
            elif name in required:
                raise _Misfit(f".{name} is missing")
        try:
            return kind(**arguments)
        except ValueError as error:
            raise _Misfit(f": {error}") from error

    return read


def _exact_type(kind: Any) -> Any:
    """Return the type whose values need no further check; None if they do."""
    return kind if kind in (float, str, bool) else None


def _sequence_reader(origin: Any, kind: Any) -> Reader:
    read_item = _reader(kind)

    def read(data: Any) -> Any:
        items = _expect(list, data)
        if kind is int and set(map(type, items)) <= {int}:
            return origin(items)  # most of a record is histograms: avoid a call for each of their numbers
        result: list[Any] = []  # its length says where a mismatch is
        try:
            for item in items:
                result.append(read_item(item))
        except _Misfit as misfit:
            misfit.inside(f"[{len(result)}]")
            raise
        return origin(result)

    return read


def _mapping_reader(kind: Any) -> Reader:
    read_item = _reader(kind)

    def read(data: Any) -> Any:
        result = {}
        for key, item in _expect(dict, data).items():
            try:
                result[key] = read_item(item)
            except _Misfit as misfit:
                misfit.inside(f".{key}")
                raise
        return result

    return read


def _union_reader(kinds: tuple[Any, ...]) -> Reader:
    """Return the reader of an optional value, of one of several data classes, or of one of several scalars."""
    optional, members = types.NoneType in kinds, [kind for kind in kinds if kind is not types.NoneType]
    if len(members) == 1:
        read_member = _reader(members[0])
        return lambda data: None if data is None and optional else read_member(data)
    data_classes = [(kind, {field.name for field in fields(kind)}) for kind in members if is_dataclass(kind)]

    def read(data: Any) -> Any:
        if data is None and optional:
            return None
        if type(data) in members:
            return _expect(type(data), data)
        if isinstance(data, dict):
            for kind, names in data_classes:
                if data.keys() <= names:
                    return _reader(cast(Any, kind))(data)
        raise _Misfit(f" should be {' or '.join(kind.__name__ for kind in members)}, not {type(data).__name__}")

    return read


def _read_enum(kind: type[Enum], data: Any) -> Enum:
    try:
        return kind(data)
    except ValueError:
        values = ", ".join(str(member.value) for member in kind)
        raise _Misfit(f" should be one of {values}, not {data!r}") from None


def _read_float(data: Any) -> Any:
    if type(data) is not int:
        return _expect(float, data)
    try:
        return float(data)
    except OverflowError:
        raise _Misfit(" is too large for a float") from None


def _expect(kind: Any, data: Any) -> Any:
    if type(data) is kind and kind is not int:
        return data
    # bool is an int to isinstance, and a flag where a count belongs is damage.
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise _Misfit(f" should be {kind.__name__}, not {type(data).__name__}")
    if isinstance(data, int) and abs(data) >= _TOO_LARGE:
        raise _Misfit(" is an integer of more than 64 bits")
    return data
