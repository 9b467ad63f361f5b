"""KServe servers that say what they are told to say, over HTTP and gRPC."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.unit.load.hostile import Exchange, response

ALL = ("binary_tensor_data", "model_configuration", "statistics", "system_shared_memory", "cuda_shared_memory")


def documents(
    extensions: Sequence[str], max_batch_size: int, shape: Sequence[int], *, decoupled: bool = False
) -> dict[str, dict[str, Any]]:
    """What the model ``m`` is, in all that a server says about itself."""
    return {
        "server": {"name": "fake", "version": "1.2", "extensions": list(extensions)},
        "model": {
            "name": "m",
            "versions": ["1", "2"],
            "platform": "onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": list(shape)}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        },
        "config": {
            "name": "m",
            "max_batch_size": max_batch_size,
            **({"model_transaction_policy": {"decoupled": True}} if decoupled else {}),
        },
        "stats": {"model_stats": [_stats(1), _stats(10)]},
    }


def _stats(factor: int) -> dict[str, Any]:
    parts = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    times = {part: {"count": 3 * factor, "ns": (index + 1) * factor} for index, part in enumerate(parts)}
    return {"name": "m", "execution_count": 2 * factor, "inference_stats": times}


class HttpTriton:
    """Answers KServe's control calls, with as many extensions as it is told to have.

    Attributes:
        ready: what it says when asked.
        documents: what it says about itself.
    """

    def __init__(
        self, *extensions: str, max_batch_size: int = 8, shape: Sequence[int] = (-1, 4), decoupled: bool = False
    ) -> None:
        self.ready = True
        self.documents = documents(extensions, max_batch_size, shape, decoupled=decoupled)

    def __call__(self, exchange: Exchange) -> None:
        path = exchange.request.split()[1].decode().rstrip("/").replace("/versions/2", "")
        said = {
            "/v2": "server",
            "/v2/models/m": "model",
            "/v2/models/m/config": "config",
            "/v2/models/m/stats": "stats",
        }.get(path)
        if path == "/v2/health/ready":
            exchange.send(response(b"", "200 OK" if self.ready else "400 Bad Request"))
        elif said is not None:
            body = json.dumps(self.documents[said]).encode()
            exchange.send(response(body, "200 OK", "Content-Type: application/json"))
        else:
            exchange.send(response(b'{"error": "no such thing"}', "404 Not Found", "Content-Type: application/json"))


@contextmanager
def grpc_triton(
    *extensions: str, decoupled: bool = False, credentials: Any = None, host: str = "127.0.0.1"
) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """A gRPC server that says the same.

    Yields:
        Its port, and the metadata of every call.
    """
    import grpc
    from google.protobuf.json_format import ParseDict
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    said = documents(extensions, 8, (-1, 4), decoupled=decoupled)
    said["config"] = {"config": said["config"]}
    calls: list[dict[str, str]] = []

    class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
        def ServerReady(self, _request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
            calls.append(dict(context.invocation_metadata()))
            return service_pb2.ServerReadyResponse(ready=True)

        def ServerMetadata(self, _request: Any, context: Any) -> Any:  # noqa: N802
            calls.append(dict(context.invocation_metadata()))
            return ParseDict(said["server"], service_pb2.ServerMetadataResponse())

        def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
            if request.name != "m":
                context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            return ParseDict(said["model"], service_pb2.ModelMetadataResponse())

        def ModelConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802
            return ParseDict(said["config"], service_pb2.ModelConfigResponse())

        def ModelStatistics(self, _request: Any, _context: Any) -> Any:  # noqa: N802
            return ParseDict(said["stats"], service_pb2.ModelStatisticsResponse())

    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    address = f"{host}:0"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield port, calls
    finally:
        stopped: threading.Event = server.stop(0)
        stopped.wait()
        pool.shutdown()
