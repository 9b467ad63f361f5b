"""Inputs of a model that its server does not describe, as MLServer without model settings: from the user's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pytest_gpuperf.errors import Argument, OptionError
from pytest_gpuperf.targets.input_data import InputSettings
from pytest_gpuperf.targets.input_file import read_json
from pytest_gpuperf.targets.kserve.served_model import ServedModel
from pytest_gpuperf.user_path import user_path

_EXAMPLE = '{"data": [{"NAME": {"content": [1, 2], "shape": [1, 2], "datatype": "FP32"}}]}'
#: Data type of values of a NumPy kind, where the user names none.
_DATATYPES = {"b": "BOOL", "i": "INT64", "u": "INT64", "f": "FP32", "U": "BYTES", "S": "BYTES"}


def with_inputs(served: ServedModel, settings: InputSettings, model: str, server: str) -> ServedModel:
    """Return the model with inputs taken from the user's data, unless the server describes them.

    Raises:
        OptionError: The data don't define the inputs.
    """
    if served.inputs:
        return served
    return replace(served, metadata={**served.metadata, "inputs": inputs_from_data(settings, model, server)})


def inputs_from_data(settings: InputSettings, model: str, server: str) -> list[dict[str, Any]]:
    """Return the inputs in the form of the protocol's metadata, with all dimensions; -1 where the data differ in size.

    Raises:
        OptionError: The data don't define the inputs.
    """
    inputs: dict[str, dict[str, Any]] = {}
    for item in _items(settings):
        for name, tensor in {**item, **settings.inputs}.items():
            described = _described(name, tensor)
            known = inputs.setdefault(name, described)
            if len(known["shape"]) != len(described["shape"]) or known["datatype"] != described["datatype"]:
                raise OptionError(
                    f"{server} does not describe the inputs of {model!r}, and the items of ",
                    Argument("input_data"),
                    f" differ in the type or the number of dimensions of {name!r}.",
                )
            pairs = zip(known["shape"], described["shape"], strict=True)
            known["shape"] = [size if size == other else -1 for size, other in pairs]
    for name, sizes in settings.shapes.items():
        inputs.setdefault(name, {"name": name, "datatype": "FP32", "shape": [int(size) for size in sizes]})
    if not inputs:
        raise OptionError(
            f"{server} does not describe the inputs of {model!r}. Describe them in a JSON file ({_EXAMPLE}): ",
            Argument("input_data"),
            "; or give the sizes of all dimensions, to send random numbers of the type FP32: ",
            Argument("shapes", {"NAME": [1, 2]}),
            ".",
        )
    return list(inputs.values())


def _items(settings: InputSettings) -> Iterator[Mapping[str, Any]]:
    """Yield the user's items, as far as they have the form of items; the rest is refused where it is read."""
    source = settings.input_data
    data: Any = source if isinstance(source, tuple) else ()
    if settings.kind == "json":
        document = read_json(user_path(str(source)))
        data = document.get("data") if isinstance(document, dict) else ()
    for part in data if isinstance(data, list | tuple) else ():
        for item in part if isinstance(part, list | tuple) else (part,):
            if isinstance(item, Mapping):
                yield item
    if not data and settings.inputs:
        yield {}


def _described(name: str, tensor: Any) -> dict[str, Any]:
    datatype = shape = None
    if isinstance(tensor, Mapping):
        datatype, shape = tensor.get("datatype"), tensor.get("shape")
        tensor = tensor.get("content", tensor)
    if isinstance(tensor, Mapping):
        if datatype is None or shape is None:
            raise OptionError(
                f'{name!r} is base64 for an input that the server does not describe: add "datatype" and "shape".'
            )
        values = np.empty(0)
    else:
        try:
            values = np.asarray(tensor)
        except ValueError as error:
            raise OptionError(f"The values of {name!r} have no shape: {error}.") from error
    datatype = datatype or _DATATYPES.get(values.dtype.kind)
    if datatype is None:
        raise OptionError(f'The values of {name!r} have no type that can be sent: add "datatype", such as "FP32".')
    try:
        sizes = [int(size) for size in (values.shape if shape is None else shape)]
    except (TypeError, ValueError):
        raise OptionError(f"The shape of {name!r} is {shape!r}, not a list of whole numbers.") from None
    return {"name": name, "datatype": str(datatype), "shape": sizes}
