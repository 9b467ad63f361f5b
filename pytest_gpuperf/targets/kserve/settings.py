"""Settings of requests to a model, on whichever server it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_gpuperf.errors import Argument, OptionError
from pytest_gpuperf.model import GRPC, GRPC_STREAM, Plain
from pytest_gpuperf.targets.input_data import InputSettings
from pytest_gpuperf.targets.kserve.sequences import Sequences
from pytest_gpuperf.targets.payload import Array

NO_MEMORY, SYSTEM, CUDA = "none", "system", "cuda"
BINARY, JSON = "binary", "json"

#: Judges the outputs of an answer, by name: returns True or "" if they are correct, else False or the reason.
Judge = Callable[[dict[str, Array]], bool | str]
Expected = Mapping[str, Any] | Sequence[Mapping[str, Any]] | Judge


@dataclass(frozen=True, kw_only=True)
class RequestSettings(InputSettings):
    """Settings of requests, and the outputs to expect.

    Attributes:
        protocol: ``http`` or ``grpc``; the URL's scheme, else HTTP, when None.
        streaming: Whether to use a bidirectional gRPC stream per connection, on which a request may have any number
            of answers.
        expected: Correct outputs by name, without the batch: a mapping for all requests, or a list with a mapping for
            each item of ``input_data`` (or of ``payloads``); or a function of the outputs, defined at the top level of
            a module, that returns whether they are correct or what is wrong. Overrides ``validation_data`` of a JSON
            file. A wrong answer is an error of type ``wrong answer``.
        tolerance: Relative tolerance of floating point outputs; other outputs must be equal.
        shared_memory: ``system`` or ``cuda`` to keep tensors in memory shared with a server on this host; ``none`` to
            send them.
        output_shared_memory_size: Bytes for each output whose size the model does not define.
        parameters: Parameters of every request, such as ``{"max_tokens": 256}``.
        input_tensor_format, output_tensor_format: How tensors are sent and answered over HTTP: ``json``, or ``binary``
            where the server supports it.
        composing_models: Models that a Python model calls by itself (BLS): their times stand beside its own. Those of
            an ensemble are known without it.
        sequences: Sequences of requests, for a stateful model; others ignore it.
    """

    protocol: str | None = None
    streaming: bool = False
    expected: Expected | None = field(default=None, repr=False)
    tolerance: float = 1e-3
    shared_memory: str = NO_MEMORY
    output_shared_memory_size: int | None = None
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    input_tensor_format: str = BINARY
    output_tensor_format: str = BINARY
    composing_models: Sequence[str] = ()
    sequences: Sequences = field(default_factory=Sequences)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tolerance < 0:
            raise OptionError(Argument("tolerance", self.tolerance), " must be 0 or more.")
        if self.shared_memory not in (NO_MEMORY, SYSTEM, CUDA):
            raise OptionError(Argument("shared_memory", self.shared_memory), " must be 'none', 'system' or 'cuda'.")
        if self.output_shared_memory_size is not None and self.output_shared_memory_size < 1:
            size = Argument("output_shared_memory_size", self.output_shared_memory_size)
            raise OptionError(size, " must be 1 byte or more.")
        for name in ("input_tensor_format", "output_tensor_format"):
            if (wanted := getattr(self, name)) not in (BINARY, JSON):
                raise OptionError(Argument(name, wanted), " must be 'binary' or 'json'.")
        if isinstance(self.composing_models, str):
            raise OptionError(Argument("composing_models", self.composing_models), " must be a list of names.")
        for name, value in self.parameters.items():
            if type(value) not in (str, int, float, bool):
                raise OptionError(
                    Argument("parameters"), f" has {name!r}: {value!r}; values are strings, numbers or booleans."
                )

    def wire_protocol(self, protocol: str) -> str:
        """Return the protocol of the requests to servers with that control protocol."""
        if not self.streaming:
            return protocol
        if protocol != GRPC:
            raise OptionError(
                Argument("streaming", True),
                " needs gRPC. Set ",
                Argument("protocol", GRPC),
                " and use the server's gRPC port.",
            )
        return GRPC_STREAM

    def facts(self) -> dict[str, Plain]:
        return {**super().facts(), "shared_memory": self.shared_memory}
