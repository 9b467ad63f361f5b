"""Input data: synthetic, or the user's from a directory, a JSON file or Python.

Directories and JSON files have the form of perf_analyzer, documented in
https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/perf_analyzer/docs/input_data.html.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_gpuperf.errors import Argument, OptionError
from pytest_gpuperf.model import Plain
from pytest_gpuperf.targets.input_file import read_base64, read_json, read_tensor_file, tensor_file
from pytest_gpuperf.targets.model_file import check_model_file, looked_for
from pytest_gpuperf.targets.payload import (
    Array,
    TensorSpec,
    free_dimensions_error,
    resolve_item_shape,
    shape_fits,
    synthetic_array,
    to_array,
    to_item,
)
from pytest_gpuperf.user_path import user_path

RANDOM, ZERO = "random", "zero"
Item = Mapping[str, Any]
InputData = str | os.PathLike[str] | Iterable[Item | Sequence[Item]]
#: Key of an item that names a model instead of an input: genai-perf writes it, and perf_analyzer takes it.
_MODEL = "model"


@dataclass(frozen=True)
class Payload:
    """The inputs of a request and the expected outputs, if known; the first dimension is the batch.

    Attributes:
        stream: Number of the stream of data that it belongs to; the data of a sequence come from one stream.
    """

    inputs: dict[str, Array]
    expected: dict[str, Array] | None = None
    stream: int = 0


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """Settings of the data that a target receives.

    Attributes:
        inputs: Fixed values by input, without the batch; sent with every item and override ``input_data``.
        shapes: Sizes by input, without the batch, for dimensions that the model leaves free.
        input_data: ``random``, ``zero``, a directory with a file per input, a JSON file of perf_analyzer, or mappings
            from input to array, each an item of a batch. Several items are sent in turn. A list of mappings is a
            stream: the data of a sequence of requests to a stateful model.
        payloads: Number of different random requests that are sent in turn.
        seed: Seed of the random numbers, so that every run sends the same bytes.
        string_length: Length of random strings in bytes.
        string_data: String to send in place of random ones.
    """

    inputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    input_data: InputData = field(default=RANDOM, repr=False)
    payloads: int = 1
    seed: int = 0
    string_length: int = 128
    string_data: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.input_data, str | os.PathLike):
            # Every start reads the data, an iterator could be read only once.
            object.__setattr__(self, "input_data", tuple(self.input_data))
        if self.payloads < 1:
            raise OptionError(Argument("payloads", self.payloads), " must be 1 or more.")
        if self.payloads > 1 and self.input_data != RANDOM:
            raise OptionError(
                Argument("payloads", self.payloads),
                " applies to random requests only; omit it with ",
                Argument("input_data"),
                ".",
            )
        if self.string_length < 0:
            raise OptionError(Argument("string_length", self.string_length), " must be 0 or more.")

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
            Argument("batch_size", batch_size),
            " can't be sent, since the model's first dimension is fixed; use ",
            Argument("batch_size", 1),
            ".",
        )
    reader = _ItemReader(settings, specs, outputs, batched)
    if settings.kind in (RANDOM, ZERO):
        if expected is not None and not isinstance(expected, Mapping) and settings.kind == RANDOM and batch_size > 1:
            raise OptionError(
                Argument("expected"),
                " has an entry per random request, but the items of a random batch differ: pass the items as ",
                Argument("input_data"),
                ", or use ",
                Argument("batch_size", 1),
                ".",
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
        raise OptionError(Argument("input_data", str(settings.input_data)), " is empty.")
    if expected is not None:
        expected_outputs = reader.expected(expected, len(items))
        items = [replace(item, expected=outputs) for item, outputs in zip(items, expected_outputs, strict=True)]
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
                if spec.datatype == "BYTES" and settings.string_data is not None:
                    text = to_array(spec, settings.string_data)
                    inputs[spec.name] = _repeat(text, (*batch, *shape))
                    continue
                inputs[spec.name] = synthetic_array(spec, (*batch, *shape), generator, settings.string_length)
            yield Payload(inputs)

    def items(self) -> Iterator[Payload]:
        source = self._settings.input_data
        if isinstance(source, tuple):
            for number, (stream, values) in enumerate(_by_stream(source)):
                where = f"input_data[{number}]"
                if not isinstance(values, Mapping):
                    raise OptionError(
                        f"{where} is {type(values).__name__}, not a mapping from input to array, nor a list of these."
                    )
                yield Payload(self._inputs(values, self._array, where), stream=stream)
            return
        path = user_path(str(source))
        if path.is_dir():
            yield self._from_directory(path)
        elif path.is_file():
            yield from self._from_json(path)
        else:
            raise OptionError(
                Argument("input_data", str(source)),
                f" must be 'random', 'zero', or an existing directory or JSON file{looked_for(path)}.",
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
            raise OptionError(
                Argument("expected"), f" has {len(expected)} entries for {count} item(s): give an entry for each."
            )
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
            return self._fitted(spec, read_tensor_file(spec, file), self._declared(spec))

        files = {name: file for name in self._shape if (file := tensor_file(path, name)) is not None}
        inputs = self._inputs(files, read, str(path))
        expected_outputs = {}
        for name, spec in self._outputs.items():
            if name not in files and (file := tensor_file(path, name)) is not None:
                with _errors_located(str(path)):
                    expected_outputs[name] = read(spec, file)
        return Payload(inputs, expected_outputs or None)

    def _from_json(self, path: Path) -> Iterator[Payload]:
        document = read_json(path)
        data = document.get("data") if isinstance(document, dict) else None
        if not isinstance(data, list):
            raise OptionError(f'{path} has no list under "data", which perf_analyzer\'s input format requires.')
        entries = list(_by_stream(data))
        validation = document.get("validation_data") or []
        if not isinstance(validation, list):
            raise OptionError(f'{path}: "validation_data" is {type(validation).__name__}, not a list.')
        checks = [values for _, values in _by_stream(validation)]
        if checks and len(checks) != len(entries):
            raise OptionError(
                f'{path} has {len(entries)} entries under "data" and {len(checks)} under "validation_data", not as '
                "many of each."
            )
        for number, (stream, entry) in enumerate(entries):
            where = f"{path}, entry {number} of data"
            if not isinstance(entry, dict):
                raise OptionError(f"{where} is {type(entry).__name__}, not an object that maps inputs to values.")
            names_model = _MODEL not in self._shape and isinstance(entry.get(_MODEL), str)
            tensors = {name: tensor for name, tensor in entry.items() if not (names_model and name == _MODEL)}
            inputs = self._inputs(tensors, self._from_json_tensor, where)
            where = f"{path}, entry {number} of validation_data"
            outputs = self._expected_outputs(checks[number], self._from_json_tensor, where) if checks else None
            yield Payload(inputs, outputs, stream)

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
        declared = self._declared(spec)
        if isinstance(tensor, dict) and "content" in tensor:
            if "shape" in tensor:
                declared = resolve_item_shape(spec, tensor["shape"], batched=self._batched)
            tensor = tensor["content"]
        if isinstance(tensor, dict) and "b64" in tensor:
            return to_item(spec, read_base64(spec, tensor["b64"]), declared)
        if isinstance(tensor, dict):
            raise OptionError(f'{spec.name!r} is an object with neither "content" nor "b64".')
        return self._fitted(spec, to_array(spec, tensor), declared)

    def _declared(self, spec: TensorSpec) -> tuple[int, ...]:
        """Return the shape of an item, -1 for free dimensions."""
        return self._shape.get(spec.name, spec.item_shape(batched=self._batched))

    def _fitted(self, spec: TensorSpec, array: Array, declared: tuple[int, ...]) -> Array:
        """Return an item of the declared shape: the array's shape if it fits, also behind a batch of one."""
        if array.ndim > 1:
            for shape in (array.shape, array.shape[1:] if self._batched and len(array) == 1 else ()):
                if shape and shape_fits(shape, declared):
                    return array.reshape(shape)
        return to_item(spec, array.reshape(-1), declared)


@contextlib.contextmanager
def _errors_located(where: str) -> Iterator[None]:
    """Prefix OptionErrors with the location of the data."""
    try:
        yield
    except OptionError as error:
        raise OptionError(f"{where}: ", *error.args) from error


def _by_stream(entries: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yield all entries with the number of their stream: a list of entries is one, entries without lists are one."""
    entries = list(entries)
    nested = any(isinstance(part, list | tuple) for part in entries)
    for number, part in enumerate(entries):
        for entry in part if isinstance(part, list | tuple) else [part]:
            yield number if nested else 0, entry


def _batches(items: Sequence[Payload], batch_size: int | None) -> Iterator[Payload]:
    if batch_size is None:
        yield from items
        return
    count = len(items)
    for number in range(count // math.gcd(count, batch_size)):
        chosen = [(number * batch_size + offset) % count for offset in range(batch_size)]
        inputs = _stack([items[index].inputs for index in chosen], chosen)
        expected = [outputs for index in chosen if (outputs := items[index].expected) is not None]
        outputs = _stack(expected, chosen) if len(expected) == batch_size else None
        yield Payload(inputs, outputs, items[chosen[0]].stream)


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
                    f"Items {numbers[0]} and {number} differ in the shape of {name!r}, so they can't share a batch: ",
                    "use ",
                    Argument("batch_size", 1),
                    ", or items of the same shape.",
                )
    return {name: np.stack([row[name] for row in rows]) for name in names}
