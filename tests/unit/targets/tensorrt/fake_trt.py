"""TensorRT's runtime, faked at its own boundary: its engines need a GPU.

A plan is a JSON text. An engine's work is one kernel of the mock libcuda.so.1 for each output, which turns the bits of
the bytes of one input; so what an answer holds tells whether buffers, order and shapes were right. The names and
arguments here are held to those of the real bindings by the contract test.
"""

from __future__ import annotations

import ctypes
import enum
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class DataType(enum.Enum):
    FLOAT = np.float32
    HALF = np.float16
    INT64 = np.int64
    FP8 = None


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


def plan_of(
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any]],
    profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]],
    **more: Any,
) -> bytes:
    """A plan.

    Args:
        inputs: type and shape, by name.
        outputs: type, shape, and the input of which it is made, by name.
        profiles: smallest, tuned-for and largest shape, by input.
        more: ``us``: how long its kernel takes; ``built_on``: a GPU that it can't leave; ``fails``: where (``context``,
            ``execution``, or ``late``: with its kernels queued already); ``host``: tensors that lie there.
    """
    return json.dumps({"inputs": inputs, "outputs": outputs, "profiles": profiles, **more}).encode()


class Module:
    """``tensorrt`` itself."""

    __version__ = "10.99"
    TensorIOMode = TensorIOMode
    TensorLocation = TensorLocation

    def __init__(self, gpu: str = "NVIDIA H100 80GB HBM3") -> None:
        self.gpu = gpu

    def Runtime(self, logger: Any) -> Runtime:  # noqa: N802
        return Runtime(logger, self.gpu)


class Runtime:
    def __init__(self, logger: Any, gpu: str = "") -> None:
        self._logger, self._gpu = logger, gpu

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        try:
            plan = json.loads(serialized_engine)
        except ValueError:
            self._logger.add("ERROR", "Magic tag does not match.")
            return None
        if plan.get("built_on", self._gpu) != self._gpu:
            self._logger.add("ERROR", "The engine plan file is generated on an incompatible device, please rebuild.")
            return None
        return ICudaEngine(plan, self._logger)


class ICudaEngine:
    def __init__(self, plan: dict[str, Any], logger: Any) -> None:
        self._plan, self._logger = plan, logger
        self._tensors = {**plan["inputs"], **plan["outputs"]}

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._plan["profiles"])

    def get_tensor_name(self, index: int) -> str:
        return str(list(self._tensors)[index])

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._plan["inputs"] else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name in self._plan.get("host", ()) else TensorLocation.DEVICE

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._tensors[name][0]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name][1])

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._plan["profiles"][profile_index][name]]

    def create_execution_context(self) -> IExecutionContext | None:
        if self._plan.get("fails") == "context":
            self._logger.add("ERROR", "Error Code 2: OutOfMemory (Requested size was 99 bytes.)")
            return None
        return IExecutionContext(self, self._plan, self._logger)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine, plan: dict[str, Any], logger: Any) -> None:
        self._engine, self._plan, self._logger = engine, plan, logger
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._busy = threading.Lock()

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle
        self._profile = profile_index
        return profile_index < len(self._plan["profiles"])

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._profile is not None, "no profile"
        low, _, high = self._engine.get_tensor_profile_shape(name, self._profile)
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            self._logger.add("ERROR", f"Set dimension {shape} for tensor {name} does not satisfy any profile")
            return False
        self._shapes[name] = shape
        return True

    def infer_shapes(self) -> list[str]:
        return [name for name in self._plan["inputs"] if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        _, declared, source = self._plan["outputs"][name]
        known = self._shapes[source]
        return tuple(
            -1 if size == "values" else known[place] if size < 0 else size for place, size in enumerate(declared)
        )

    def get_max_output_size(self, name: str) -> int:
        return self._bytes(self._plan["outputs"][name][2])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._busy.acquire(blocking=False), "two callers in one execution context"
        try:
            if self._plan.get("fails") == "execution":
                self._logger.add("ERROR", "Error Code 1: Cask (Cask convolution execution)")
                return False
            library = ctypes.CDLL("libcuda.so.1")
            for name, (_, _, source) in self._plan["outputs"].items():
                status = library.mock_kernel(
                    ctypes.c_void_p(stream_handle),
                    ctypes.c_void_p(self._addresses[name]),
                    ctypes.c_void_p(self._addresses[source]),
                    ctypes.c_size_t(self._bytes(source)),
                    ctypes.c_uint(self._plan.get("us", 0)),
                )
                if status:
                    return False
            return self._plan.get("fails") != "late"
        finally:
            self._busy.release()

    def _bytes(self, name: str) -> int:
        return int(np.prod(self._shapes[name])) * np.dtype(DataType[self._plan["inputs"][name][0]].value).itemsize
