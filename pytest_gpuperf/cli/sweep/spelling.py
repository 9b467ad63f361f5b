"""Arguments of a target in the command line's words."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_gpuperf.errors import Argument

#: Flags that are not called after their argument.
_FLAGS = {
    "batch_size": "-b",
    "end_id": "--sequence-id-range",
    "headers": "-H",
    "model": "-m",
    "parameters": "--request-parameter",
    "protocol": "-i",
    "shapes": "--shape",
    "url": "-u",
    "version": "-x",
}


def flag_of(argument: Argument) -> str:
    """Return the flag, with its value, that sets an argument of the endpoint."""
    flag = _FLAGS.get(argument.name, f"--{argument.name.replace('_', '-')}")
    value = argument.value
    if value is None or value is True:
        return flag
    if isinstance(value, Mapping):
        shapes = (f"{name}:{','.join(map(str, sizes))}" for name, sizes in value.items())
        return " ".join(f"{flag} {shape}" for shape in shapes)
    return f"{flag} {value}"
