"""KServe v2 over gRPC: protobuf messages, with the tensors as raw bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pytest_gpuperf.extras import import_extra
from pytest_gpuperf.model import GRPC, GRPC_STREAM, AnswerCheck, Request, StreamAnswer
from pytest_gpuperf.targets.kserve.message import InferMessage, MemoryRange, OutputSlot, read_shared_output
from pytest_gpuperf.targets.payload import DTYPES, Array, from_bytes, to_bytes

#: Path of the method that serves requests, by protocol.
PATHS = {
    GRPC: "/inference.GRPCInferenceService/ModelInfer",
    GRPC_STREAM: "/inference.GRPCInferenceService/ModelStreamInfer",
}
#: Field of a parameter, by the type of its value.
_PARAMETER_FIELDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
_FINAL = "triton_final_response"


def messages() -> Any:
    """Import and return the module of the protocol's message classes."""
    return import_extra("tritonclient.grpc.service_pb2", "tritonclient[grpc]", "grpc", "use KServe v2 over gRPC")


def encode(message: InferMessage, check: AnswerCheck | None) -> Request:
    """Encode a request as a serialised ``ModelInferRequest``."""
    request = messages().ModelInferRequest(model_name=message.model, model_version=message.version)
    for key, value in message.parameters.items():
        setattr(request.parameters[key], _PARAMETER_FIELDS[type(value)], value)
    for tensor in message.inputs:
        part = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        if tensor.memory_range is not None:
            _share(part, tensor.memory_range)
        else:
            request.raw_input_contents.append(to_bytes(tensor.datatype, tensor.values))
    for name, memory_range in message.outputs.items():
        part = request.outputs.add(name=name)
        if memory_range is not None:
            _share(part, memory_range)
    # Deterministic: the order of the parameters, a map, would otherwise vary.
    return Request(request.SerializeToString(deterministic=True), (), check, message.ends_sequence)


def _share(part: Any, memory_range: MemoryRange) -> None:
    part.parameters["shared_memory_region"].string_param = memory_range.region
    part.parameters["shared_memory_byte_size"].int64_param = memory_range.size
    if memory_range.offset:
        part.parameters["shared_memory_offset"].int64_param = memory_range.offset


def decode(body: bytes, _headers: Mapping[str, str], memory: OutputSlot | None) -> dict[str, Array]:
    """Return the outputs of a ``ModelInferResponse``, some of which may be in shared memory."""
    return _outputs(_parsed(messages().ModelInferResponse, body), memory)


class StreamReader:
    """Callable that reads a message of a stream: whether it is the last of its request, and its error."""

    def __init__(self) -> None:
        # Import now: at the first message, the import would delay the next requests.
        self._kind = messages().ModelStreamInferResponse

    def __reduce__(self) -> tuple[type[StreamReader], tuple[()]]:
        return StreamReader, ()

    def __call__(self, body: bytes) -> StreamAnswer:
        try:
            answer = _parsed(self._kind, body)
        except ValueError as error:
            return StreamAnswer(last=True, error=str(error))
        if answer.error_message:
            return StreamAnswer(last=True, error=answer.error_message)
        response = answer.infer_response
        # Only decoupled models set the parameter.
        last = _FINAL not in response.parameters or response.parameters[_FINAL].bool_param
        return StreamAnswer(last, not response.outputs)


def decode_stream(body: bytes, _headers: Mapping[str, str], memory: OutputSlot | None) -> dict[str, Array] | None:
    """Return the outputs of a ``ModelStreamInferResponse``; None for the empty message that ends a request."""
    answer = _parsed(messages().ModelStreamInferResponse, body)
    if answer.error_message:
        raise ValueError(answer.error_message)
    response = answer.infer_response
    if not response.outputs and _FINAL in response.parameters and response.parameters[_FINAL].bool_param:
        return None
    return _outputs(response, memory)


def _parsed(kind: Any, body: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise ValueError(f"it is not a {kind.DESCRIPTOR.name}: {error}") from error


def _outputs(response: Any, memory: OutputSlot | None) -> dict[str, Array]:
    raw = iter(response.raw_output_contents)
    return {tensor.name: _values(tensor, raw, memory).reshape(tuple(tensor.shape)) for tensor in response.outputs}


def _values(tensor: Any, raw: Iterator[bytes], memory: OutputSlot | None) -> Array:
    for _, typed in tensor.contents.ListFields():
        if tensor.datatype == "BYTES":
            array = np.empty(len(typed), dtype=np.object_)
            array[:] = list(typed)
            return array
        return np.array(typed, DTYPES.get(tensor.datatype))
    # Triton's list has an empty element for an output in shared memory.
    data = next(raw, None)
    if not data and memory is not None and (shared := memory.output(tensor.name)) is not None:
        return read_shared_output(tensor.datatype, tensor.shape, shared)
    if data is None:
        raise ValueError(f"there are no values for {tensor.name!r}")
    return from_bytes(tensor.datatype, data)
