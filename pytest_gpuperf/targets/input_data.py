"""Input data: synthetic, or the user's from a directory, a JSON file or Python.

Directories and JSON files have the form of perf_analyzer, documented in
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/perf_analyzer/docs/input_data.html.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Plain
from pytest_gpuperf.targets.model_file import check_model_file, is_lfs_pointer, lfs_error, looked_for
from pytest_gpuperf.targets.payload import (
    Array,
    TensorSpec,
    free_dimensions_error,
    from_bytes,
    resolve_item_shape,
    shape_fits,
    synthetic_array,
    to_array,
    to_item,
)

RANDOM, ZERO = "random", "zero"
InputData = str | os.PathLike[str] | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Payload:
    """The inputs of a request and the expected outputs, if known; the first dimension is the batch."""

    inputs: dict[str, Array]
    expected: dict[str, Array] | None = None


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """Settings of the data that a target receives.

    Attributes:
        inputs: Fixed values by input, without the batch; sent with every item and override ``input_data``.
        shapes: Sizes by input, without the batch, for dimensions that the model leaves free.
        input_data: ``random``, ``zero``, a directory with a file per input, a JSON file of perf_analyzer, or mappings
            from input to array, each an item of a batch. Several items are sent in turn.
        payloads: Number of different random requests that are sent in turn.
        seed: Seed of the random numbers, so that every run sends the same bytes.
        string_length: Length of random strings in bytes.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    input_data: InputData = field(default=RANDOM, repr=False)
    payloads: int = 1
    seed: int = 0
    string_length: int = 128

    def __post_init__(self) -> None:
        if not isinstance(self.input_data, str | os.PathLike):
            # Every start reads the data, an iterator could be read only once.
            object.__setattr__(self, "input_data", tuple(self.input_data))
        if self.payloads < 1:
            raise OptionError(f"payloads={self.payloads} must be 1 or more.")
        if self.payloads > 1 and self.input_data != RANDOM:
            raise OptionError(f"payloads={self.payloads} applies to random requests only; omit it with input_data=.")
        if self.string_length < 0:
            raise OptionError(f"string_length={self.string_length} must be 0 or more.")

    @property
    def kind(self) -> str:
        """The kind of ``input_data``: ``random``, ``zero``, ``directory``, ``json`` or ``python``."""
        source = self.input_data
        if isinstance(source, tuple):
            return "python"
        if source in (RANDOM, ZERO):
            return str(source)
        return "directory" if Path(str(source)).is_dir() else "json"

    def facts(self) -> dict[str, Plain]:
        """Return the entries for ``under_test``."""
        return {"input_data": self.kind, **({"payloads": self.payloads} if self.kind == RANDOM else {})}


def make_payloads(
    settings: InputSettings,
    specs: Sequence[TensorSpec],
    *,
    batch_size: int,
    batched: bool,
    outputs: Sequence[TensorSpec] = (),
    expected: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
) -> tuple[Payload, ...]:
    """Return the requests that are sent in turn.

    The user's items fill batches in order, starting again from the first; there are as many batches as it takes until
    the sequence repeats.

    Args:
        specs: Inputs of the model.
        batched: Whether the first dimension is the batch.
        outputs: Outputs whose expected values may come with the inputs.
        expected: Expected outputs, without the batch: a mapping for all items, or a list with a mapping
            for each item or random request.
    """
    names = [spec.name for spec in specs]
    for name in (*settings.shapes, *settings.inputs):
        if name not in names:
            raise OptionError(f"The model has no input {name!r}; its inputs are {', '.join(names)}.")
    if batch_size != 1 and not batched:
        raise OptionError(
            f"batch_size={batch_size} can't be sent, since the model's first dimension is fixed; use batch_size=1."
        )
    reader = _ItemReader(settings, specs, outputs, batched)
    if settings.kind in (RANDOM, ZERO):
        if expected is not None and not isinstance(expected, Mapping) and settings.kind == RANDOM and batch_size > 1:
            raise OptionError(
                "expected= has an entry per random request, but the items of a random batch differ: pass the items "
                "as input_data=, or use batch_size=1."
            )
        payloads = list(reader.synthetic_payloads(batch_size))
        expected_outputs = reader.expected(expected, len(payloads))
        batch = (batch_size,) if batched else ()
        return tuple(
            Payload(payload.inputs, _repeat_for_batch(outputs_of_item, batch))
            for payload, outputs_of_item in zip(payloads, expected_outputs, strict=True)
        )
    items = list(reader.items())
    if not items:
        raise OptionError(f"input_data={str(settings.input_data)!r} is empty.")
    if expected is not None:
        expected_outputs = reader.expected(expected, len(items))
        items = [Payload(item.inputs, outputs) for item, outputs in zip(items, expected_outputs, strict=True)]
    return tuple(_batches(items, batch_size if batched else None))


class _ItemReader:
    """Reader of input data as items, the data of single inferences without the batch."""

    def __init__(
        self, settings: InputSettings, specs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], batched: bool
    ) -> None:
        self._settings, self._specs, self._batched = settings, specs, batched
        self._shape = {
            spec.name: resolve_item_shape(spec, settings.shapes.get(spec.name), batched=batched) for spec in specs
        }
        self._fixed = {
            spec.name: self._array(spec, settings.inputs[spec.name]) for spec in specs if spec.name in settings.inputs
        }
        self._outputs = {spec.name: spec for spec in outputs}

    def synthetic_payloads(self, batch_size: int) -> Iterator[Payload]:
        settings = self._settings
        generator = np.random.default_rng(settings.seed) if settings.kind == RANDOM else None
        batch = (batch_size,) if self._batched else ()
        for _ in range(settings.payloads):
            inputs = {}
            for spec in self._specs:
                fixed = self._fixed.get(spec.name)
                if fixed is not None:
                    inputs[spec.name] = _repeat(fixed, batch)
                    continue
                shape = self._shape[spec.name]
                if any(size < 0 for size in shape):
                    raise free_dimensions_error(spec, shape)
                inputs[spec.name] = synthetic_array(spec, (*batch, *shape), generator, settings.string_length)
            yield Payload(inputs)

    def items(self) -> Iterator[Payload]:
        source = self._settings.input_data
        if isinstance(source, tuple):
            for number, values in enumerate(source):
                where = f"input_data[{number}]"
                if not isinstance(values, Mapping):
                    raise OptionError(f"{where} is {type(values).__name__}, not a mapping from input to array.")
                yield Payload(self._inputs(values, self._array, where))
            return
        path = Path(str(source)).expanduser()
        if path.is_dir():
            yield self._from_directory(path)
        elif path.is_file():
            yield from self._from_json(path)
        else:
            raise OptionError(
                f"input_data={str(source)!r} must be 'random', 'zero', or an existing directory or JSON file"
                f"{looked_for(path)}."
            )

    def expected(
        self, expected: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None, count: int
    ) -> list[dict[str, Array] | None]:
        """Return the expected outputs of each of ``count`` items."""
        if expected is None:
            return [None] * count
        if isinstance(expected, Mapping):
            return [self._expected_outputs(expected, self._array, "expected")] * count
        if len(expected) != count:
            raise OptionError(f"expected= has {len(expected)} entries for {count} item(s): give an entry for each.")
        return [self._expected_outputs(item, self._array, f"expected[{index}]") for index, item in enumerate(expected)]

    def _inputs(self, values: Mapping[str, Any], read: Any, where: str) -> dict[str, Array]:
        for name in values:
            if name not in self._shape:
                raise OptionError(f"{where}: the model has no input {name!r}; its inputs are {', '.join(self._shape)}.")
        inputs = dict(self._fixed)
        for spec in self._specs:
            if spec.name in self._fixed:
                continue
            if spec.name in values:
                with _errors_located(where):
                    inputs[spec.name] = read(spec, values[spec.name])
            elif not spec.optional:
                raise OptionError(f"{where} has no value for the input {spec.name!r}.")
        return inputs

    def _array(self, spec: TensorSpec, values: Any) -> Array:
        array = to_array(spec, values)
        declared = self._shape.get(spec.name, spec.item_shape(batched=self._batched))
        if not shape_fits(array.shape, declared):
            raise OptionError(
                f"{spec.name!r} has the shape {list(array.shape)}, but the model expects {list(declared)}"
                f"{' (without the batch)' if self._batched else ''}."
            )
        return array

    def _from_directory(self, path: Path) -> Payload:
        def read(spec: TensorSpec, file: Path) -> Array:
            check_model_file(file, "input data")
            try:
                if spec.datatype == "BYTES":
                    values = to_array(spec, file.read_bytes().splitlines())
                else:
                    values = from_bytes(spec.datatype, file.read_bytes())
            except (OSError, ValueError) as error:
                raise OptionError(f"{file} can't be read as {spec.datatype}: {error}.") from error
            return to_item(spec, values, self._shape.get(spec.name, spec.item_shape(batched=self._batched)))

        files = {name: path / name for name in self._shape if (path / name).is_file()}
        inputs = self._inputs(files, read, str(path))
        expected_outputs = {}
        for name, spec in self._outputs.items():
            if (path / name).is_file() and name not in files:
                with _errors_located(str(path)):
                    expected_outputs[name] = read(spec, path / name)
        return Payload(inputs, expected_outputs or None)

    def _from_json(self, path: Path) -> Iterator[Payload]:
        try:
            content = path.read_bytes()
            if is_lfs_pointer(content):
                raise lfs_error(path)
            document = json.loads(content)
        except (OSError, ValueError) as error:
            raise OptionError(f"{path} can't be read as JSON: {error}.") from error
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, list):
            raise OptionError(f'{path} has no list under "data", which perf_analyzer\'s input format requires.')
        entries, checks = _flatten_streams(data), _flatten_streams(document.get("validation_data") or [])
        if checks and len(checks) != len(entries):
            raise OptionError(
                f'{path} has {len(entries)} entries under "data" and {len(checks)} under "validation_data", not as '
                "many of each."
            )
        for number, entry in enumerate(entries):
            where = f"{path}, entry {number} of data"
            if not isinstance(entry, dict):
                raise OptionError(f"{where} is {type(entry).__name__}, not an object that maps inputs to values.")
            inputs = self._inputs(entry, self._from_json_tensor, where)
            where = f"{path}, entry {number} of validation_data"
            yield Payload(
                inputs, self._expected_outputs(checks[number], self._from_json_tensor, where) if checks else None
            )

    def _expected_outputs(self, values: Any, read: Any, where: str) -> dict[str, Array]:
        if not isinstance(values, Mapping):
            raise OptionError(f"{where} is {type(values).__name__}, not a mapping from output to values.")
        expected_outputs = {}
        for name, tensor in values.items():
            if name not in self._outputs:
                known = ", ".join(self._outputs)
                raise OptionError(f"{where}: the model has no output {name!r}; its outputs are {known}.")
            with _errors_located(where):
                expected_outputs[name] = read(self._outputs[name], tensor)
        return expected_outputs

    def _from_json_tensor(self, spec: TensorSpec, tensor: Any) -> Array:
        declared = self._shape.get(spec.name, spec.item_shape(batched=self._batched))
        if isinstance(tensor, dict) and "content" in tensor:
            if "shape" in tensor:
                declared = resolve_item_shape(spec, tensor["shape"], batched=self._batched)
            tensor = tensor["content"]
        if isinstance(tensor, dict) and "b64" in tensor:
            try:
                flat = from_bytes(spec.datatype, base64.b64decode(tensor["b64"], validate=True))
            except (ValueError, TypeError, binascii.Error) as error:
                raise OptionError(f"{spec.name!r} is not base64-encoded {spec.datatype}: {error}.") from error
        elif isinstance(tensor, dict):
            raise OptionError(f'{spec.name!r} is an object with neither "content" nor "b64".')
        else:
            flat = to_array(spec, tensor).reshape(-1)
        return to_item(spec, flat, declared)


@contextlib.contextmanager
def _errors_located(where: str) -> Iterator[None]:
    """Prefix OptionErrors with the location of the data."""
    try:
        yield
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error


def _flatten_streams(entries: Iterable[Any]) -> list[Any]:
    """Return all entries, those of streams (lists of entries) after each other."""
    return [entry for part in entries for entry in (part if isinstance(part, list) else [part])]


def _batches(items: Sequence[Payload], batch_size: int | None) -> Iterator[Payload]:
    if batch_size is None:
        yield from items
        return
    count = len(items)
    for number in range(count // math.gcd(count, batch_size)):
        chosen = [(number * batch_size + offset) % count for offset in range(batch_size)]
        inputs = _stack([items[index].inputs for index in chosen], chosen)
        expected = [outputs for index in chosen if (outputs := items[index].expected) is not None]
        yield Payload(inputs, _stack(expected, chosen) if len(expected) == batch_size else None)


def _repeat(values: Array, batch: tuple[int, ...]) -> Array:
    repeated: Array = np.broadcast_to(values, (*batch, *values.shape)).copy()
    return repeated


def _repeat_for_batch(outputs: dict[str, Array] | None, batch: tuple[int, ...]) -> dict[str, Array] | None:
    return None if outputs is None else {name: _repeat(values, batch) for name, values in outputs.items()}


def _stack(rows: Sequence[dict[str, Array]], numbers: Sequence[int]) -> dict[str, Array]:
    names = rows[0].keys()
    for row, number in zip(rows, numbers, strict=True):
        for name in {*names, *row}:
            if name not in row or name not in names or row[name].shape != rows[0][name].shape:
                raise OptionError(
                    f"Items {numbers[0]} and {number} differ in the shape of {name!r}, so they can't share a batch: "
                    "use batch_size=1, or items of the same shape."
                )
    return {name: np.stack([row[name] for row in rows]) for name in names}
