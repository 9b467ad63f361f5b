from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.targets.triton import DynamicBatching, Step, TritonEndpoint
from pytest_gpuperf.targets.triton.resolved_model import (
    ResolvedModel,
    ServerCapabilities,
    count_usable_cores,
    resolve_model,
)
from pytest_gpuperf.targets.triton.step import defines_triton_model, model_kind, parse_tensor

BUNDLED = ServerCapabilities("the bundled one", frozenset({"python"}), gpu=False, cores=8)
FULL = ServerCapabilities("NVIDIA's", frozenset({"python", "onnxruntime", "tensorrt"}), gpu=True, cores=8)
DECLARED: dict[str, Any] = {"input_tensors": {"x": "FP32[3,-1]"}, "output_tensors": {"y": "INT64[ 2 ]"}}

Make = Callable[..., Path]


def planned(source: Path, server: ServerCapabilities = BUNDLED, **settings: Any) -> ResolvedModel:
    step = Step(source, **settings)
    return resolve_model(step.model_name, source, step, server)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "resnet50.plan"
    path.write_bytes(b"a plan")
    return path


class TestBackend:
    def test_an_onnx_model_takes_tritons_onnx_runtime_where_the_server_has_it(self, doubling: Make) -> None:
        path = doubling(["N", 3])
        assert planned(path).backend == "python"
        assert planned(path, FULL).backend == "onnxruntime"
        assert planned(path, FULL, backend="python").backend == "python"

    @pytest.mark.parametrize("ending", ["plan", "engine", "PLAN"])
    def test_a_plan_takes_tensorrt(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"m.{ending}"
        path.write_bytes(b"plan")
        assert planned(path, FULL).backend == "tensorrt"

    def test_a_server_without_it_says_what_it_has_and_what_to_do(self, plan: Path) -> None:
        with pytest.raises(
            TargetError,
            match=r"resnet50.plan needs Triton's backend tensorrt, but the bundled one has only python(?s:.*)--gpu",
        ):
            planned(plan, replace(BUNDLED, gpu=True))

    def test_one_that_can_not_run_the_file_is_refused(self, doubling: Make, plan: Path) -> None:
        with pytest.raises(
            OptionError, match=r"'tensorrt' can't run double.onnx: use 'onnxruntime' or 'python'.*Build"
        ):
            planned(doubling(["N", 3]), FULL, backend="tensorrt")
        with pytest.raises(OptionError, match=r"'python' can't run resnet50.plan: use 'tensorrt'"):
            planned(plan, FULL, backend="python")

    def test_one_that_is_wanted_and_not_there(self, doubling: Make) -> None:
        with pytest.raises(TargetError, match="backend onnxruntime, but the bundled one has only python"):
            planned(doubling(["N", 3]), backend="onnxruntime")

    def test_a_file_that_is_no_model(self) -> None:
        with pytest.raises(OptionError, match=r"'m.pt' can't be served: pass a file that ends in"):
            model_kind(Path("m.pt"))

    def test_a_plan_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match="There is no model at"):
            planned(tmp_path / "none.plan", FULL)


class TestDevices:
    def test_a_plan_needs_a_gpu(self, plan: Path) -> None:
        with pytest.raises(TargetError, match=r"'resnet50' needs a GPU \(a TensorRT plan\)(?s:.*)CUDA_VISIBLE_DEVICES"):
            planned(plan, replace(FULL, gpu=False))

    def test_named_gpus_need_a_gpu(self, doubling: Make) -> None:
        with pytest.raises(TargetError, match=r"needs a GPU \(gpus=\[0, 1\]\)"):
            planned(doubling(["N", 3]), gpus=[0, 1])

    @pytest.mark.parametrize(
        ("server", "settings", "kind"),
        [
            (BUNDLED, {}, "KIND_CPU"),
            (FULL, {}, "KIND_GPU"),
            (replace(FULL, gpu=False), {}, "KIND_CPU"),
            (FULL, {"backend": "python"}, "KIND_CPU"),
            (FULL, {"backend": "python", "gpus": [1]}, "KIND_GPU"),
        ],
    )
    def test_instances_go_where_the_backend_computes(
        self, doubling: Make, server: ServerCapabilities, settings: dict[str, Any], kind: str
    ) -> None:
        assert planned(doubling(["N", 3]), server, **settings).kind == kind

    def test_the_cores_are_shared_out_among_the_instances(self, doubling: Make) -> None:
        path = doubling(["N", 3])
        assert planned(path).threads == 8
        assert planned(path, instances=3).threads == 2
        assert planned(path, instances=10_000).threads == 1
        assert planned(path, instances=2, threads=5).threads == 5

    def test_the_cores_are_those_that_the_server_may_use(self) -> None:
        allowed = sorted(os.sched_getaffinity(0))
        assert count_usable_cores(None) == len(allowed)
        assert count_usable_cores([allowed[0], allowed[0]]) == 1
        for wrong in ([], [allowed[-1] + 1], [-1]):
            with pytest.raises(OptionError, match="must name cores that this process may use"):
                count_usable_cores(wrong)


class TestBatches:
    def test_of_32_where_the_model_takes_them(self, doubling: Make) -> None:
        free, fixed = doubling(["batch", 3]), doubling([2, 3], "fixed.onnx")
        assert planned(free).max_batch_size == 32
        assert planned(fixed).max_batch_size == 0
        assert planned(free, max_batch_size=4).max_batch_size == 4
        assert planned(free, max_batch_size=0).max_batch_size == 0
        assert not planned(free, max_batch_size=0).batched

    def test_a_fixed_model_can_not_be_batched(self, doubling: Make) -> None:
        with pytest.raises(
            OptionError, match=r"batch double.onnx, since its first dimension is fixed: leave max_batch_size out"
        ):
            planned(doubling([2, 3]), max_batch_size=8)

    def test_of_a_plan_are_triton_s_affair_unless_they_are_declared(self, plan: Path) -> None:
        alone = planned(plan, FULL)
        assert (alone.signature, alone.max_batch_size) == (None, None)
        assert planned(plan, FULL, max_batch_size=16).max_batch_size == 16
        declared_tensors = planned(plan, FULL, **DECLARED)
        assert declared_tensors.max_batch_size == 32
        assert [spec.shape for spec in declared_tensors.tensors] == [(-1, 3, -1), (-1, 2)]
        single = planned(plan, FULL, max_batch_size=0, **DECLARED)
        assert [spec.shape for spec in single.tensors] == [(3, -1), (2,)]

    def test_half_a_declaration_is_refused(self, plan: Path) -> None:
        with pytest.raises(OptionError, match="declare both input_tensors= and output_tensors=, or neither"):
            planned(plan, FULL, input_tensors=DECLARED["input_tensors"])

    def test_gathering(self, doubling: Make) -> None:
        path = doubling(["N", 3])
        assert planned(path).dynamic_batching is None
        assert planned(path, dynamic_batching=True).dynamic_batching == DynamicBatching()
        asked = DynamicBatching([4], 100)
        assert planned(path, dynamic_batching=asked).dynamic_batching == asked
        for wrong in ({"preferred_batch_sizes": [0]}, {"max_queue_delay_us": -1}):
            with pytest.raises(OptionError, match=next(iter(wrong))):
                DynamicBatching(**wrong)


class TestPython:
    def file(self, folder: Path, text: str) -> Path:
        path = folder / "prepare.py"
        path.write_text(text)
        return path

    @pytest.mark.parametrize("text", ["def run(x): return x", "run = max", "import math\n\nrun = lambda x: x\n"])
    def test_a_function(self, tmp_path: Path, text: str) -> None:
        model = planned(self.file(tmp_path, text), **DECLARED)
        assert (model.backend, model.function, model.kind) == ("python", "run", "KIND_CPU")

    def test_a_whole_model(self, tmp_path: Path) -> None:
        assert planned(self.file(tmp_path, "class TritonPythonModel: pass"), **DECLARED).function == ""

    def test_is_read_and_never_run(self, tmp_path: Path) -> None:
        path = self.file(tmp_path, "raise SystemExit(3)\ndef run(x): pass")
        assert not defines_triton_model(path, "run")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("def other(x): pass", "neither a function 'run' nor a class TritonPythonModel"),
            ("def run(x:", "can't be read as Python"),
        ],
    )
    def test_that_is_not_what_it_should_be(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(TargetError, match=message):
            planned(self.file(tmp_path, text), **DECLARED)

    def test_without_a_declaration(self, tmp_path: Path) -> None:
        with pytest.raises(OptionError, match=r"The tensors of prepare.py are unknown: add input_tensors="):
            planned(self.file(tmp_path, "def run(x): pass"))


@pytest.mark.parametrize(
    "text", ["FP32", "FP32[0]", "FP32[-2]", "FP32[a]", "FP128[1]", "fp32[1]", "FP32[1,]", "", "[1]"]
)
def test_a_tensor_that_is_declared_otherwise(text: str) -> None:
    with pytest.raises(OptionError, match="must be a type and a shape without the batch"):
        parse_tensor("x", text)


def test_a_tensor_of_one_number_per_item() -> None:
    assert parse_tensor("x", "INT64[]").shape == ()


class TestEndpoint:
    @pytest.mark.parametrize(
        ("arguments", "settings", "message"),
        [
            (["m.onnx"], {"instances": 0}, "instances=0"),
            (["m.onnx"], {"max_batch_size": -1}, "max_batch_size=-1"),
            (["m.onnx"], {"gpus": []}, r"gpus=\[\]"),
            (["m.onnx"], {"gpus": [-1]}, r"gpus=\[-1\]"),
            (["m.onnx"], {"streaming": True}, "streaming=True needs gRPC"),
            (["m.onnx"], {"protocol": "tcp"}, "must be 'http' or 'grpc'"),
            (["m.bin"], {}, "can't be served: pass a file"),
            ([], {}, "triton_endpoint needs either a model"),
            (["m.onnx"], {"repository": "r", "model": "m"}, "triton_endpoint needs either a model"),
            ([], {"repository": "r"}, "needs model=, the model to measure"),
            (
                [],
                {"repository": "r", "model": "m", "instances": 2},
                "instances= applies to a single model.*config.pbtxt",
            ),
            (
                [["a.onnx", "b.onnx"]],
                {"dynamic_batching": True},
                r"set it in the steps: Step\(path, dynamic_batching=",
            ),
        ],
    )
    def test_refuses_what_makes_no_sense(self, arguments: list[Any], settings: dict[str, Any], message: str) -> None:
        with pytest.raises(OptionError, match=message):
            TritonEndpoint(*arguments, **settings)

    def test_its_name_is_one_that_triton_takes(self) -> None:
        assert TritonEndpoint(Path("/models/ResNet 50 (fp16).onnx")).name == "ResNet_50_fp16_"
        assert TritonEndpoint("m.onnx", model="resnet").name == "resnet"
        assert TritonEndpoint(["a.onnx", Step("b.onnx", name="net")]).name == "net_pipeline"
        assert TritonEndpoint(Step("net.onnx")).name == "net_pipeline"
        assert TritonEndpoint(repository="r", model="m").name == "m"

    def test_a_broken_model_is_found_before_a_server_is_started(self, tmp_path: Path) -> None:
        (tmp_path / "broken.onnx").write_bytes(b"not a model")
        with pytest.raises(TargetError, match=r"can't load .*broken.onnx"):
            TritonEndpoint(tmp_path / "broken.onnx").repository_for(BUNDLED)

    def test_no_step_is_no_ensemble(self) -> None:
        with pytest.raises(OptionError, match="source= is empty: an ensemble needs steps"):
            TritonEndpoint([]).repository_for(BUNDLED)
