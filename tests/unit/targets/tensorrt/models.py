"""Small ONNX models, and the GPU that plans are built for where there is none."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pytest_gpuperf.targets.tensorrt.cuda_device import CudaDevice

Shape = Sequence[int | str]


def save(
    path: Path,
    nodes: Sequence[Any],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    weights: dict[str, Any] | None = None,
) -> Path:
    def values(tensors: dict[str, tuple[int, Shape]]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]

    constants = [
        value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        for name, value in (weights or {}).items()
    ]
    graph = helper.make_graph(list(nodes), "test", values(inputs), values(outputs), constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def linear(path: Path, shape: Shape = ("batch", 8), seed: int = 0) -> Path:
    """y = relu(x W)."""
    generator = np.random.default_rng(seed)
    width = int(shape[-1])
    nodes = [helper.make_node("MatMul", ["x", "W"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    kind = (TensorProto.FLOAT, shape)
    return save(path, nodes, {"x": kind}, {"y": kind}, {"W": generator.random((width, width), np.float32)})


def quantized(path: Path, kind: int) -> Path:
    """x -> Q -> DQ -> times a weight that is quantized too, in INT8 or FP8."""
    zero = helper.make_tensor("zero", kind, [], [0])
    weight = helper.make_tensor("W", kind, [8, 8], [1] * 64)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["W", "scale", "zero"], ["w"]),
        helper.make_node("MatMul", ["d", "w"], ["y"]),
    ]
    tensor = (TensorProto.FLOAT, ("batch", 8))
    return save(path, nodes, {"x": tensor}, {"y": tensor}, {"scale": np.float32(0.1), "zero": zero, "W": weight})


def gpu(name: str = "NVIDIA L4", compute_capability: str = "8.9", multiprocessors: int = 58) -> CudaDevice:
    """What a plan is built for."""
    found: Any = types.SimpleNamespace(
        name=name, compute_capability=compute_capability, multiprocessors=multiprocessors
    )
    made: CudaDevice = found
    return made
