"""How a model is asked, whichever server it is on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import GRPC, GRPC_STREAM, Plain
from pytest_gpuperf.targets.input_data import InputSettings
from pytest_gpuperf.targets.payload import Array

NO_MEMORY, SYSTEM, CUDA = "none", "system", "cuda"

#: Judges the outputs of one answer, by name: true or empty when they are right, else false or a sentence.
Judge = Callable[[dict[str, Array]], bool | str]
Expected = Mapping[str, Any] | Sequence[Mapping[str, Any]] | Judge


@dataclass(frozen=True, kw_only=True)
class RequestSettings(InputSettings):
    """How a model is asked and what its answers are held against.

    Attributes:
        protocol: ``http`` or ``grpc``; HTTP, or what the URL says, when None.
        streaming: gRPC: one bidirectional stream per connection, on which a request may have any number of answers.
        expected: the right outputs, by name and without the batch; one such mapping for all, or one for each item of
            ``input_data`` (for each of ``payloads``); or a function of the outputs, defined at the top level of a
            module, that returns whether they are right or what is wrong with them. It goes before ``validation_data``
            of a JSON file. A wrong answer is an error of type ``wrong answer``.
        tolerance: relative, of floating point outputs; everything else must be equal.
        shared_memory: ``system`` or ``cuda``: tensors stay in memory shared with a server on this host.
        output_shared_memory_size: bytes for each output whose size the model doesn't say.
    """

    protocol: str | None = None
    streaming: bool = False
    expected: Expected | None = field(default=None, repr=False)
    tolerance: float = 1e-3
    shared_memory: str = NO_MEMORY
    output_shared_memory_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tolerance < 0:
            raise OptionError(f"tolerance={self.tolerance}: a relative difference is 0 or more.")
        if self.shared_memory not in (NO_MEMORY, SYSTEM, CUDA):
            raise OptionError(f"shared_memory={self.shared_memory!r}: write 'none', 'system' or 'cuda'.")
        if self.output_shared_memory_size is not None and self.output_shared_memory_size < 1:
            raise OptionError(f"output_shared_memory_size={self.output_shared_memory_size}: give a number of bytes.")

    def wire_protocol(self, protocol: str) -> str:
        """How requests travel to servers that are spoken to in that protocol.

        Raises:
            OptionError: that protocol has no streams.
        """
        if not self.streaming:
            return protocol
        if protocol != GRPC:
            raise OptionError("streaming=True needs gRPC: write protocol='grpc', and give the server's gRPC port.")
        return GRPC_STREAM

    def facts(self) -> dict[str, Plain]:
        return {**super().facts(), "shared_memory": self.shared_memory}
