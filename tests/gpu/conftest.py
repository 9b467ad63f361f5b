"""What needs a real GPU: skipped, with the reason, where NVML finds none."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def real_gpu() -> None:
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        pytest.skip(f"no GPU here: {error}")
    if not count:
        pytest.skip("no GPU here: the driver knows none")
