"""Engines built and run on the GPU at hand, with whichever TensorRT is installed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import MissingExtra, OptionError
from pytest_gpuperf.targets.tensorrt import TensorRTEngine, builder
from pytest_gpuperf.targets.tensorrt.engine import StartedEngine
from pytest_gpuperf.targets.tensorrt.library import open_library

onnx = pytest.importorskip("onnx")
pytest.importorskip("cuda.core")

from tests.unit.targets.tensorrt.models import linear  # noqa: E402

X = np.linspace(-1, 1, 256, dtype=np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    try:
        open_library(None, "be tested")
    except MissingExtra as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("GPUPERF_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def model(cache: Path) -> Path:
    return linear(cache / "linear.onnx", ("batch", 256))


def right(model: Path, batch_size: int) -> np.ndarray[Any, Any]:
    weights = onnx.numpy_helper.to_array(onnx.load(model).graph.initializer[0])
    return np.tile(np.maximum(X @ weights, 0), (batch_size, 1))


def answer(started: StartedEngine, batch_size: int) -> np.ndarray[Any, Any]:
    data = started._pools[batch_size]._slots[0].answer()["y"]
    return np.frombuffer(data, np.float32).reshape(batch_size, 256)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("tf32", 1e-2), ("fp16", 1e-2), ("bf16", 5e-2)])
def test_computes_what_the_model_says(model: Path, precision: str, tolerance: float, graph: bool) -> None:
    target = TensorRTEngine(model, precision=precision, batch_sizes=(1, (2, 8, 16)), cuda_graph=graph, inputs={"x": X})
    started = target.start()
    try:
        for batch_size in (1, 8):
            started.workload(batch_size).call()
            expected = right(model, batch_size)
            assert np.abs(answer(started, batch_size) - expected).max() <= tolerance * np.abs(expected).max()
    finally:
        started.stop()


def test_times_are_those_of_the_gpu(model: Path) -> None:
    started = TensorRTEngine(model, batch_sizes=(8,)).start()
    try:
        call = started.workload(8).call
        call()
        before = started.server_times()
        for _ in range(100):
            call()
        times = started.server_times() - before
        assert times.requests == 100
        for part_ns in (times.compute_input_ns, times.compute_infer_ns, times.compute_output_ns):
            assert 100 * 500 < part_ns < 100 * 10_000_000
    finally:
        started.stop()


def test_several_streams_and_many_callers(model: Path) -> None:
    started = TensorRTEngine(model, batch_sizes=(4,), streams=3, inputs={"x": X}).start()
    try:
        call = started.workload(4).call
        threads = [threading.Thread(target=lambda: [call() for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert started.server_times().requests == 400
        np.testing.assert_allclose(answer(started, 4), right(model, 4), rtol=1e-3, atol=1e-3)
    finally:
        started.stop()


def test_the_second_start_builds_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = TensorRTEngine(model, batch_sizes=(2,))
    first = target.start()
    facts = first.under_test()
    first.stop()
    monkeypatch.setattr(builder, "build", None)
    monkeypatch.setattr("pytest_gpuperf.targets.tensorrt.engine.build", None)
    second = target.start()
    assert second.under_test() == facts
    second.stop()


def test_a_batch_size_it_was_not_built_for(model: Path) -> None:
    started = TensorRTEngine(model, batch_sizes=(2,)).start()
    try:
        with pytest.raises(OptionError, match="was not built for x"):
            started.workload(3)
    finally:
        started.stop()
