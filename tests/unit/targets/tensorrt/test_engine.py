"""The description; ``test_on_mock_cuda`` has what is started."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest

from pytest_gpuperf.errors import MissingExtra, OptionError
from pytest_gpuperf.targets.tensorrt import TensorRTEngine
from pytest_gpuperf.targets.tensorrt.cuda_device import gpu_failure, open_gpu


def test_is_called_after_its_file_and_precision() -> None:
    assert TensorRTEngine("models/resnet50.onnx").name == "tensorrt resnet50"
    assert TensorRTEngine("models/resnet50.onnx", precision="fp16").name == "tensorrt resnet50 fp16"
    assert TensorRTEngine("models/resnet50.onnx", label="mine").name == "mine"


def test_crosses_processes() -> None:
    target = TensorRTEngine("m.onnx", precision="int8", batch_sizes=(1, (1, 2, 4)), shapes={"x": ([1], [2], [3])})
    assert pickle.loads(pickle.dumps(target)) == target


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp4"}, "the precisions are"),
        ({"batch_sizes": ()}, "batch_sizes is empty"),
        ({"batch_sizes": (0,)}, "must be a batch size"),
        ({"shapes": {"x": "abc"}}, "must be a shape"),
        ({"streams": 0}, "streams=0"),
        ({"workspace_bytes": 0}, "workspace_bytes=0"),
        ({"payloads": 0}, "payloads=0"),
    ],
)
def test_mistakes_are_found_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TensorRTEngine("m.onnx", **settings)


@pytest.mark.parametrize("settings", [{"precision": "fp16"}, {"batch_sizes": (1, 2)}, {"workspace_bytes": 1 << 20}])
def test_a_plan_is_built_already(settings: dict[str, Any]) -> None:
    assert TensorRTEngine("m.plan").prebuilt
    with pytest.raises(OptionError, match=r"m.plan is a plan, which is already built"):
        TensorRTEngine("m.plan", **settings)


def test_bindings_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda", None)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingExtra, match=r"cuda-core is needed to run m(.|\n)*pytest-gpuperf\[tensorrt-rtx\]"):
        open_gpu("run m", "tensorrt-rtx")


def test_full_memory_has_its_own_remedy() -> None:
    full = gpu_failure(Exception("CUDA_ERROR_OUT_OF_MEMORY: ..."), "allocate 8 bytes")
    assert "out of memory: can't allocate 8 bytes.\nUse fewer streams=" in str(full)
    assert "Use fewer" not in str(gpu_failure(Exception("CUDA_ERROR_UNKNOWN"), "run"))


@pytest.mark.usefixtures("no_driver")
def test_the_fixture(pytester: pytest.Pytester) -> None:
    """Where there is no driver, the test that asks for an engine fails and says why."""
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.core")
    pytester.makepyfile(
        """
        def test_engine(gpuperf, tensorrt_engine):
            gpuperf.measure(tensorrt_engine("m.onnx", precision="fp16", batch_sizes=(1, 8)), batch_size=8)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*No GPU can be used here to run m.onnx*"])


def test_is_public() -> None:
    import pytest_gpuperf

    assert pytest_gpuperf.TensorRTEngine is TensorRTEngine
