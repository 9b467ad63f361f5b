"""Tensors: their declarations by a model, matching arrays, and their bytes on the wire."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.errors import Argument, OptionError

Array = npt.NDArray[np.generic]

#: NumPy type of each KServe data type. NumPy has no BF16, which is held in single precision; on the wire it has two
#: bytes.
DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": np.float32,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", np.uint8)


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        datatype: KServe's name of the type, such as ``FP32``.
        shape: Declared shape, -1 for a free dimension; the first dimension of a batched model is the batch.
        optional: Whether a request may omit the tensor.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False

    @property
    def dtype(self) -> type[np.generic]:
        """NumPy type of the elements."""
        try:
            return DTYPES[self.datatype]
        except KeyError:
            raise OptionError(
                f"Tensor {self.name!r} has the unsupported type {self.datatype}; "
                f"supported types are {', '.join(DTYPES)}."
            ) from None

    @property
    def item_bytes(self) -> int:
        """Bytes of an element on the wire; 0 for strings, whose lengths vary."""
        return 0 if self.datatype == "BYTES" else 2 if self.datatype == "BF16" else np.dtype(self.dtype).itemsize

    def item_shape(self, *, batched: bool) -> tuple[int, ...]:
        """Return the declared shape without the batch dimension."""
        return self.shape[1:] if batched else self.shape


def first_is_batch(specs: Sequence[TensorSpec]) -> bool:
    """Return whether the first dimension of all tensors is free, and therefore taken as the batch."""
    return all(spec.shape and spec.shape[0] == -1 for spec in specs)


def resolve_item_shape(spec: TensorSpec, sizes: Sequence[int] | None, *, batched: bool) -> tuple[int, ...]:
    """Return the shape of an item: ``sizes`` if given, else the declared shape (-1 for free dimensions)."""
    declared = spec.item_shape(batched=batched)
    if sizes is None:
        return declared
    try:
        shape = tuple(int(size) for size in sizes)
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"{spec.name!r} has the shape {sizes!r}, which is not a list of whole numbers.") from error
    if not shape_fits(shape, declared):
        raise OptionError(
            Argument("shapes", {spec.name: list(shape)}),
            f" contradicts the model's shape {list(declared)}"
            f"{' (without the batch)' if batched else ''}: only dimensions of -1 can be chosen.",
        )
    return shape


def shape_fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Return whether a shape matches a declared shape, whose free dimensions are -1."""
    return len(shape) == len(declared) and all(
        size == wanted or (wanted < 0 and size >= 0) for size, wanted in zip(shape, declared, strict=True)
    )


def synthetic_array(
    spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator | None, length: int
) -> Array:
    """Return an array of random values or zeros.

    Args:
        generator: Source of random values: standard normal floats; integers 0 or 1, valid as token ids and masks;
            strings of letters and digits. None for zeros and strings "0".
        length: Length of random strings in bytes.
    """
    dtype = spec.dtype
    if spec.datatype == "BYTES":
        return _strings(shape, generator, length)
    if generator is None:
        return np.zeros(shape, dtype)
    if spec.datatype.startswith(("FP", "BF")):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def _strings(shape: tuple[int, ...], generator: np.random.Generator | None, length: int) -> Array:
    array = np.full(shape, b"0", dtype=np.object_)
    if generator is not None:
        letters = _LETTERS[generator.integers(0, len(_LETTERS), (array.size, length))]
        array.reshape(-1)[:] = [row.tobytes() for row in letters]
    return array


def to_array(spec: TensorSpec, values: object) -> Array:
    """Convert values to an array of the tensor's type."""
    if spec.datatype == "BYTES":
        array = np.asarray(values, dtype=np.object_)
        flat = [value.encode() if isinstance(value, str) else value for value in array.reshape(-1).tolist()]
        if not all(isinstance(value, bytes) for value in flat):
            raise OptionError(f"Tensor {spec.name!r} holds strings: its values must be str or bytes.")
        array = np.empty(array.shape, dtype=np.object_)
        array.reshape(-1)[:] = flat
        return array
    try:
        # Not np.ascontiguousarray, which turns a scalar into a vector.
        source = np.asarray(values)
        with np.errstate(over="raise", invalid="ignore"):
            array = np.require(source, spec.dtype, "C")
    except (TypeError, ValueError, ArithmeticError) as error:
        raise OptionError(f"The values of {spec.name!r} can't be converted to {spec.datatype}: {error}.") from error
    if array.dtype.kind != "f" and not np.array_equal(array, source):
        raise OptionError(f"The values of {spec.name!r} can't be converted to {spec.datatype} without changing them.")
    return array


def to_item(spec: TensorSpec, flat: Array, shape: tuple[int, ...]) -> Array:
    """Reshape flat values to an item; a single free dimension is derived from their number."""
    free = sum(size < 0 for size in shape)
    known = math.prod(size for size in shape if size >= 0)
    if free > 1:
        raise free_dimensions_error(spec, shape)
    if (free and (not known or flat.size % known)) or (not free and flat.size != known):
        raise OptionError(f"{spec.name!r} has {flat.size} values, which do not match the shape {list(shape)}.")
    return flat.reshape(shape)


def free_dimensions_error(spec: TensorSpec, shape: Sequence[int]) -> OptionError:
    """Return the error for an input whose free dimensions have no sizes."""
    return OptionError(
        f"Input {spec.name!r} has free dimensions {list(shape)}. Set their sizes, for example with ",
        Argument("shapes", {spec.name: [size if size > 0 else 128 for size in shape]}),
        ".",
    )


def to_bytes(datatype: str, values: Array) -> bytes:
    """Return row-major little-endian bytes; each string is preceded by its length in four bytes."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values.reshape(-1).tolist())
    if datatype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        # Round to nearest, ties to even; a NaN keeps its upper half with the quiet bit set.
        rounded = bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))
        upper = np.where(np.isnan(values.astype(np.float32)), bits | np.uint32(0x400000), rounded) >> np.uint32(16)
        return bytes(upper.astype("<u2").tobytes())
    return values.tobytes()


def from_bytes(datatype: str, data: bytes | memoryview, count: int = -1) -> Array:
    """Return the flat array of bytes made by ``to_bytes``.

    Args:
        count: Number of strings to read, since further bytes may follow; all when -1. Ignored for other types.
    """
    if datatype == "BYTES":
        return _read_strings(data, count)
    if datatype not in DTYPES:
        raise ValueError(f"unknown data type {datatype}")
    if datatype == "BF16":
        wide: Array = np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32)
    return np.frombuffer(data, DTYPES[datatype])


def _read_strings(data: bytes | memoryview, count: int) -> Array:
    strings: list[bytes] = []
    offset = 0
    while offset < len(data) if count < 0 else len(strings) < count:
        if offset + 4 > len(data):
            raise ValueError("a string's length is cut off")
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4 + length
        if offset > len(data):
            raise ValueError("a string is cut off")
        strings.append(bytes(data[offset - length : offset]))
    array = np.empty(len(strings), dtype=np.object_)
    array[:] = strings
    return array
