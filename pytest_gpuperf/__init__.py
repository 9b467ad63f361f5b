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
    from pytest_gpuperf.targets import CallTarget
    from pytest_gpuperf.targets.kserve import KServeEndpoint
    from pytest_gpuperf.targets.onnxruntime import OnnxRuntimeEngine
    from pytest_gpuperf.targets.triton import TritonEndpoint

__version__ = "0.1.0"

_PUBLIC = {
    "CallTarget": "targets",
    "Curve": "model",
    "CurvePoint": "model",
    "Device": "device",
    "Gpuperf": "session.fixture",
    "GpuperfError": "errors",
    "KServeEndpoint": "targets.kserve",
    "OnnxRuntimeEngine": "targets.onnxruntime",
    "TritonEndpoint": "targets.triton",
}

__all__ = [
    "CallTarget",
    "Curve",
    "CurvePoint",
    "Device",
    "Gpuperf",
    "GpuperfError",
    "KServeEndpoint",
    "OnnxRuntimeEngine",
    "TritonEndpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
