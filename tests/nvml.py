"""The mock of NVML, compiled once for all tests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tests.compiling import compiled

_SOURCE = Path(__file__).parent / "unit" / "device" / "nvml_mock.c"
_NAME = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class MockNvml:
    """A directory with a libnvidia-ml.so.1; ``nvml_mock.c`` lists its settings."""

    folder: Path

    @property
    def library(self) -> Path:
        return self.folder / _NAME

    def environment(self, **settings: object) -> dict[str, str]:
        """Return the environment variables that load and configure the mock; ``COUNT=2`` is MOCK_NVML_COUNT=2."""
        path = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("LD_LIBRARY_PATH")]))
        variables = {f"MOCK_NVML_{name}": str(value) for name, value in settings.items()}
        return {"MOCK_NVML": "1", "LD_LIBRARY_PATH": path, **variables}


def build(folder: Path) -> MockNvml:
    """Compile the mock against the official header; skip the test where that is impossible."""
    compiled(_SOURCE, folder / _NAME, header="nvml.h", package="nvidia-nvml-dev")
    return MockNvml(folder)
