"""Tensors: what a model declares, arrays that fit it, and their bytes on the wire."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.errors import OptionError

Array = npt.NDArray[np.generic]

#: KServe's data types and the numpy types that hold them. NumPy has no BF16: single precision holds it, and only its
#: bytes on the wire are two.
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
    """One input or output of a model.

    Attributes:
        datatype: KServe's name (``FP32``).
        shape: as the model declares it; -1 where a dimension is free. With ``batched`` the first one is the batch.
        optional: a request may leave it out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False

    @property
    def dtype(self) -> type[np.generic]:
        """The numpy type that holds it.

        Raises:
            OptionError: there is none.
        """
        try:
            return DTYPES[self.datatype]
        except KeyError:
            raise OptionError(
                f"Tensor {self.name!r} has the type {self.datatype}, which can't be sent; "
                f"the types that can are {', '.join(DTYPES)}."
            ) from None

    @property
    def item_bytes(self) -> int:
        """Bytes of one element on the wire; 0 for strings, whose lengths differ."""
        return 0 if self.datatype == "BYTES" else 2 if self.datatype == "BF16" else np.dtype(self.dtype).itemsize

    def item_shape(self, *, batched: bool) -> tuple[int, ...]:
        """The declared shape without the batch."""
        return self.shape[1:] if batched else self.shape


def resolve_item_shape(spec: TensorSpec, sizes: Sequence[int] | None, *, batched: bool) -> tuple[int, ...]:
    """The shape of one item, with ``sizes`` for the free dimensions; -1 where these are not given.

    Raises:
        OptionError: they contradict what the model declares.
    """
    declared = spec.item_shape(batched=batched)
    if sizes is None:
        return declared
    shape = tuple(int(size) for size in sizes)
    if not shape_fits(shape, declared):
        raise OptionError(
            f"shapes={{{spec.name!r}: {list(shape)}}} contradicts the model, whose {spec.name!r} is {list(declared)}"
            f"{' (without the batch)' if batched else ''}: only the dimensions that are -1 there can be chosen."
        )
    return shape


def shape_fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    """Whether an array of that shape can be an item of the declared one."""
    return len(shape) == len(declared) and all(
        size == wanted or (wanted < 0 and size >= 0) for size, wanted in zip(shape, declared, strict=True)
    )


def synthetic_array(
    spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator | None, length: int
) -> Array:
    """An array out of nothing.

    Args:
        generator: of random numbers (floats: standard normal; integers: 0 or 1, valid as token ids and masks; strings:
            letters and digits). Without one: zeros, and strings that read ``0``.
        length: of the random strings, in bytes.
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
    """An array of the tensor's type.

    Raises:
        OptionError: the values can't be converted to it.
    """
    if spec.datatype == "BYTES":
        array = np.asarray(values, dtype=np.object_)
        flat = [value.encode() if isinstance(value, str) else value for value in array.reshape(-1).tolist()]
        if not all(isinstance(value, bytes) for value in flat):
            raise OptionError(f"Tensor {spec.name!r} holds strings; give it str or bytes.")
        array = np.empty(array.shape, dtype=np.object_)
        array.reshape(-1)[:] = flat
        return array
    try:
        # Not np.ascontiguousarray, which makes a vector of a scalar.
        source = np.asarray(values)
        array = np.require(source, spec.dtype, "C")
    except (TypeError, ValueError, OverflowError) as error:
        raise OptionError(f"The values of {spec.name!r} can't be converted to {spec.datatype}: {error}.") from error
    if array.dtype.kind != "f" and not np.array_equal(array, source):
        raise OptionError(f"The values of {spec.name!r} can't be converted to {spec.datatype} without changing them.")
    return array


def to_item(spec: TensorSpec, flat: Array, shape: tuple[int, ...]) -> Array:
    """Flat values as an item; one free dimension is found from their number.

    Raises:
        OptionError: their number doesn't fit.
    """
    free = sum(size < 0 for size in shape)
    known = math.prod(size for size in shape if size >= 0)
    if free > 1:
        raise free_dimensions_error(spec, shape)
    if (free and (not known or flat.size % known)) or (not free and flat.size != known):
        raise OptionError(f"{spec.name!r} has {flat.size} values, which don't make the shape {list(shape)}.")
    return flat.reshape(shape)


def free_dimensions_error(spec: TensorSpec, shape: Sequence[int]) -> OptionError:
    """What to say when nobody knows how large an input is."""
    return OptionError(
        f"Input {spec.name!r} has free dimensions {list(shape)}; say how large they are: "
        f"shapes={{{spec.name!r}: {[size if size > 0 else 128 for size in shape]}}}."
    )


def to_bytes(datatype: str, values: Array) -> bytes:
    """Row-major little-endian bytes; strings each with their length as four bytes in front."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(value)) + value for value in values.reshape(-1).tolist())
    if datatype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        # Round to nearest, ties to even; a NaN keeps its upper half, which has the quiet bit in it.
        rounded = bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))
        upper = np.where(np.isnan(values.astype(np.float32)), bits | np.uint32(0x400000), rounded) >> np.uint32(16)
        return bytes(upper.astype("<u2").tobytes())
    return values.tobytes()


def from_bytes(datatype: str, data: bytes | memoryview, count: int = -1) -> Array:
    """The flat array that such bytes are.

    Args:
        count: elements to read, where more bytes may follow (strings); all when -1.

    Raises:
        ValueError: the bytes end in mid element, or the type is unknown.
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
    found: list[bytes] = []
    offset = 0
    while offset < len(data) if count < 0 else len(found) < count:
        if offset + 4 > len(data):
            raise ValueError("a string's length is cut off")
        (length,) = struct.unpack_from("<I", data, offset)
        offset += 4 + length
        if offset > len(data):
            raise ValueError("a string is cut off")
        found.append(bytes(data[offset - length : offset]))
    array = np.empty(len(found), dtype=np.object_)
    array[:] = found
    return array
