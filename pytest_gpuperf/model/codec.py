"""Conversion of data classes to builtins and back.

Reading checks every type against the annotations of the data class and names the path of a mismatch, so that a damaged
file ends in a clear message instead of an ``AttributeError`` three layers up. Nothing is ever executed.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

#: Larger integers fit into no column of a table or array.
_TOO_LARGE = 2**63

DataClassT = TypeVar("DataClassT")


class Mismatch(ValueError):
    """Builtins that don't fit the data class; the message begins with the path."""


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
    result = _read(kind, data, path)
    assert isinstance(result, kind)
    return result


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, data: Any, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, data, path)
    if origin is not None:
        return _read_container(origin, arguments, data, path)
    if is_dataclass(kind):
        return _read_data_class(kind, data, path)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _read_enum(kind, data, path)
    if kind is float and type(data) is int:
        try:
            return float(data)
        except OverflowError:
            raise Mismatch(f"{path} is too large for a float") from None
    return _expect(data, kind, path)


def _read_container(origin: Any, arguments: tuple[Any, ...], data: Any, path: str) -> Any:
    if origin in (tuple, frozenset):
        return origin(_read_tuple(arguments[0], _expect(data, list, path), path))
    assert issubclass(origin, Mapping)
    items = _expect(data, dict, path)
    return {key: _read(arguments[1], item, f"{path}.{key}") for key, item in items.items()}


def _read_enum(kind: type[Enum], data: Any, path: str) -> Enum:
    try:
        return kind(data)
    except ValueError:
        values = ", ".join(str(member.value) for member in kind)
        raise Mismatch(f"{path} should be one of {values}, not {data!r}") from None


def _read_tuple(kind: Any, items: list[Any], path: str) -> tuple[Any, ...]:
    if kind is int and set(map(type, items)) <= {int}:
        return tuple(items)  # most of a record is histograms: avoid a call for each of their numbers
    return tuple(_read(kind, item, f"{path}[{index}]") for index, item in enumerate(items))


def _read_union(kinds: tuple[Any, ...], data: Any, path: str) -> Any:
    """Read an optional value, one of several data classes, or one of several scalars."""
    if data is None and types.NoneType in kinds:
        return None
    members = [kind for kind in kinds if kind is not types.NoneType]
    if len(members) == 1:
        return _read(members[0], data, path)
    if type(data) in members:
        return _expect(data, type(data), path)
    if isinstance(data, dict):
        for kind in filter(is_dataclass, members):
            if data.keys() <= {field.name for field in fields(kind)}:
                return _read(kind, data, path)
    raise Mismatch(f"{path} should be {' or '.join(kind.__name__ for kind in members)}, not {type(data).__name__}")


def _read_data_class(kind: Any, data: Any, path: str) -> Any:
    items = _expect(data, dict, path)
    hints = _hints(kind)
    arguments = {}
    for field in fields(kind):
        if field.name in items:
            arguments[field.name] = _read(hints[field.name], items[field.name], f"{path}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise Mismatch(f"{path}.{field.name} is missing")
    try:
        return kind(**arguments)
    except ValueError as error:
        raise Mismatch(f"{path}: {error}") from error


def _expect(data: Any, kind: Any, path: str) -> Any:
    # bool is an int to isinstance, and a flag where a count belongs is damage.
    if kind is types.NoneType and data is None:
        return None
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        expected = "null" if kind is types.NoneType else kind.__name__
        raise Mismatch(f"{path} should be {expected}, not {type(data).__name__}")
    if isinstance(data, int) and abs(data) >= _TOO_LARGE:
        raise Mismatch(f"{path} is an integer of more than 64 bits")
    return data
