from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.onnxruntime import Signature
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.triton.repository import ModelOptions, config_pbtxt, write_repository

BATCHED = Signature(
    (TensorSpec("image", "FP32", (-1, 3, 224, 224)),), (TensorSpec("logits", "FP32", (-1, 1000)),), True
)
FIXED = Signature((TensorSpec("x", "INT64", (2, 3)),), (TensorSpec("y", "FP16", (2,)),), False)
OPTIONS = ModelOptions(
    max_batch_size=8, dynamic_batching=True, instances=2, threads=3, providers=("CPUExecutionProvider",)
)
UNBATCHED = ModelOptions(max_batch_size=0, dynamic_batching=False, instances=1, threads=1, providers=("A", "B"))


@pytest.fixture(scope="module")
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


def parse(proto: Any, text: str) -> Any:
    text_format = importlib.import_module("google.protobuf.text_format")
    return text_format.Parse(text, proto.ModelConfig())


def test_triton_reads_what_was_meant(proto: Any, tmp_path: Path) -> None:
    onnx = tmp_path / "resnet50.onnx"
    config = parse(proto, config_pbtxt("resnet50", onnx, BATCHED, OPTIONS))
    assert (config.name, config.backend, config.max_batch_size) == ("resnet50", "python", 8)
    (image,), (logits,) = config.input, config.output
    assert (image.name, image.data_type, list(image.dims)) == ("image", proto.TYPE_FP32, [3, 224, 224])
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", proto.TYPE_FP32, [1000])
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, proto.ModelInstanceGroup.KIND_CPU)
    assert config.HasField("dynamic_batching")
    assert {key: value.string_value for key, value in config.parameters.items()} == {
        "onnx": str(onnx),
        "threads": "3",
        "providers": "CPUExecutionProvider",
    }


def test_without_batches_all_dimensions_are_named(proto: Any) -> None:
    config = parse(proto, config_pbtxt("m", Path("m.onnx"), FIXED, UNBATCHED))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, 3]
    assert list(config.output[0].dims) == [2]
    assert not config.HasField("dynamic_batching")
    assert config.parameters["providers"].string_value == "A,B"


def test_a_model_with_a_free_first_dimension_may_go_without_batches(proto: Any) -> None:
    config = parse(proto, config_pbtxt("m", Path("m.onnx"), BATCHED, UNBATCHED))
    assert list(config.input[0].dims) == [-1, 3, 224, 224]


def test_a_scalar_in_a_batch_is_reshaped(proto: Any) -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1, -1)),), True)
    config = parse(proto, config_pbtxt("m", Path("m.onnx"), signature, OPTIONS))
    assert list(config.input[0].dims) == [1]
    assert config.input[0].HasField("reshape")
    assert list(config.input[0].reshape.shape) == []
    assert list(config.output[0].dims) == [-1]
    assert not config.output[0].HasField("reshape")


def test_every_datatype_has_tritons_name(proto: Any) -> None:
    kinds = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
    signature = Signature(tuple(TensorSpec(kind, kind, (-1, 1)) for kind in [*kinds, "BYTES"]), (), True)
    config = parse(proto, config_pbtxt("m", Path("m.onnx"), signature, OPTIONS))
    types = {tensor.name: proto.DataType.Name(tensor.data_type) for tensor in config.input}
    assert types == {**{kind: f"TYPE_{kind}" for kind in kinds}, "BYTES": "TYPE_STRING"}


def test_awkward_names_survive(proto: Any) -> None:
    name = 'in"put\\ \n{größe}'
    signature = Signature((TensorSpec(name, "FP32", (-1, 1)),), (), True)
    config = parse(proto, config_pbtxt("m", Path("a 'b' ü.onnx"), signature, OPTIONS))
    assert config.input[0].name == name
    assert config.parameters["onnx"].string_value == str(Path("a 'b' ü.onnx").resolve())


def test_a_fixed_model_can_not_be_batched() -> None:
    with pytest.raises(OptionError, match=r"m.onnx has a fixed first dimension.*leave max_batch_size out"):
        config_pbtxt("m", Path("m.onnx"), FIXED, OPTIONS)


@pytest.mark.parametrize("datatype", ["tensor(bfloat16)", "seq(tensor(float))", "seq(map(int64,tensor(float)))"])
def test_a_type_that_kserve_does_not_have_is_refused(datatype: str) -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("y", datatype, (-1, 1)),), True)
    with pytest.raises(OptionError, match="'y' has the type"):
        config_pbtxt("m", Path("m.onnx"), signature, OPTIONS)


def test_the_repository_has_tritons_layout_and_leaves_the_model_where_it_is(tmp_path: Path) -> None:
    onnx = tmp_path / "model.onnx"
    write_repository(tmp_path / "repository", "m", onnx, BATCHED, OPTIONS)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["repository/m/1/model.py", "repository/m/config.pbtxt"]
    assert (tmp_path / "repository/m/config.pbtxt").read_text() == config_pbtxt("m", onnx, BATCHED, OPTIONS)
    compile((tmp_path / "repository/m/1/model.py").read_text(), "model.py", "exec")
