"""The classes that target fixtures give to tests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

TargetT = TypeVar("TargetT")


def with_defaults(target: type[TargetT], defaults: Callable[[], Mapping[str, Any]]) -> type[TargetT]:
    """Return a subclass that makes targets of the class itself, with defaults for the settings that a call leaves out.

    A fixture's value is so a class, as its annotation says: editors complete the parameters and type checkers check
    them. The targets stay what they are without the fixture, so that they can be pickled.

    Args:
        defaults: Settings of the running test, asked for at every call.
    """

    def make(_: type[TargetT], *arguments: Any, **settings: Any) -> TargetT:
        return target(*arguments, **{**defaults(), **settings})

    members = {"__new__": make, "__doc__": target.__doc__, "__signature__": inspect.signature(target)}
    return cast("type[TargetT]", type(target.__name__, (target,), members))
