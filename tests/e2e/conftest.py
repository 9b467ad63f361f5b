"""End-to-end tests: pytest in subprocesses, with callables for speed and the real tritonserver where needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_gpuperf.targets.triton import bundle
from tests.e2e.invocations import COMMON, Run, Start, StartedPytest


@pytest.fixture(autouse=True, scope="session")
def server_cache() -> Iterator[None]:
    """Keep the installed server of the real home directory; pytester gives every test a new one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(bundle.CACHE_VARIABLE, str(bundle.cache_directory()))
        yield


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``pytest --gpuperf ARGUMENTS`` on the CPU, two runs a test; keywords are environment variables."""

    def run_pytest(*arguments: str, **environment: str) -> pytest.RunResult:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return pytester.runpytest_subprocess(*COMMON, *arguments)

    return run_pytest


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dense layers: small enough to start fast, large enough to compute measurably."""
    weights = np.random.default_rng(0).standard_normal((256, 256), dtype=np.float32) / 16
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 256])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def start(pytester: pytest.Pytester) -> Iterator[Start]:
    """Start ``pytest --gpuperf`` and return while it runs; it does not outlive the test."""
    started: list[StartedPytest] = []

    def start_pytest(*arguments: str) -> StartedPytest:
        started.append(StartedPytest(pytester.path, *arguments))
        return started[-1]

    yield start_pytest
    for invocation in started:
        invocation.process.kill()
        invocation.process.wait()
