from __future__ import annotations

import ctypes

import pytest


@pytest.fixture
def no_driver() -> None:
    """For tests of what is said where there is no driver; that of a machine with one can't be hidden."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    pytest.skip("this machine has a driver")
