"""The texts are read by protobuf's own parser, as Triton does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.targets.onnxruntime import Signature
from pytest_gpuperf.targets.payload import TensorSpec
from pytest_gpuperf.targets.triton.config import ensemble_config, model_config
from pytest_gpuperf.targets.triton.ensemble import Ensemble, EnsembleStep
from pytest_gpuperf.targets.triton.resolved_model import ResolvedModel
from pytest_gpuperf.targets.triton.step import DynamicBatching

Parse = Callable[[str], Any]

BATCHED = Signature(
    (TensorSpec("image", "FP32", (-1, 3, 224, 224)),), (TensorSpec("logits", "FP32", (-1, 1000)),), True
)
FIXED = Signature((TensorSpec("x", "INT64", (2, 3)),), (TensorSpec("y", "FP16", (2,)),), False)
PYTHON = ResolvedModel(
    name="resnet50",
    source=Path("resnet50.onnx"),
    backend="python",
    signature=BATCHED,
    max_batch_size=8,
    dynamic_batching=DynamicBatching(),
    instances=2,
    gpus=None,
    kind="KIND_CPU",
    threads=3,
    providers=("CPUExecutionProvider", "B"),
)
ONNX = replace(PYTHON, backend="onnxruntime", providers=())
PLAN = replace(PYTHON, source=Path("resnet50.plan"), backend="tensorrt", providers=(), kind="KIND_GPU")


def parameters(config: Any) -> dict[str, str]:
    return {key: value.string_value for key, value in config.parameters.items()}


def test_an_onnx_model_in_the_python_backend(proto: Any, parse: Parse) -> None:
    config = parse(model_config(PYTHON))
    assert (config.name, config.backend, config.max_batch_size) == ("resnet50", "python", 8)
    (image,), (logits,) = config.input, config.output
    assert (image.name, image.data_type, list(image.dims)) == ("image", proto.TYPE_FP32, [3, 224, 224])
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", proto.TYPE_FP32, [1000])
    (group,) = config.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (2, proto.ModelInstanceGroup.KIND_CPU, [])
    assert config.HasField("dynamic_batching")
    assert list(config.dynamic_batching.preferred_batch_size) == []
    assert parameters(config) == {
        "source": str(Path("resnet50.onnx").resolve()),
        "threads": "3",
        "providers": "CPUExecutionProvider,B",
    }


def test_an_onnx_model_in_tritons_own_onnx_runtime(proto: Any, parse: Parse) -> None:
    config = parse(model_config(replace(ONNX, kind="KIND_GPU", gpus=(0, 1))))
    assert config.backend == "onnxruntime"
    (group,) = config.instance_group
    assert (group.count, group.kind, list(group.gpus)) == (2, proto.ModelInstanceGroup.KIND_GPU, [0, 1])
    assert parameters(config) == {"intra_op_thread_count": "3"}


def test_a_plan_whose_tensors_triton_reads_itself(proto: Any, parse: Parse) -> None:
    config = parse(model_config(replace(PLAN, signature=None, max_batch_size=None, dynamic_batching=None)))
    assert (config.backend, config.max_batch_size) == ("tensorrt", 0)
    assert list(config.input) == []
    assert list(config.output) == []
    assert [group.kind for group in config.instance_group] == [proto.ModelInstanceGroup.KIND_GPU]
    assert not config.HasField("dynamic_batching")
    assert parameters(config) == {}


def test_a_plan_whose_tensors_are_declared(parse: Parse) -> None:
    config = parse(model_config(PLAN))
    assert (config.max_batch_size, list(config.input[0].dims)) == (8, [3, 224, 224])


def test_how_requests_are_gathered(parse: Parse) -> None:
    batching = DynamicBatching(preferred_batch_sizes=[4, 8], max_queue_delay_us=250)
    config = parse(model_config(replace(PYTHON, dynamic_batching=batching)))
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 250


def test_a_function_names_its_file_and_itself(parse: Parse) -> None:
    config = parse(model_config(replace(PYTHON, source=Path("a 'b' ü.py"), providers=(), function="run")))
    assert parameters(config) == {"source": str(Path("a 'b' ü.py").resolve()), "function": "run"}


def test_without_batches_all_dimensions_are_named(parse: Parse) -> None:
    config = parse(model_config(replace(PYTHON, signature=FIXED, max_batch_size=0, dynamic_batching=None)))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, 3]
    assert list(config.output[0].dims) == [2]
    assert not config.HasField("dynamic_batching")


def test_a_model_with_a_free_first_dimension_may_go_without_batches(parse: Parse) -> None:
    config = parse(model_config(replace(PYTHON, max_batch_size=0)))
    assert list(config.input[0].dims) == [-1, 3, 224, 224]


def test_a_scalar_in_a_batch_is_reshaped(parse: Parse) -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1, -1)),), True)
    config = parse(model_config(replace(PYTHON, signature=signature)))
    assert list(config.input[0].dims) == [1]
    assert config.input[0].HasField("reshape")
    assert list(config.input[0].reshape.shape) == []
    assert list(config.output[0].dims) == [-1]
    assert not config.output[0].HasField("reshape")


def test_every_datatype_has_tritons_name(proto: Any, parse: Parse) -> None:
    kinds = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]
    kinds.append("BF16")
    signature = Signature(tuple(TensorSpec(kind, kind, (-1, 1)) for kind in [*kinds, "BYTES"]), (), True)
    config = parse(model_config(replace(PYTHON, signature=signature)))
    types = {tensor.name: proto.DataType.Name(tensor.data_type) for tensor in config.input}
    assert types == {**{kind: f"TYPE_{kind}" for kind in kinds}, "BYTES": "TYPE_STRING"}


def test_awkward_names_survive(parse: Parse) -> None:
    name = 'in"put\\ \n{größe}'
    signature = Signature((TensorSpec(name, "FP32", (-1, 1)),), (), True)
    config = parse(model_config(replace(PYTHON, signature=signature, source=Path("a 'b' ü.onnx"))))
    assert config.input[0].name == name
    assert parameters(config)["source"] == str(Path("a 'b' ü.onnx").resolve())


@pytest.mark.parametrize("datatype", ["tensor(bfloat16)", "seq(tensor(float))", "seq(map(int64,tensor(float)))"])
def test_a_type_that_kserve_does_not_have_is_refused(datatype: str) -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, 1)),), (TensorSpec("y", datatype, (-1, 1)),), True)
    with pytest.raises(OptionError, match="'y' has the type"):
        model_config(replace(PYTHON, signature=signature))


@pytest.mark.parametrize(("limit", "dims"), [(4, [3, 224, 224]), (0, [-1, 3, 224, 224])])
def test_an_ensemble(parse: Parse, limit: int, dims: list[int]) -> None:
    steps = (
        EnsembleStep("resize", {"raw": "photo"}, {"image": "resize.image", "size": "resize.size"}),
        EnsembleStep("resnet50", {"image": "resize.image"}, {"logits": "logits"}),
    )
    config = parse(ensemble_config(Ensemble("all", limit, BATCHED.inputs, BATCHED.outputs, steps)))
    assert (config.name, config.platform, config.max_batch_size) == ("all", "ensemble", limit)
    assert list(config.input[0].dims) == dims
    first, second = config.ensemble_scheduling.step
    assert (first.model_name, first.model_version, dict(first.input_map)) == ("resize", -1, {"raw": "photo"})
    assert dict(first.output_map) == {"image": "resize.image", "size": "resize.size"}
    assert (dict(second.input_map), dict(second.output_map)) == ({"image": "resize.image"}, {"logits": "logits"})
    assert list(config.instance_group) == [], "Triton refuses one on an ensemble"
