"""Small models, and Triton's own reading of a configuration."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

Identity = Callable[..., Path]


@pytest.fixture
def doubling(tmp_path: Path) -> Identity:
    """Makes ONNX models whose ``y`` is twice their ``x``."""

    def make(shape: list[Any], name: str = "double.onnx", x: str = "x", y: str = "y") -> Path:
        tensors = [helper.make_tensor_value_info(one, TensorProto.FLOAT, shape) for one in (x, y)]
        graph = helper.make_graph([helper.make_node("Add", [x, x], [y])], "double", tensors[:1], tensors[1:])
        path = tmp_path / name
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path

    return make


@pytest.fixture(scope="session")
def proto() -> Any:
    """Triton's own ModelConfig; its module is loaded by path, since its package wants grpc."""
    pytest.importorskip("google.protobuf")
    package = importlib.util.find_spec("tritonclient")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("gpuperf_test_model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def parse(proto: Any) -> Callable[[str], Any]:
    """Reads a ``config.pbtxt``; what is not in the protocol's definition is an error."""
    text_format = importlib.import_module("google.protobuf.text_format")
    return lambda text: text_format.Parse(text, proto.ModelConfig())
