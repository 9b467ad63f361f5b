"""The run half, in a process that finds a libcuda.so.1 compiled from ``cuda_mock.c``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiling import compiled

pytest.importorskip("cuda.core")

_START = """
import sys
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.targets.tensorrt import TensorRTEngine

try:
    TensorRTEngine(sys.argv[1], library="tensorrt-rtx").start()
except GpuperfError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the compiled mock."""
    folder = tmp_path_factory.mktemp("cuda")
    compiled(
        Path(__file__).with_name("cuda_mock.c"),
        folder / "libcuda.so.1",
        header="cuda.h",
        package="nvidia-cuda-runtime",
        flags=["-fvisibility=hidden", "-pthread"],
    )
    return folder


def environment(mock: Path, **settings: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MOCK_CUDA_", "PYTEST_"))}
    env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [str(mock), env.get("LD_LIBRARY_PATH")]))
    return env | settings


def test_engines_run(mock: Path) -> None:
    tests = Path(__file__).with_name("on_mock_cuda.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0", str(tests)]
    done = subprocess.run(command, env=environment(mock), capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def said(model: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _START, str(model)], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_gpu_is_said_before_anything_of_tensorrt_runs(mock: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    (tmp_path / "m.plan").write_bytes(b"never looked at")
    message = said(tmp_path / "m.plan", environment(mock, MOCK_CUDA_NO_DEVICE="1"))
    assert message.startswith("TargetError No GPU can be used here to run m.plan: CUDA_ERROR_NO_DEVICE")
    assert "nvidia-smi" in message


@pytest.mark.usefixtures("no_driver")
def test_no_driver_is_said_before_anything_of_tensorrt_runs(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    (tmp_path / "m.plan").write_bytes(b"never looked at")
    message = said(tmp_path / "m.plan", dict(os.environ))
    assert message.startswith("TargetError No GPU can be used here to run m.plan")
    assert "NVIDIA display driver" in message
