"""Every kind of load on the real tritonserver: its counts equal the requests sent, and every answer is checked."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from pytest_gpuperf.analysis.window import window_figures
from pytest_gpuperf.load import Recording, WindowSpec, open_generator
from pytest_gpuperf.model import Constant, Poisson, WireWorkload
from pytest_gpuperf.targets.kserve import KServeEndpoint
from pytest_gpuperf.targets.triton import TritonEndpoint
from pytest_gpuperf.targets.triton.endpoint import StartedTriton

SPEC = WindowSpec(4, 0.3, lead_in_s=0.05, deadline_s=20.0)
RATE = WindowSpec(0, 0.5, Poisson(100.0), lead_in_s=0.1, deadline_s=20.0)


@pytest.fixture(scope="module")
def server(small_onnx: Path) -> Iterator[StartedTriton]:
    started = TritonEndpoint(small_onnx, threads=1, dynamic_batching=True).start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def question() -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(3).standard_normal(256).astype(np.float32)


@pytest.fixture(scope="module")
def answer(small_onnx: Path, question: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the answer of ONNX Runtime."""
    record = onnxruntime.InferenceSession(small_onnx, providers=["CPUExecutionProvider"])
    outputs: np.ndarray[Any, Any] = record.run(None, {"x": question[None]})[0][0]
    return outputs


def measure(server: StartedTriton, spec: WindowSpec, workers: int = 1, **settings: Any) -> Recording:
    """Measure a window over an endpoint with these settings, and compare its counts with the server's."""
    address = server.grpc_address if settings.get("protocol") == "grpc" else server.address
    started = KServeEndpoint(settings.pop("url", address), "small", **settings).start()
    try:
        workload = started.workload(1, spec.concurrency or 64)
        assert isinstance(workload, WireWorkload)
        with closing(open_generator(workload, workers)) as generator:
            before = settled(server)
            recording = generator.window(workload, spec)
            counted = settled(server) - before
    finally:
        started.stop()
    assert counted == recording.answered or recording.errors
    return recording


def settled(server: StartedTriton) -> int:
    """Return the number of requests that the server counted, once it is stable: it counts shortly after answering."""
    last = -1
    while True:
        times = server.server_times()
        assert times is not None
        if times.requests == last:
            return last
        last = times.requests
        time.sleep(0.1)


WAYS: dict[str, dict[str, Any]] = {
    "http": {},
    "grpc": {"protocol": "grpc"},
    "stream": {"protocol": "grpc", "streaming": True},
    "http, system shared memory": {"shared_memory": "system"},
    "grpc, system shared memory": {"protocol": "grpc", "shared_memory": "system"},
}


@pytest.mark.parametrize("spec", [SPEC, RATE], ids=["closed loop", "open loop"])
@pytest.mark.parametrize("way", WAYS)
def test_right_answers_are_counted_and_wrong_ones_fail(
    server: StartedTriton, question: Any, answer: Any, way: str, spec: WindowSpec
) -> None:
    settings = {**WAYS[way], "inputs": {"x": question}}
    right = measure(server, spec, expected={"y": answer}, **settings)
    assert not right.errors, right.error_sample
    assert right.answered > 20
    wrong = measure(server, spec, expected={"y": answer + 1}, **settings)
    assert set(wrong.errors) == {"wrong answer"}
    assert "y" in wrong.error_sample
    assert not wrong.answered


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_two_workers_share_a_window(server: StartedTriton, way: str) -> None:
    recording = measure(server, SPEC, workers=2, **WAYS[way])
    assert recording.workers == 2
    assert not recording.errors
    assert all(len(lane.done_ns) for lane in recording.lanes)


def test_recorded_payloads_rotate_with_their_answers(server: StartedTriton, small_onnx: Path, tmp_path: Path) -> None:
    record = onnxruntime.InferenceSession(small_onnx, providers=["CPUExecutionProvider"])
    inputs = np.random.default_rng(5).standard_normal((3, 256)).astype(np.float32)
    outputs = record.run(None, {"x": inputs})[0]
    data = tmp_path / "data.json"
    document: dict[str, Any] = {
        "data": [{"x": row.tolist()} for row in inputs],
        "validation_data": [{"y": row.tolist()} for row in outputs],
    }
    data.write_text(json.dumps(document))
    for way in ("http", "grpc"):
        recording = measure(server, SPEC, input_data=data, **WAYS[way])
        assert not recording.errors, recording.error_sample
    document["validation_data"][1]["y"][7] += 1
    data.write_text(json.dumps(document))
    recording = measure(server, SPEC, input_data=data)
    assert set(recording.errors) == {"wrong answer"}
    assert recording.answered > recording.errors["wrong answer"]


def test_two_endpoints_get_their_shares(server: StartedTriton) -> None:
    localhost = server.address.replace("127.0.0.1", "localhost")
    recording = measure(server, SPEC, url=[server.address, localhost], weights=[3, 1])
    (lane,) = recording.lanes
    assert lane.address is not None
    to_first = list(lane.address).count(0)
    assert to_first / recording.answered == pytest.approx(0.75, abs=0.05)


def test_a_schedule_is_kept_over_grpc(server: StartedTriton) -> None:
    recording = measure(server, replace(RATE, arrivals=Constant(200.0)), protocol="grpc")
    (lane,) = recording.lanes
    window = window_figures([(lane.due_ns, lane.sent_ns, lane.done_ns)], recording.start_ns, recording.stop_ns, 1)
    assert window.requests == pytest.approx(100, abs=2)
