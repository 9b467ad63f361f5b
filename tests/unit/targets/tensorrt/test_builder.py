"""The real builder of TensorRT for RTX, which needs no GPU to build for one."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import MissingExtra, OptionError, TargetError
from pytest_gpuperf.targets.tensorrt import TensorRTEngine, builder, library
from pytest_gpuperf.targets.tensorrt.builder import BuildResult, build
from pytest_gpuperf.targets.tensorrt.engine import find_or_build, plan_key
from pytest_gpuperf.targets.tensorrt.library import Library, TensorRTLog, open_library
from pytest_gpuperf.targets.tensorrt.onnx_file import OnnxFile
from pytest_gpuperf.targets.tensorrt.plans import PlanStore
from pytest_gpuperf.targets.tensorrt.precision import recipe_for
from tests.unit.targets.tensorrt.packages import DETECTOR, OPEN_NSFW, light_resnet50, member

onnx = pytest.importorskip("onnx")
pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX has no wheel for this machine")

from tests.unit.targets.tensorrt.models import gpu, linear, quantized, save  # noqa: E402

FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture(scope="module")
def rtx() -> Library:
    return open_library("tensorrt-rtx", "build")


def built(rtx: Library, path: Path, precision: str = "fp32", **settings: Any) -> BuildResult:
    """As ``find_or_build`` does it, for compute capability 8.9 and without a cache."""
    steps = recipe_for(precision, always_typed=True)
    file = OnnxFile(path)
    file.check(precision, always_typed=True)
    model = file.converted(steps.convert) if steps.convert else path.read_bytes()
    return build(rtx, model, path, steps, compute_capability="8.9", **settings)


class TestRealModels:
    def test_resnet50(self, rtx: Library) -> None:
        plan = built(rtx, light_resnet50()).plan
        assert len(plan.data) > 1_000_000
        assert not plan.batched

    def test_a_resnet_variant_with_a_free_batch_in_fp16(self, rtx: Library) -> None:
        single = 23_590_724  # bytes of its weights
        plan = built(rtx, member(OPEN_NSFW), "fp16", batch_sizes=((1, 8, 16),)).plan
        assert plan.batched
        assert len(plan.data) < 0.75 * single

    def test_a_text_detector_with_free_sizes(self, rtx: Library) -> None:
        plan = built(rtx, member(DETECTOR), shapes={"x": ([3, 320, 320], [3, 640, 640], [3, 960, 960])}).plan
        assert plan.batched
        assert len(plan.data) > 5_000_000


class TestPrecisions:
    @pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
    def test_of_any_model(self, rtx: Library, tmp_path: Path, precision: str) -> None:
        assert built(rtx, linear(tmp_path / "m.onnx"), precision, batch_sizes=(1, 8)).plan.batched

    @pytest.mark.parametrize(("precision", "kind"), [("int8", "INT8"), ("fp8", "FLOAT8E4M3FN")])
    def test_of_quantized_models(self, rtx: Library, tmp_path: Path, precision: str, kind: str) -> None:
        path = quantized(tmp_path / "m.onnx", getattr(onnx.TensorProto, kind))
        assert built(rtx, path, precision, batch_sizes=(4,)).plan.data

    def test_weights_in_other_files_are_found(self, rtx: Library, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        model = onnx.load(linear(tmp_path / "whole.onnx"))
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert built(rtx, path).plan.data
        (tmp_path / "weights.bin").unlink()
        with pytest.raises(TargetError, match=r"(?s)can't parse .*weights"):
            build(rtx, path.read_bytes(), path, recipe_for("fp32", always_typed=True), compute_capability="8.9")


class TestReasons:
    def test_a_file_that_is_no_model(self, rtx: Library, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match=r"can't parse .*m.onnx:\n.*Failed to parse the ONNX model"):
            build(rtx, b"junk", tmp_path / "m.onnx", recipe_for("fp32", always_typed=True))
        with pytest.raises(TargetError, match="has no outputs"):
            build(rtx, b"", tmp_path / "m.onnx", recipe_for("fp32", always_typed=True))

    def test_an_operator_that_is_not_there(self, rtx: Library, tmp_path: Path) -> None:
        tensor = (FLOAT, (1, 4))
        node = onnx.helper.make_node("Frobnicate", ["x"], ["y"], name="odd")
        path = save(tmp_path / "m.onnx", [node], {"x": tensor}, {"y": tensor})
        with pytest.raises(TargetError, match=r"can't parse .*m.onnx:\n(.|\n)*Frobnicate"):
            built(rtx, path)

    def test_shapes_that_do_not_fit_each_other(self, rtx: Library, tmp_path: Path) -> None:
        node = onnx.helper.make_node("MatMul", ["x", "W"], ["y"], name="bad")
        path = save(
            tmp_path / "m.onnx",
            [node],
            {"x": (FLOAT, ("batch", 4))},
            {"y": (FLOAT, ("batch", 4))},
            {"W": [[1.0, 2.0]] * 3},
        )
        with pytest.raises(TargetError, match=r"TensorRT .* can't (parse|build) .*m.onnx:\n  \S+"):
            built(rtx, path)

    def test_profiles_that_the_graph_can_not_have(self, rtx: Library, tmp_path: Path) -> None:
        """Sizes that our own check can't know to be wrong: two inputs that are added must be equally long."""
        tensor = (FLOAT, ("batch", "n"))
        node = onnx.helper.make_node("Add", ["a", "b"], ["y"])
        path = save(tmp_path / "m.onnx", [node], {"a": tensor, "b": tensor}, {"y": tensor})
        with pytest.raises(TargetError, match=r"(?s)can't build .*n: Input dimensions with this name.*contradictory"):
            built(rtx, path, shapes={"a": [3], "b": [4]})

    def test_profiles_without_sizes(self, rtx: Library, tmp_path: Path) -> None:
        tensor = (FLOAT, ("batch", "n"))
        node = onnx.helper.make_node("Relu", ["x"], ["y"])
        path = save(tmp_path / "m.onnx", [node], {"x": tensor}, {"y": tensor})
        with pytest.raises(OptionError, match="'x' has free dimensions"):
            built(rtx, path)

    def test_a_gpu_that_it_does_not_build_for(self, rtx: Library, tmp_path: Path) -> None:
        path = linear(tmp_path / "m.onnx")
        with pytest.raises(TargetError, match=r"doesn't build for compute capability 6.1"):
            build(rtx, path.read_bytes(), path, recipe_for("fp32", always_typed=True), compute_capability="6.1")

    def test_an_input_that_is_a_shape(self, rtx: Library, tmp_path: Path) -> None:
        node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"])
        path = save(
            tmp_path / "m.onnx",
            [node],
            {"x": (FLOAT, (4, 4)), "s": (onnx.TensorProto.INT64, (2,))},
            {"y": (FLOAT, ("a", "b"))},
        )
        with pytest.raises(OptionError, match="Input 's' is a shape"):
            built(rtx, path)

    def test_a_type_that_can_not_be_sent(self, rtx: Library, tmp_path: Path) -> None:
        tensor = (onnx.TensorProto.FLOAT8E4M3FN, (1, 8))
        nodes = [onnx.helper.make_node("Cast", ["x"], ["y"], to=FLOAT)]
        path = save(tmp_path / "m.onnx", nodes, {"x": tensor}, {"y": (FLOAT, (1, 8))})
        with pytest.raises((OptionError, TargetError), match=r"type FP8, which is not supported|can't parse"):
            built(rtx, path)


class TestCache:
    @pytest.fixture
    def builds(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What was built, by compute capability."""
        made: list[str] = []

        def counted(*arguments: Any, **settings: Any) -> BuildResult:
            made.append(settings["compute_capability"])
            return builder.build(*arguments, **settings)

        monkeypatch.setattr("pytest_gpuperf.targets.tensorrt.engine.build", counted)
        return made

    @pytest.fixture
    def plan(self, rtx: Library, tmp_path: Path) -> Callable[..., bytes]:
        store = PlanStore(tmp_path / "cache")

        def plan(target: TensorRTEngine, on: Any = None, using: Library = rtx) -> bytes:
            return find_or_build(target, OnnxFile(target.path), using, on or gpu(), store)[0].data

        return plan

    def test_an_unchanged_plan_is_not_built_again(
        self, plan: Callable[..., bytes], builds: list[str], tmp_path: Path
    ) -> None:
        target = TensorRTEngine(linear(tmp_path / "m.onnx"), batch_sizes=(1, 4))
        assert plan(target) == plan(dataclasses.replace(target, streams=4, cuda_graph=True, payloads=3))
        assert builds == ["8.9"]

    def test_everything_that_changes_it_builds_again(
        self, rtx: Library, plan: Callable[..., bytes], builds: list[str], tmp_path: Path
    ) -> None:
        path = linear(tmp_path / "m.onnx")
        target = TensorRTEngine(path)
        changed: list[dict[str, Any]] = [
            {"precision": "fp16"},
            {"batch_sizes": (2,)},
            {"shapes": {"x": [8]}},
            {"workspace_bytes": 1 << 26},
        ]
        plan(target)
        for settings in changed:
            plan(dataclasses.replace(target, **settings))
        plan(target, gpu(name="NVIDIA L40S"))
        plan(target, gpu(compute_capability="8.6"))
        plan(target, gpu(multiprocessors=14))
        plan(target, using=dataclasses.replace(rtx, version="1.0"))
        linear(path, seed=1)
        plan(target)
        assert builds == ["8.9"] * 6 + ["8.6"] + ["8.9"] * 3
        assert plan(target)
        assert len(builds) == 10

    def test_a_damaged_plan_is_built_again(self, plan: Callable[..., bytes], builds: list[str], tmp_path: Path) -> None:
        target = TensorRTEngine(linear(tmp_path / "m.onnx"))
        plan(target)
        (file,) = (tmp_path / "cache").glob("*/model.plan")
        file.write_bytes(b"damaged")
        plan(target)
        assert builds == ["8.9"] * 2
        assert file.stat().st_size > 1000

    def test_the_key_is_plain(self, rtx: Library, tmp_path: Path) -> None:
        target = TensorRTEngine(linear(tmp_path / "m.onnx"), shapes={"x": ([8], [8], [8])}, batch_sizes=((1, 2, 3),))
        key = plan_key(target, rtx, gpu(), "digest")
        assert key["batch_sizes"] == [[1, 2, 3]]
        assert key["shapes"] == {"x": [[8], [8], [8]]}
        assert (key["gpu"], key["compute_capability"], key["cleared"]) == ("NVIDIA L4", "8.9", ["TF32"])


class TestLibrary:
    def test_what_is_installed_is_found(self, rtx: Library) -> None:
        assert rtx.rtx
        assert rtx.always_typed
        assert open_library("tensorrt-rtx", "x") is rtx  # its logger is kept for good

    def test_what_is_not_installed_names_its_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        library._open.cache_clear()
        for module in ("tensorrt", "tensorrt_rtx"):
            monkeypatch.setitem(sys.modules, module, None)
        for wanted, extra in ((None, "tensorrt"), ("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt-rtx")):
            with pytest.raises(MissingExtra, match=rf"to run m.onnx.*\n.*pytest-gpuperf\[{extra}\]"):
                open_library(wanted, "run m.onnx")

    @pytest.mark.parametrize(
        ("error", "message"),
        [
            (ImportError("libnvinfer.so.10: cannot open shared object file"), "can't be loaded: libnvinfer.so.10"),
            (OSError("no version information"), "can't be loaded: no version"),
            (ModuleNotFoundError("No module named 'x'", name="x"), "lacks x"),
        ],
    )
    def test_a_broken_installation(self, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
        def fail(_name: str) -> None:
            raise error

        library._open.cache_clear()
        monkeypatch.setattr("importlib.import_module", fail)
        with pytest.raises(TargetError, match=f"tensorrt is installed, but {message}"):
            open_library("tensorrt", "x")

    def test_versions(self, monkeypatch: pytest.MonkeyPatch, rtx: Library) -> None:
        for version, typed in (("10.16.1.11", False), ("11.0.0.114", True)):
            assert dataclasses.replace(rtx, name="tensorrt", version=version).always_typed == typed
        library._open.cache_clear()
        monkeypatch.setattr(rtx.trt, "__version__", "8.6.1")
        monkeypatch.setitem(sys.modules, "tensorrt", rtx.trt)
        with pytest.raises(TargetError, match=r"TensorRT 8.6.1 is too old; install 10.0 or newer"):
            open_library("tensorrt", "x")

    def test_no_such_library(self) -> None:
        with pytest.raises(OptionError, match="the libraries are tensorrt and tensorrt-rtx"):
            open_library("tensorrt-llm", "x")


def test_the_log_gives_errors_else_warnings_each_once() -> None:
    log = TensorRTLog()
    assert "no reason" in log.reason()
    log.add("INFO", "chatter")
    log.add("WARNING", "beware")
    assert log.reason() == "  beware"
    log.add("ERROR", "broken\n")
    log.add("ERROR", "broken")
    assert log.reason() == "  broken"
    for number in range(1000):
        log.add("ERROR", f"error {number}")
    assert log.reason().splitlines()[-1] == "  error 999"
    assert len(log.reason().splitlines()) < 20
    log.clear()
    assert "no reason" in log.reason()
    log.add("ERROR", "first " + "x" * 10_000)
    assert log.reason().startswith("  first ")
    assert len(log.reason()) < 1000
