"""Drives pytest itself in subprocesses, against callables for speed and the real tritonserver where it matters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_gpuperf.targets.triton import bundle

#: A suite whose speed the environment decides. Sleeping takes no CPU, so that it repeats well on a busy machine.
CALLABLES = """
    import os
    import time

    DELAY_S = 0.004 * float(os.environ.get("SLOWER", "1"))

    def test_slow(gpuperf):
        gpuperf.sweep(lambda: time.sleep(DELAY_S), concurrency=[1, 2], name="sleep", window_s=0.1)

    def test_other(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.004), name="sleep", window_s=0.1)
"""

COMMON = ("--gpuperf", "--gpuperf-device=cpu", "--gpuperf-runs=2", "-p", "no:benchmark")

#: The command line tool, also where its environment is not activated.
GPUPERF = (sys.executable, "-m", "pytest_gpuperf.cli.main")

Run = Callable[..., pytest.RunResult]


@pytest.fixture(autouse=True, scope="session")
def server_cache() -> Iterator[None]:
    """pytester gives every test a home of its own; the installed server stays in the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(bundle.CACHE_VARIABLE, str(bundle.cache_directory()))
        yield


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``pytest --gpuperf ARGUMENTS`` on the CPU, two runs a test, with environment variables as keywords."""

    def run_pytest(*arguments: str, **environment: str) -> pytest.RunResult:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return pytester.runpytest_subprocess(*COMMON, *arguments)

    return run_pytest


@pytest.fixture(scope="session")
def small_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two dense layers: small enough to start in no time, large enough not to be all overhead."""
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


class Started:
    """A ``pytest --gpuperf`` that is still running."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "pytest", *COMMON, *arguments]
        self._output = directory / "started.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=directory, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.children: list[psutil.Process] = []

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Until its output contains the text."""
        end = time.monotonic() + timeout_s
        while text not in self.output:
            assert time.monotonic() < end, f"no {text!r} in:\n{self.output}"
            assert self.process.poll() is None, self.output
            time.sleep(0.05)
        self.children = psutil.Process(self.process.pid).children(recursive=True)

    def send(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def wait(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)


@pytest.fixture
def start(pytester: pytest.Pytester) -> Iterator[Callable[..., Started]]:
    """Start ``pytest --gpuperf`` and return while it runs; it does not outlive the test."""
    started: list[Started] = []

    def start_pytest(*arguments: str) -> Started:
        started.append(Started(pytester.path, *arguments))
        return started[-1]

    yield start_pytest
    for one in started:
        one.process.kill()
        one.process.wait()


def alive(processes: list[psutil.Process], timeout_s: float = 15) -> list[psutil.Process]:
    """Those of the processes that are still there after a while."""
    _, left = psutil.wait_procs(processes, timeout=timeout_s)
    return [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
