"""pytest-gpuperf: GPU inference performance-regression tests that can be trusted.

Importing this package imports nothing heavy: it happens in every pytest session of the environment. The public names
are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_gpuperf.device import Device
    from pytest_gpuperf.errors import GpuperfError
    from pytest_gpuperf.model import Curve, CurvePoint
    from pytest_gpuperf.session.fixture import Gpuperf
    from pytest_gpuperf.session.targets import KServeFactory, OnnxRuntimeFactory, TritonFactory
    from pytest_gpuperf.targets import CallTarget

__version__ = "0.1.0"

_PUBLIC = {
    "CallTarget": "targets",
    "Curve": "model",
    "CurvePoint": "model",
    "Device": "device",
    "Gpuperf": "session.fixture",
    "GpuperfError": "errors",
    "KServeFactory": "session.targets",
    "OnnxRuntimeFactory": "session.targets",
    "TritonFactory": "session.targets",
}

__all__ = [
    "CallTarget",
    "Curve",
    "CurvePoint",
    "Device",
    "Gpuperf",
    "GpuperfError",
    "KServeFactory",
    "OnnxRuntimeFactory",
    "TritonFactory",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
