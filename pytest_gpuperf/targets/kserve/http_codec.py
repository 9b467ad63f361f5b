"""KServe v2 over HTTP: JSON followed by the tensors' bytes (binary tensor extension)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.limits import JSON_BYTES, TooLargeError, uncompressed
from pytest_gpuperf.model import AnswerCheck, Request
from pytest_gpuperf.targets.kserve.message import (
    InferMessage,
    InputTensor,
    MemoryRange,
    OutputSlot,
    read_shared_output,
)
from pytest_gpuperf.targets.payload import DTYPES, Array, from_bytes, to_bytes

_LENGTH = "inference-header-content-length"


def infer_path(model: str, version: str) -> str:
    """Return the path of an inference request."""
    versions = f"/versions/{quote(version, safe='')}" if version else ""
    return f"/v2/models/{quote(model, safe='')}{versions}/infer"


def encode(message: InferMessage, check: AnswerCheck | None, *, binary: bool, binary_outputs: bool) -> Request:
    """Encode a request with the binary tensor extension, or with JSON numbers; ask for its outputs likewise."""
    inputs, tail = [], []
    for tensor in message.inputs:
        part: dict[str, Any] = {
            "name": tensor.name,
            "shape": list(tensor.values.shape),
            "datatype": tensor.datatype,
        }
        if tensor.memory_range is not None:
            part["parameters"] = _shared_memory(tensor.memory_range)
        elif binary:
            tail.append(to_bytes(tensor.datatype, tensor.values))
            part["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            part["data"] = _numbers(tensor)
        inputs.append(part)
    answer = {"binary_data": binary_outputs}
    outputs = [
        {"name": name, "parameters": answer if memory_range is None else _shared_memory(memory_range)}
        for name, memory_range in message.outputs.items()
    ]
    request: dict[str, Any] = {"inputs": inputs}
    if outputs:
        request["outputs"] = outputs
    if message.parameters:
        request["parameters"] = dict(message.parameters)
    head = json.dumps(request, separators=(",", ":")).encode()
    headers = [("Content-Type", "application/octet-stream" if tail else "application/json")]
    if tail:
        headers.append(("Inference-Header-Content-Length", str(len(head))))
    return Request(b"".join([head, *tail]), tuple(headers), check, message.ends_sequence)


def _shared_memory(memory_range: MemoryRange) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "shared_memory_region": memory_range.region,
        "shared_memory_byte_size": memory_range.size,
    }
    if memory_range.offset:
        parameters["shared_memory_offset"] = memory_range.offset
    return parameters


def _numbers(tensor: InputTensor) -> list[Any]:
    flat: list[Any] = tensor.values.reshape(-1).tolist()
    if tensor.datatype != "BYTES":
        return flat
    try:
        return [value.decode() for value in flat]
    except UnicodeDecodeError as error:
        raise OptionError(
            f"{tensor.name!r} holds bytes that are not UTF-8, and its strings are sent as JSON: {error}."
        ) from error


def decode(body: bytes, headers: Mapping[str, str], memory: OutputSlot | None) -> dict[str, Array]:
    """Return the outputs of an answer, some of which may be in shared memory."""
    body = _decompressed(body, headers.get("content-encoding", ""))
    length = int(headers.get(_LENGTH, len(body)))
    if not 0 <= length <= len(body):
        raise ValueError(f"{_LENGTH} is {length}, but it has {len(body)} bytes")
    if length > JSON_BYTES:
        raise TooLargeError("its JSON", JSON_BYTES)
    document = json.loads(body[:length])
    outputs = document.get("outputs") if isinstance(document, dict) else None
    if outputs is None:
        raise ValueError("it has no outputs")
    tail = memoryview(body)[length:]
    arrays = {}
    for tensor in outputs:
        name, datatype, shape = tensor["name"], tensor["datatype"], [int(size) for size in tensor["shape"]]
        if not isinstance(name, str):
            raise ValueError(f"the name of an output is {name!r}")  # noqa: TRY004 - no caller's argument
        parameters = tensor.get("parameters", {})
        if "binary_data_size" in parameters:
            size = int(parameters["binary_data_size"])
            flat, tail = from_bytes(datatype, tail[:size]), tail[size:]
        elif "data" not in tensor and memory is not None and (data := memory.output(name)) is not None:
            flat = read_shared_output(datatype, shape, data)
        else:
            flat = _array(datatype, tensor["data"])
        arrays[name] = flat.reshape(shape)
    return arrays


def _array(datatype: str, data: Any) -> Array:
    if datatype == "BYTES":
        flat = [text.encode() for text in np.asarray(data, dtype=np.object_).reshape(-1).tolist()]
        array = np.empty(len(flat), dtype=np.object_)
        array[:] = flat
        return array
    return np.asarray(data, DTYPES[datatype]).reshape(-1)


def _decompressed(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "deflate":
            return uncompressed(body, f"its {encoding.strip()}")
        case unexpected:
            raise ValueError(f"its encoding {unexpected} was not requested")
