"""Record the corpus from a real tritonserver: ``python -m tests.fuzz.record``. Answers are stored as they came."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.model import GRPC, Address, Request, WireWorkload
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

CORPUS = Path(__file__).with_name("corpus")
_QUIET_S = 0.3


def save(target: str, name: str, content: bytes) -> None:
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sys.stdout.write(f"{target}/{name}: {len(content)} bytes\n")


def exchange(address: str, request: bytes) -> bytes:
    """Send a request and return what comes until the server is quiet."""
    host, _, port = address.rpartition(":")
    received = b""
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(request)
        connection.settimeout(_QUIET_S)
        with contextlib.suppress(TimeoutError):
            while part := connection.recv(1 << 20):
                received += part
    return received


def http(address: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    method = "POST" if body else "GET"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return exchange(address, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)


@contextlib.contextmanager
def proxy(address: str, received: list[bytes]) -> Iterator[int]:
    """Forward connections to the server, and note what it sends; yields the port."""
    host, _, port = address.rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))

    def forward(source: socket.socket, sink: socket.socket, *, noted: bool) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(1 << 16):
                if noted:
                    received.append(part)
                sink.sendall(part)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                for source, sink, noted in ((client, server, False), (server, client, True)):
                    threading.Thread(target=forward, args=(source, sink), kwargs={"noted": noted}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def model(folder: Path) -> Path:
    tensors = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 5]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "d", tensors[:1], tensors[1:])
    path = folder / "doubled.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def record_http(server: StartedTriton, request: Request) -> None:
    address, path = server.address, "/v2/models/doubled/infer"
    headers = dict(request.headers)
    answers = {
        "right": http(address, path, request.body, headers),
        "gzip": http(address, path, request.body, {**headers, "Accept-Encoding": "gzip"}),
        "deflate": http(address, path, request.body, {**headers, "Accept-Encoding": "deflate"}),
        "closed": http(address, path, request.body, {**headers, "Connection": "close"}),
        "bad_request": http(address, path, b'{"inputs": []}'),
        "no_model": http(address, "/v2/models/nosuch/infer", request.body, headers),
        "no_path": http(address, "/nosuch"),
    }
    data = [float(number) for number in range(5)]
    document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 5], "data": data}]}
    answers["json"] = http(address, path, json.dumps(document).encode())
    for name, answer in answers.items():
        save("http", name, answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        if b" 200 OK" in head:
            length = re.search(rb"inference-header-content-length: *(\d+)", head, re.IGNORECASE)
            save("v2_json", name, (length[1] if length else b"") + b"\n" + body)
    control = {
        "server": "/v2",
        "model": "/v2/models/doubled",
        "config": "/v2/models/doubled/config",
        "statistics": "/v2/models/doubled/stats",
        "all_statistics": "/v2/models/stats",
    }
    for name, path in control.items():
        save("control", f"{name}.json", http(address, path).partition(b"\r\n\r\n")[2])
    assert server.metrics_url is not None
    metrics = re.sub(r"^\w+://|/.*$", "", server.metrics_url)
    text = exchange(metrics, f"GET /metrics HTTP/1.1\r\nHost: {metrics}\r\n\r\n".encode())
    save("metrics", "cpu.txt", text.partition(b"\r\n\r\n")[2])


def record_grpc(server: StartedTriton, items: Sequence[Mapping[str, Any]]) -> None:
    for target, streaming in (("grpc", False), ("grpc_stream", True)):
        endpoint = KServeEndpoint(
            server.grpc_address, "doubled", protocol=GRPC, streaming=streaming, input_data=items
        ).start()
        load = endpoint.workload(1)
        (good,) = load.rotations[0][:1]
        for name, body in {"right": good.body, "bad_request": good.body[:-4], "no_model": b"\n\x06nosuch"}.items():
            received: list[bytes] = []
            messages: list[bytes] = []

            def noted(message: bytes, _headers: Mapping[str, str], into: list[bytes] = messages) -> str:
                into.append(message)
                return ""

            with proxy(server.grpc_address, received) as port:
                one: WireWorkload = replace(
                    load, addresses=(Address("127.0.0.1", port),), rotations=((Request(body, (), noted),),)
                )
                loop = Loop(one)
                loop.window(one, WindowSpec(1, 0.0, lead_in_s=0.0, deadline_s=5.0))
                loop.close()
            save(target, name, b"".join(received))
            for message in messages[:1]:
                save(f"{target}_message", name, message)
        endpoint.stop()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        items = [{"x": np.arange(5, dtype=np.float32)}]
        server = TritonEndpoint(model(Path(folder)), threads=1).start()
        try:
            endpoint = KServeEndpoint(server.address, "doubled", input_data=items).start()
            record_http(server, endpoint.workload(1).rotations[0][0])
            endpoint.stop()
            record_grpc(server, items)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
