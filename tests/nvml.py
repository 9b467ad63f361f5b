"""The mock of NVML, compiled once for all tests that want it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_SOURCE = Path(__file__).parent / "unit" / "device" / "nvml_mock.c"
_NAME = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class MockNvml:
    """A directory with a libnvidia-ml.so.1; ``nvml_mock.c`` says what it can be told."""

    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / _NAME

    def environment(self, **settings: object) -> dict[str, str]:
        """What makes a process find it, and it behave: ``COUNT=2`` is MOCK_NVML_COUNT=2."""
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("LD_LIBRARY_PATH")]))
        own = {f"MOCK_NVML_{name}": str(value) for name, value in settings.items()}
        return {"MOCK_NVML": "1", "LD_LIBRARY_PATH": path, **own}


def build(folder: Path) -> MockNvml:
    """Compile it against the official header; skips where that can't be done."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the mock of NVML")
    try:
        files = importlib.metadata.files("nvidia-nvml-dev") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("nvml.h is in the package nvidia-nvml-dev, which is not installed")
    header = next(file for file in files if file.name == "nvml.h")
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{Path(str(header.locate())).parent}"]
    target = folder / _NAME
    subprocess.run([compiler, *flags, f"-Wl,-soname,{_NAME}", "-o", target, _SOURCE, "-lm"], check=True)
    return MockNvml(folder)
