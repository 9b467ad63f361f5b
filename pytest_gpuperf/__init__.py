"""pytest-gpuperf: GPU inference performance-regression tests that can be trusted.

Importing this package imports nothing heavy: it happens in every pytest session of the environment. The public names
are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_gpuperf.analysis.priors import Prior
    from pytest_gpuperf.device import Device
    from pytest_gpuperf.errors import GpuperfError
    from pytest_gpuperf.load.distributed import RemoteWorkers
    from pytest_gpuperf.model import Constant, Curve, CurvePoint, Intervals, Poisson, Ramp, Tls
    from pytest_gpuperf.session.fixtures.gpuperf import Gpuperf
    from pytest_gpuperf.session.gpu import Gpu
    from pytest_gpuperf.targets import CallTarget
    from pytest_gpuperf.targets.fleet import TritonFleet, TritonFleetFactory
    from pytest_gpuperf.targets.kserve import KServeEndpoint, Sequences
    from pytest_gpuperf.targets.onnxruntime import OnnxRuntimeEngine
    from pytest_gpuperf.targets.tensorrt import TensorRTEngine
    from pytest_gpuperf.targets.triton import DynamicBatching, Step, TritonEndpoint
    from pytest_gpuperf.values import (
        ValueComparison,
        ValueRecord,
        ValueRow,
        compare,
        compare_suite,
        record_from_values,
        session_from_values,
    )

__version__ = "0.1.0"

_PUBLIC = {
    "CallTarget": "targets",
    "Constant": "model",
    "Curve": "model",
    "CurvePoint": "model",
    "Device": "device",
    "DynamicBatching": "targets.triton",
    "Gpu": "session.gpu",
    "Gpuperf": "session.fixtures.gpuperf",
    "GpuperfError": "errors",
    "Intervals": "model",
    "KServeEndpoint": "targets.kserve",
    "OnnxRuntimeEngine": "targets.onnxruntime",
    "Poisson": "model",
    "Prior": "analysis.priors",
    "Ramp": "model",
    "RemoteWorkers": "load.distributed",
    "Sequences": "targets.kserve",
    "Step": "targets.triton",
    "TensorRTEngine": "targets.tensorrt",
    "Tls": "model",
    "TritonEndpoint": "targets.triton",
    "TritonFleet": "targets.fleet",
    "TritonFleetFactory": "targets.fleet",
    "ValueComparison": "values",
    "ValueRow": "values",
    "ValueRecord": "values",
    "compare": "values",
    "record_from_values": "values",
    "compare_suite": "values",
    "session_from_values": "values",
}

__all__ = [
    "CallTarget",
    "Constant",
    "Curve",
    "CurvePoint",
    "Device",
    "DynamicBatching",
    "Gpu",
    "Gpuperf",
    "GpuperfError",
    "Intervals",
    "KServeEndpoint",
    "OnnxRuntimeEngine",
    "Poisson",
    "Prior",
    "Ramp",
    "RemoteWorkers",
    "Sequences",
    "Step",
    "TensorRTEngine",
    "Tls",
    "TritonEndpoint",
    "TritonFleet",
    "TritonFleetFactory",
    "ValueComparison",
    "ValueRecord",
    "ValueRow",
    "compare",
    "compare_suite",
    "record_from_values",
    "session_from_values",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
