"""An inference request independent of the protocol, and outputs in shared memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pytest_gpuperf.targets.payload import DTYPES, Array, TensorSpec, from_bytes

#: Value of a parameter of a request.
Parameter = str | int | float | bool
STREAM_FINAL = "triton_enable_empty_final_response"


@dataclass(frozen=True)
class MemoryRange:
    """Bytes ``offset`` to ``offset + size`` of a shared memory region, by the name it is registered under."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True)
class InputTensor:
    """An input.

    Attributes:
        memory_range: Shared memory that holds the values; None if the request contains them.
    """

    name: str
    datatype: str
    values: Array = field(repr=False)
    memory_range: MemoryRange | None = None


@dataclass(frozen=True)
class InferMessage:
    """An inference request.

    Attributes:
        outputs: Requested outputs, each with the shared memory to write it to; None to put it into the answer.
        parameters: Parameters of the request (not of a tensor).
        ends_sequence: Whether no later request belongs to the same sequence.
    """

    model: str
    version: str
    inputs: tuple[InputTensor, ...]
    outputs: Mapping[str, MemoryRange | None]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    ends_sequence: bool = True


class RegionReader(Protocol):
    """A reader of a region, for use in any process on this host."""

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes from ``offset``.

        Raises:
            ValueError: The range ends beyond the region, or the region was removed.
        """


@dataclass(frozen=True)
class OutputSlot:
    """The part of an output region that belongs to a request in flight. (Triton's answers do not name it.)

    Attributes:
        memory_ranges: Memory of each output, by name.
    """

    reader: RegionReader
    memory_ranges: Mapping[str, MemoryRange]

    def output(self, name: str) -> bytes | None:
        """Return the bytes of an output's memory; None if the output is in the answer."""
        memory_range = self.memory_ranges.get(name)
        return None if memory_range is None else self.reader.read(memory_range.offset, memory_range.size)


def read_shared_output(datatype: str, shape: Sequence[int], data: bytes) -> Array:
    """Return the flat array at the start of an output's memory."""
    count = math.prod(shape)
    item_bytes = TensorSpec("", datatype, ()).item_bytes if datatype in DTYPES else 0
    if item_bytes * count > len(data):
        raise ValueError(f"{item_bytes * count} bytes of outputs do not fit into {len(data)} bytes of shared memory")
    return from_bytes(datatype, data[: item_bytes * count] if item_bytes else data, count)
