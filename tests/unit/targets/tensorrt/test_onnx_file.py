from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import MissingExtra, OptionError, TargetError
from pytest_gpuperf.targets.onnxruntime import digest_of
from pytest_gpuperf.targets.tensorrt.onnx_file import OnnxFile

onnx = pytest.importorskip("onnx")

from tests.unit.targets.tensorrt.models import linear, quantized, save  # noqa: E402

FLOAT, HALF, BRAIN, INT64 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "BFLOAT16", "INT64"))


class TestDigest:
    def test_is_that_of_onnxruntime_engine(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "m.onnx")
        assert OnnxFile(path).digest == digest_of(path)
        assert OnnxFile(linear(tmp_path / "other.onnx", seed=1)).digest != OnnxFile(path).digest

    def test_covers_weights_in_any_file(self, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        model = onnx.load(linear(tmp_path / "whole.onnx"))
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        before = OnnxFile(path).digest
        data = bytearray((tmp_path / "weights.bin").read_bytes())
        data[0] ^= 1
        (tmp_path / "weights.bin").write_bytes(data)
        assert OnnxFile(path).digest != before
        (tmp_path / "weights.bin").unlink()
        with pytest.raises(TargetError, match=r"has weights in .*weights.bin, which does not exist"):
            OnnxFile(path).digest  # noqa: B018


class TestBadFiles:
    def test_none(self, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match="There is no ONNX model at"):
            OnnxFile(tmp_path / "none.onnx").digest  # noqa: B018

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"not a model", "complete"),
            (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        ],
    )
    def test_not_a_model(self, tmp_path: Path, content: bytes, message: str) -> None:
        path = tmp_path / "m.onnx"
        path.write_bytes(content)
        with pytest.raises(TargetError, match=message):
            OnnxFile(path).digest  # noqa: B018

    def test_the_library_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = linear(tmp_path / "m.onnx")
        monkeypatch.setitem(sys.modules, "onnxconverter_common.float16", None)
        with pytest.raises(MissingExtra, match=r"pip install 'pytest-gpuperf\[tensorrt-rtx\]'"):
            OnnxFile(path, "tensorrt-rtx").converted("fp16")
        monkeypatch.setitem(sys.modules, "onnx", None)
        with pytest.raises(MissingExtra, match=r"pip install 'pytest-gpuperf\[tensorrt\]'"):
            OnnxFile(path).digest  # noqa: B018


class TestCheck:
    @pytest.mark.parametrize("precision", ["int8", "fp8"])
    def test_quantized_precisions_need_quantized_models(self, tmp_path: Path, precision: str) -> None:
        file = OnnxFile(linear(tmp_path / "m.onnx"))
        with pytest.raises(OptionError, match=rf"precision='{precision}' needs .* m.onnx has none"):
            file.check(precision, always_typed=True)

    def test_of_the_same_type(self, tmp_path: Path) -> None:
        file = OnnxFile(quantized(tmp_path / "m.onnx", onnx.TensorProto.INT8))
        file.check("int8", always_typed=True)
        file.check("int8", always_typed=False)
        with pytest.raises(OptionError, match="has only those of int8"):
            file.check("fp8", always_typed=True)
        OnnxFile(quantized(tmp_path / "f.onnx", onnx.TensorProto.FLOAT8E4M3FN)).check("fp8", always_typed=True)

    def test_a_half_model_is_no_fp32_where_types_are_taken_as_they_are(self, tmp_path: Path) -> None:
        path = tmp_path / "half.onnx"
        path.write_bytes(OnnxFile(linear(tmp_path / "m.onnx")).converted("fp16"))
        with pytest.raises(OptionError, match=r"has FP16 weights.*Set precision='fp16'"):
            OnnxFile(path).check("fp32", always_typed=True)
        OnnxFile(path).check("fp32", always_typed=False)
        OnnxFile(path).check("fp16", always_typed=True)
        assert OnnxFile(path).converted("fp16") == path.read_bytes()


def types_of(model: Any) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


class TestConversion:
    def test_weights_change_and_inputs_do_not(self, tmp_path: Path) -> None:
        path = linear(tmp_path / "m.onnx")
        for precision, kind in (("fp16", HALF), ("bf16", BRAIN)):
            model = onnx.load_from_string(OnnxFile(path).converted(precision))
            assert types_of(model) == {"W": kind}
            assert {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)} == {FLOAT}
            onnx.checker.check_model(model, full_check=True)

    def test_bf16_is_rounded_from_the_original_not_from_fp16(self, tmp_path: Path) -> None:
        weights = np.array([[1e-20, 3e38], [1.00390625, -70000.0]], np.float32)
        tensor = (FLOAT, ("batch", 2))
        node = onnx.helper.make_node("MatMul", ["x", "W"], ["y"])
        path = save(tmp_path / "m.onnx", [node], {"x": tensor}, {"y": tensor}, {"W": weights})
        model = onnx.load_from_string(OnnxFile(path).converted("bf16"))
        found = onnx.numpy_helper.to_array(model.graph.initializer[0]).astype(np.float32)
        np.testing.assert_allclose(found, weights, rtol=2**-8)

    def test_the_models_own_casts_and_outputs_used_inside(self, tmp_path: Path) -> None:
        """As in text encoders: a mask of integers made a number, hidden states that are an output and pooled too."""
        nodes = [
            onnx.helper.make_node("MatMul", ["x", "W"], ["hidden"]),
            onnx.helper.make_node("Cast", ["mask"], ["m"], to=FLOAT),
            onnx.helper.make_node("Mul", ["hidden", "m"], ["pooled"]),
        ]
        path = save(
            tmp_path / "m.onnx",
            nodes,
            {"x": (FLOAT, ("batch", 4)), "mask": (INT64, ("batch", 4))},
            {"hidden": (FLOAT, ("batch", 4)), "pooled": (FLOAT, ("batch", 4))},
            {"W": np.eye(4, dtype=np.float32)},
        )
        runtime = pytest.importorskip("onnxruntime")
        feed = {"x": np.arange(8, dtype=np.float32).reshape(2, 4), "mask": np.array([[1, 0, 1, 0]] * 2)}
        hidden, pooled = runtime.InferenceSession(OnnxFile(path).converted("fp16")).run(None, feed)
        assert hidden.dtype == pooled.dtype == np.float32
        np.testing.assert_allclose(hidden, feed["x"])
        np.testing.assert_allclose(pooled, feed["x"] * feed["mask"])
        onnx.checker.check_model(onnx.load_from_string(OnnxFile(path).converted("bf16")), full_check=True)

    def test_weights_in_other_files_come_along(self, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        model = onnx.load(linear(tmp_path / "whole.onnx"))
        onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        alone = onnx.load_from_string(OnnxFile(path).converted("fp16"))
        assert alone.graph.initializer[0].raw_data
        assert not alone.graph.initializer[0].external_data

    def test_what_can_not_be_converted_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from onnxconverter_common import float16

        def convert(*_: Any, **__: Any) -> None:
            raise ValueError("no way")

        monkeypatch.setattr(float16, "convert_float_to_float16", convert)
        with pytest.raises(TargetError, match=r"can't be converted to fp16: no way\nExport it in fp16"):
            OnnxFile(linear(tmp_path / "m.onnx")).converted("fp16")
