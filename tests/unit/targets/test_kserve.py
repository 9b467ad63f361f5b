from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import OptionError, TargetDied, TargetError
from pytest_gpuperf.model import ServerTimes
from pytest_gpuperf.targets.kserve import KServeClient, KServeEndpoint, infer_wire, split_url
from pytest_gpuperf.targets.payload import Array
from tests.unit.load.hostile import HOST, Exchange, Server, answers, response


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost:8000", ("localhost", 8000)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("http://triton:9000", ("triton", 9000)),
        ("http://triton:9000/", ("triton", 9000)),
        ("HTTP://triton:9000", ("triton", 9000)),
        ("triton.serving.svc.cluster.local:8000", ("triton.serving.svc.cluster.local", 8000)),
        ("triton", ("triton", 8000)),
        ("http://triton", ("triton", 8000)),
        ("host:1", ("host", 1)),
        ("host:65535", ("host", 65535)),
        ("[::1]:8000", ("::1", 8000)),
        ("http://[::1]:8000", ("::1", 8000)),
    ],
)
def test_an_endpoints_url_is_a_host_and_a_port(url: str, address: tuple[str, int]) -> None:
    assert split_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        ":8000",
        "http://:8000",
        "host:",
        "host:http",
        "host:0",
        "host:-1",
        "host:65536",
        "host:8000:8001",
        "::1",
        "[::1",
        "[not-an-address]:8000",
        "https://host:8000",
        "grpc://host:8001",
        "ftp://host",
        "http:/host:8000",
        "host:8000/v2/models/m",
        "http://host:8000/v2",
        "http://host:8000?model=m",
        "http://host:8000#m",
        "user:secret@host:8000",
        "http://ho st:8000",
        "host :8000",
    ],
)
def test_anything_else_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(OptionError, match=r"write host:port or http://host:port") as caught:
        split_url(url)
    assert repr(url) in str(caught.value)


def parts(wire: bytes) -> tuple[str, dict[str, str], bytes]:
    """Request line, headers and body of a request that must be framed correctly."""
    head, end, body = wire.partition(b"\r\n\r\n")
    assert end
    line, *lines = head.decode("ascii").split("\r\n")
    headers = {}
    for header in lines:
        name, colon, value = header.partition(": ")
        assert colon
        assert name.lower() not in headers
        headers[name.lower()] = value
    assert int(headers["content-length"]) == len(body)
    return line, headers, body


class TestWire:
    image = np.arange(12, dtype=np.float32).reshape(2, 6)
    mask = np.array([[1], [0]], np.int64)

    def wire(self, *, binary: bool, model: str = "resnet50", host: str = "triton") -> bytes:
        inputs: dict[str, tuple[str, Array]] = {"image": ("FP32", self.image), "mask": ("INT64", self.mask)}
        return infer_wire(host, 8000, model, inputs, ["logits"], binary=binary)

    def test_binary_tensors_follow_the_json(self) -> None:
        line, headers, body = parts(self.wire(binary=True))
        assert line == "POST /v2/models/resnet50/infer HTTP/1.1"
        assert headers["host"] == "triton:8000"
        assert headers["content-type"] == "application/octet-stream"
        length = int(headers["inference-header-content-length"])
        request = json.loads(body[:length])
        assert [
            (tensor["name"], tensor["datatype"], tensor["shape"], tensor["parameters"]["binary_data_size"])
            for tensor in request["inputs"]
        ] == [("image", "FP32", [2, 6], 48), ("mask", "INT64", [2, 1], 16)]
        assert [(tensor["name"], tensor["parameters"]["binary_data"]) for tensor in request["outputs"]] == [
            ("logits", True)
        ]
        assert body[length:] == self.image.tobytes() + self.mask.tobytes()

    def test_json_numbers_for_servers_without_binary_tensors(self) -> None:
        line, headers, body = parts(self.wire(binary=False))
        assert line == "POST /v2/models/resnet50/infer HTTP/1.1"
        assert headers["content-type"] == "application/json"
        assert "inference-header-content-length" not in headers
        image, mask = json.loads(body)["inputs"]
        assert image["data"] == list(range(12))
        assert mask["data"] == [1, 0]
        assert "binary_data_size" not in image.get("parameters", {})

    @pytest.mark.parametrize("binary", [True, False])
    def test_bytes(self, binary: bool) -> None:
        text = np.array([[b"gpuperf", b"x"]], np.object_)
        _, headers, body = parts(infer_wire("h", 1, "m", {"text": ("BYTES", text)}, ["y"], binary=binary))
        if binary:
            length = int(headers["inference-header-content-length"])
            assert body[length:] == b"\7\0\0\0gpuperf\1\0\0\0x"
        else:
            assert json.loads(body)["inputs"][0]["data"] == ["gpuperf", "x"]

    def test_a_large_batch_is_in_the_wire_once(self) -> None:
        values = np.zeros((8, 3, 224, 224), np.float32)
        _, headers, body = parts(infer_wire("h", 1, "m", {"x": ("FP32", values)}, ["y"], binary=True))
        assert len(body) == int(headers["inference-header-content-length"]) + values.nbytes

    @pytest.mark.parametrize(
        ("model", "path"), [("my model", "my%20model"), ("größe", "gr%C3%B6%C3%9Fe"), ("a?b", "a%3Fb")]
    )
    def test_a_models_name_is_quoted(self, model: str, path: str) -> None:
        line, _, _ = parts(self.wire(binary=True, model=model))
        assert line == f"POST /v2/models/{path}/infer HTTP/1.1"

    def test_an_ipv6_address_keeps_its_brackets(self) -> None:
        _, headers, _ = parts(self.wire(binary=True, host="::1"))
        assert headers["host"] == "[::1]:8000"


class Triton:
    """Answers KServe's control calls, with as many extensions as it is told to have."""

    def __init__(self, *extensions: str, max_batch_size: int = 8, shape: Sequence[int] = (-1, 4)) -> None:
        self.ready = True
        self._answers: dict[str, Any] = {
            "/v2": {"name": "fake", "version": "1.2", "extensions": list(extensions)},
            "/v2/models/m": {
                "name": "m",
                "versions": ["1", "2"],
                "platform": "onnx",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": list(shape)}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            },
            "/v2/models/m/config": {"name": "m", "max_batch_size": max_batch_size},
            "/v2/models/m/stats": {"model_stats": [self._stats(1), self._stats(10)]},
        }

    @staticmethod
    def _stats(factor: int) -> dict[str, Any]:
        parts = ("success", "queue", "compute_input", "compute_infer", "compute_output")
        times = {part: {"count": 3 * factor, "ns": (index + 1) * factor} for index, part in enumerate(parts)}
        return {"name": "m", "execution_count": 2 * factor, "inference_stats": times}

    def __call__(self, exchange: Exchange) -> None:
        path = exchange.request.split()[1].decode().rstrip("/")
        if path == "/v2/health/ready":
            exchange.send(response(b"", "200 OK" if self.ready else "400 Bad Request"))
        elif path in self._answers:
            exchange.send(
                response(json.dumps(self._answers[path]).encode(), "200 OK", "Content-Type: application/json")
            )
        else:
            exchange.send(response(b'{"error": "no such thing"}', "404 Not Found", "Content-Type: application/json"))


ALL = ("binary_tensor_data", "model_configuration", "statistics")


@pytest.fixture
def triton() -> Iterator[tuple[Server, Triton]]:
    behave = Triton(*ALL)
    with Server(behave) as server:
        yield server, behave


class TestEndpoint:
    def test_uses_the_extensions_that_the_server_lists(self, triton: tuple[Server, Triton]) -> None:
        running = KServeEndpoint(f"{HOST}:{triton[0].port}", "m").start()
        try:
            workload = running.workload(4)
            assert (workload.host, workload.port, workload.batch_size) == (HOST, triton[0].port, 4)
            line, headers, body = parts(workload.wire)
            assert line == "POST /v2/models/m/infer HTTP/1.1"
            length = int(headers["inference-header-content-length"])
            assert json.loads(body[:length])["inputs"][0]["shape"] == [4, 4]
            assert len(body) - length == 4 * 4 * 4
            assert running.server_times() == ServerTimes(33, 22, 22, 33, 44, 55)
            facts = running.under_test()
            assert facts["server"] == "fake 1.2"
            assert facts["versions"] == "1, 2"
            assert re.fullmatch("[0-9a-f]{32}", str(facts["config_digest"]))
        finally:
            running.stop()
            running.stop()

    def test_and_no_others(self) -> None:
        with Server(Triton(max_batch_size=1)) as server:
            running = KServeEndpoint(f"http://{HOST}:{server.port}", "m").start()
            _, headers, body = parts(running.workload(3).wire)
            assert headers["content-type"] == "application/json"
            assert json.loads(body)["inputs"][0]["shape"] == [3, 4]
            assert running.server_times() is None
            assert "config_digest" not in running.under_test()
            running.stop()
            assert not any(b"/config" in request or b"/stats" in request for request in server.seen)

    def test_every_run_sends_the_same_bytes(self, triton: tuple[Server, Triton]) -> None:
        wires = set()
        for _ in range(2):
            running = KServeEndpoint(f"{HOST}:{triton[0].port}", "m").start()
            wires.add(running.workload(2).wire)
            running.stop()
        assert len(wires) == 1

    def test_given_inputs_are_sent(self, triton: tuple[Server, Triton]) -> None:
        values = np.array([1, 2, 3, 4], np.float32)
        running = KServeEndpoint(f"{HOST}:{triton[0].port}", "m", inputs={"x": values}).start()
        assert running.workload(2).wire.endswith(values.tobytes() * 2)
        running.stop()

    def test_a_batch_above_the_models_limit_is_refused(self, triton: tuple[Server, Triton]) -> None:
        running = KServeEndpoint(f"{HOST}:{triton[0].port}", "m").start()
        with pytest.raises(OptionError, match="batch_size=9 is above the model's max_batch_size=8"):
            running.workload(9)
        running.stop()

    def test_a_model_without_batches_takes_none(self) -> None:
        with Server(Triton(*ALL, max_batch_size=0, shape=(2, 4))) as server:
            running = KServeEndpoint(f"{HOST}:{server.port}", "m").start()
            with pytest.raises(OptionError, match="batch_size=2 can't be sent"):
                running.workload(2)
            _, headers, body = parts(running.workload(1).wire)
            assert len(body) - int(headers["inference-header-content-length"]) == 2 * 4 * 4
            running.stop()

    def test_an_unknown_model_is_a_target_error_that_names_it(self, triton: tuple[Server, Triton]) -> None:
        with pytest.raises(TargetError, match=r"refused get_model_metadata.*'flower'.*no such thing"):
            KServeEndpoint(f"{HOST}:{triton[0].port}", "flower").start()

    def test_nobody_there_is_a_target_error_with_the_remedy(self) -> None:
        with Server(answers(b"")) as server:
            port = server.port
        with pytest.raises(
            TargetError, match=rf"{HOST}:{port} does not answer(.|\n)*Start it, or correct the address"
        ) as caught:
            KServeEndpoint(f"{HOST}:{port}", "m").start()
        assert not isinstance(caught.value, TargetDied), "it never lived"

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n",
            response(b"<html>It works!</html>", "200 OK", "Content-Type: text/html"),
            response(b"[]", "200 OK", "Content-Type: application/json"),
        ],
    )
    def test_something_else_there_is_a_target_error(self, answer: bytes) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.send(answer)
            exchange.hang_up()

        with Server(behave) as server, pytest.raises(TargetError, match=f"{HOST}:{server.port}"):
            KServeEndpoint(f"{HOST}:{server.port}", "m").start()

    def test_another_service_that_speaks_json_is_a_target_error(self) -> None:
        answer = response(b'{"status": "ok"}', "200 OK", "Content-Type: application/json")
        with Server(answers(answer)) as server, pytest.raises(TargetError, match=f"{HOST}:{server.port}"):
            KServeEndpoint(f"{HOST}:{server.port}", "m").start().workload(1)

    def test_a_server_that_is_gone_or_no_longer_ready_died(self, triton: tuple[Server, Triton]) -> None:
        server, behave = triton
        running = KServeEndpoint(f"{HOST}:{server.port}", "m").start()
        running.check()
        behave.ready = False
        with pytest.raises(TargetDied, match=f"{HOST}:{server.port}"):
            running.check()
        behave.ready = True
        running.check()
        server.die()
        with pytest.raises(TargetDied, match=f"{HOST}:{server.port}"):
            running.check()
        with pytest.raises(TargetDied, match=f"{HOST}:{server.port}"):
            running.server_times()
        running.stop()

    def test_is_called_after_its_model(self) -> None:
        assert KServeEndpoint("host:8000", "flower").name == "flower"


def test_nothing_there_is_not_ready() -> None:
    with Server(answers(b"")) as server:
        port = server.port
    client = KServeClient(HOST, port)
    assert not client.ready()
    client.close()
