"""Tests that need a GPU; elsewhere they are skipped with the reason."""

from __future__ import annotations

from functools import cache

import pytest

from pytest_gpuperf.device import Device, find_device
from pytest_gpuperf.errors import DeviceError


@cache
def _gpu_or_reason() -> Device | str:
    """Return the GPU, or the reason why there is none."""
    try:
        device = find_device("auto")
    except DeviceError as error:
        return str(error)
    return device if device.kind == "gpu" else f"no GPU: {device.note}"


@pytest.fixture(autouse=True, scope="session")
def real_gpu() -> Device:
    """The GPU of this machine."""
    gpu = _gpu_or_reason()
    if isinstance(gpu, str):
        pytest.skip(gpu)
    return gpu
