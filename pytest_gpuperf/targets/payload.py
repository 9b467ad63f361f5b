"""Input tensors for a model: from its signature, seeded, so that every run sends the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.errors import OptionError

Array = npt.NDArray[np.generic]

#: KServe's data types and the numpy types that hold them.
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
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        datatype: KServe's name (``FP32``).
        shape: as the model declares it; -1 where a dimension is free. With ``batched`` the first one is the batch.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


def make_inputs(
    specs: Sequence[TensorSpec],
    *,
    batch_size: int,
    batched: bool,
    shapes: Mapping[str, Sequence[int]],
    given: Mapping[str, Array] | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """One array for every input.

    Args:
        batched: the first dimension is the batch.
        shapes: by input, without the batch: sizes for the free dimensions.
        given: by input, without the batch: use this instead of random numbers.
        seed: of the random numbers (floats: standard normal; integers: 0 or 1, valid as token ids and masks).

    Raises:
        OptionError: a free dimension has no size, a name is unknown, or the model takes no batches.
    """
    given = given or {}
    names = [spec.name for spec in specs]
    for name in (*shapes, *given):
        if name not in names:
            raise OptionError(f"The model has no input {name!r}; its inputs are {', '.join(names)}.")
    if batch_size != 1 and not batched:
        raise OptionError(
            f"The model's first dimension is fixed, so batch_size={batch_size} can't be sent; use batch_size=1."
        )
    generator = np.random.default_rng(seed)
    return {
        spec.name: _one(spec, batch_size if batched else None, shapes.get(spec.name), given.get(spec.name), generator)
        for spec in specs
    }


def _one(
    spec: TensorSpec,
    batch_size: int | None,
    sizes: Sequence[int] | None,
    given: Array | None,
    generator: np.random.Generator,
) -> Array:
    dtype = DTYPES.get(spec.datatype)
    if dtype is None:
        raise OptionError(f"Input {spec.name!r} has the type {spec.datatype}, for which no numbers can be made up yet.")
    if given is not None:
        item = np.asarray(given, dtype=dtype)
        return item if batch_size is None else np.broadcast_to(item, (batch_size, *item.shape)).copy()
    shape = tuple(spec.shape if batch_size is None else spec.shape[1:])
    if sizes is not None:
        shape = tuple(int(size) for size in sizes)
    if any(size < 0 for size in shape):
        raise OptionError(
            f"Input {spec.name!r} has free dimensions {list(shape)}; say how large they are: "
            f"shapes={{{spec.name!r}: {[size if size > 0 else 128 for size in shape]}}}."
        )
    if batch_size is not None:
        shape = (batch_size, *shape)
    if spec.datatype == "BYTES":
        return np.full(shape, b"gpuperf", dtype=np.object_)
    if spec.datatype.startswith("FP"):
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
