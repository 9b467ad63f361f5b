"""Tests that need a GPU: they run as they are where there is one, and are skipped elsewhere with the reason."""

from __future__ import annotations

from functools import cache

import pytest

from pytest_gpuperf.device import Device, find_device
from pytest_gpuperf.errors import DeviceError


@cache
def _found() -> Device | str:
    """The GPU, or why there is none."""
    try:
        device = find_device("auto")
    except DeviceError as error:
        return str(error)
    return device if device.kind == "gpu" else f"no GPU: {device.note}"


@pytest.fixture(autouse=True, scope="session")
def real_gpu() -> Device:
    """The GPU of this machine."""
    found = _found()
    if isinstance(found, str):
        pytest.skip(found)
    return found
