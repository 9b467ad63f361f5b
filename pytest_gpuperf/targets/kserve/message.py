"""One inference request before a protocol has given it its form, and the outputs of an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pytest_gpuperf.targets.payload import DTYPES, Array, TensorSpec, from_bytes

STREAM_FINAL = "triton_enable_empty_final_response"


@dataclass(frozen=True)
class MemoryRange:
    """Part of a shared memory region that is registered with the server under that name."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True)
class InputTensor:
    """One input: its values, or where they are."""

    name: str
    datatype: str
    values: Array = field(repr=False)
    memory_range: MemoryRange | None = None


@dataclass(frozen=True)
class InferMessage:
    """One inference request.

    Attributes:
        outputs: what is asked for, and where it shall be put; None: into the answer.
        parameters: of the request as a whole.
    """

    model: str
    version: str
    inputs: tuple[InputTensor, ...]
    outputs: Mapping[str, MemoryRange | None]
    parameters: dict[str, bool] = field(default_factory=dict)


class OutputMemory(Protocol):
    """Where the outputs of one request are, if not in the answer. (Triton's answers don't say so.)"""

    def output(self, name: str) -> bytes | None:
        """The bytes in its place; None where it has none.

        Raises:
            ValueError: they can't be read.
        """


def read_shared_output(datatype: str, shape: Sequence[int], data: bytes) -> Array:
    """The flat values at the start of an output's place.

    Raises:
        ValueError: it is too small for them.
    """
    count = math.prod(shape)
    size = TensorSpec("", datatype, ()).item_bytes * count if datatype in DTYPES else 0
    if size > len(data):
        raise ValueError(f"{size} bytes of outputs can't be in {len(data)} bytes of shared memory")
    return from_bytes(datatype, data[:size] if size else data, count)
