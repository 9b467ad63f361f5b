from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pytest_gpuperf.errors import MissingExtra, OptionError, TargetError
from pytest_gpuperf.targets.onnxruntime import (
    OnnxRuntimeEngine,
    Signature,
    choose_providers,
    digest_of,
    import_onnxruntime,
    open_session,
    signature_of,
)
from pytest_gpuperf.targets.payload import TensorSpec

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CPU = ("CPUExecutionProvider",)
Shape = Sequence[int | str | None]


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: Sequence[Any] = ()) -> Path:
    graph = onnx.helper.make_graph(nodes, "test", inputs, outputs, list(weights))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def identity(tmp_path: Path) -> Callable[..., Path]:
    """Builds a model that gives back its input."""

    def build(shape: Shape, datatype: str = "FLOAT", name: str = "identity.onnx") -> Path:
        kind = getattr(onnx.TensorProto, datatype)
        values = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
        return save(tmp_path / name, [onnx.helper.make_node("Identity", ["x"], ["y"])], values[:1], values[1:])

    return build


def signature(path: Path) -> Signature:
    return signature_of(open_session(path, 1, CPU))


class TestSignature:
    def test_a_free_first_dimension_is_the_batch(self, identity: Callable[..., Path]) -> None:
        expected = TensorSpec("x", "FP32", (-1, 3, 8))
        assert signature(identity(["batch", 3, 8])) == Signature(
            (expected,), (TensorSpec("y", "FP32", (-1, 3, 8)),), True
        )

    def test_a_dimension_without_a_name_is_free_too(self, identity: Callable[..., Path]) -> None:
        assert signature(identity([None, 3])).inputs[0].shape == (-1, 3)

    def test_a_fixed_first_dimension_is_not(self, identity: Callable[..., Path]) -> None:
        found = signature(identity([2, 3]))
        assert not found.batched
        assert found.inputs[0].shape == (2, 3)

    def test_other_dimensions_may_be_free(self, identity: Callable[..., Path]) -> None:
        assert signature(identity(["batch", "length"])).inputs[0].shape == (-1, -1)
        assert not signature(identity([1, "length"])).batched

    def test_a_scalar_is_no_batch(self, identity: Callable[..., Path]) -> None:
        found = signature(identity([]))
        assert found.inputs[0].shape == ()
        assert not found.batched

    def test_one_fixed_output_makes_it_unbatched(self, tmp_path: Path) -> None:
        x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3])
        total = onnx.helper.make_tensor_value_info("total", onnx.TensorProto.FLOAT, [1])
        shape = onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])
        nodes = [
            onnx.helper.make_node("ReduceSum", ["x"], ["scalar"], keepdims=0),
            onnx.helper.make_node("Reshape", ["scalar", "one"], ["total"]),
        ]
        assert not signature(save(tmp_path / "sum.onnx", nodes, [x], [total], [shape])).batched

    @pytest.mark.parametrize(
        ("datatype", "name"),
        [
            ("FLOAT", "FP32"),
            ("FLOAT16", "FP16"),
            ("DOUBLE", "FP64"),
            ("INT64", "INT64"),
            ("INT32", "INT32"),
            ("UINT8", "UINT8"),
            ("BOOL", "BOOL"),
            ("STRING", "BYTES"),
        ],
    )
    def test_types_have_kserves_names(self, identity: Callable[..., Path], datatype: str, name: str) -> None:
        assert signature(identity(["batch", 2], datatype)).inputs[0].datatype == name


class TestBadModels:
    def test_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "absent.onnx"
        with pytest.raises(TargetError, match=f"There is no ONNX model at {path}"):
            open_session(path, None, None)

    def test_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(TargetError, match="is a directory; pass the file of the ONNX model"):
            open_session(tmp_path, None, None)

    def test_not_a_model(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.onnx"
        path.write_bytes(b"not a model")
        with pytest.raises(
            TargetError, match=r"(?s)can't load .*broken.onnx.*Check that the file is a complete ONNX model"
        ):
            open_session(path, None, None)

    def test_weights_that_are_a_pointer_of_git_lfs(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").write_bytes(b"any")
        (tmp_path / "m.onnx.data").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        with pytest.raises(TargetError, match=r"m.onnx.data is not the file itself but a pointer of Git LFS"):
            open_session(tmp_path / "m.onnx", None, None)

    def test_a_truncated_model(self, identity: Callable[..., Path]) -> None:
        path = identity(["batch", 3])
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(TargetError, match="can't load"):
            open_session(path, None, None)

    def test_an_execution_provider_that_is_not_there(self, identity: Callable[..., Path]) -> None:
        with pytest.raises(OptionError, match=r"no RocketExecutionProvider; it has .*CPUExecutionProvider"):
            open_session(identity([1]), None, ("RocketExecutionProvider",))

    def test_the_library_is_missing(self, monkeypatch: pytest.MonkeyPatch, identity: Callable[..., Path]) -> None:
        path = identity(["batch", 3])
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MissingExtra, match=r"pip install 'pytest-gpuperf\[onnxruntime\]'"):
            OnnxRuntimeEngine(path).start()
        with pytest.raises(MissingExtra, match="is needed to run a model"):
            import_onnxruntime("run a model")


class TestEngine:
    def test_runs_the_model_with_the_batch_size(
        self, identity: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = OnnxRuntimeEngine(identity(["batch", 3]), threads=1).start()
        shapes: list[tuple[int, ...]] = []
        real = type(started._session).run

        def run(session: Any, names: Any, feed: dict[str, Any]) -> Any:
            outputs = real(session, names, feed)
            shapes.append(outputs[0].shape)
            return outputs

        monkeypatch.setattr(type(started._session), "run", run)
        for batch_size in (1, 5):
            workload = started.workload(batch_size)
            assert workload.batch_size == batch_size
            workload.call()
        assert shapes == [(1, 3), (5, 3)]
        started.check()
        assert started.server_times() is None
        started.stop()
        started.stop()

    def test_a_fixed_model_takes_only_its_own_batch(self, identity: Callable[..., Path]) -> None:
        started = OnnxRuntimeEngine(identity([2, 3]), threads=1).start()
        started.workload(1).call()
        with pytest.raises(OptionError, match="batch_size=2 can't be sent"):
            started.workload(2)

    def test_free_dimensions_need_a_size(self, identity: Callable[..., Path]) -> None:
        path = identity(["batch", "length"])
        with pytest.raises(OptionError, match="'x' has free dimensions"):
            OnnxRuntimeEngine(path, threads=1).start().workload(1)
        OnnxRuntimeEngine(path, threads=1, shapes={"x": [7]}).start().workload(2).call()

    def test_given_inputs_reach_the_model(self, identity: Callable[..., Path]) -> None:
        engine = OnnxRuntimeEngine(identity(["batch", 3]), threads=1, inputs={"x": np.ones(3)})
        engine.start().workload(4).call()

    def test_several_inputs_are_run_in_turn(
        self, identity: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        items = [{"x": [float(number)]} for number in range(3)]
        started = OnnxRuntimeEngine(identity(["batch", 1]), threads=1, input_data=items).start()
        fed: list[list[float]] = []
        real = type(started._session).run

        def run(session: Any, names: Any, feed: dict[str, Any]) -> Any:
            fed.append(real(session, names, feed)[0].reshape(-1).tolist())

        monkeypatch.setattr(type(started._session), "run", run)
        workload = started.workload(2, in_flight=8)
        for _ in range(4):
            workload.call()
        assert fed == [[0, 1], [2, 0], [1, 2], [0, 1]]

    def test_strings_reach_the_model_as_text(
        self, identity: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = OnnxRuntimeEngine(identity(["batch"], "STRING"), threads=1, inputs={"x": "línea"}).start()
        outputs: list[Any] = []
        real = type(started._session).run

        def run(session: Any, names: Any, feed: dict[str, Any]) -> Any:
            outputs.extend(real(session, names, feed)[0].tolist())

        monkeypatch.setattr(type(started._session), "run", run)
        started.workload(2).call()
        assert outputs == ["línea", "línea"]
        jpeg = OnnxRuntimeEngine(identity(["batch"], "STRING"), threads=1, inputs={"x": b"\xff\xd8"}).start()
        with pytest.raises(OptionError, match="only UTF-8 strings"):
            jpeg.workload(1)

    def test_says_what_is_under_test(self, identity: Callable[..., Path]) -> None:
        path = identity(["batch", 3])
        facts = OnnxRuntimeEngine(path, threads=1, providers=CPU).start().under_test()
        assert facts["model"] == "identity.onnx"
        assert facts["model_digest"] == digest_of(path)
        assert facts["providers"] == "CPUExecutionProvider"
        assert facts["threads"] == 1
        assert facts["onnxruntime"]

    def test_is_called_after_its_file(self) -> None:
        assert OnnxRuntimeEngine(Path("models/resnet50.onnx")).name == "onnxruntime resnet50"


class TestDigest:
    def test_follows_the_content_and_not_the_path(self, identity: Callable[..., Path]) -> None:
        one, same, other = identity([1], name="one"), identity([1], name="same"), identity([2], name="other")
        # The graph names no file, so equal models are equal bytes.
        assert digest_of(one) == digest_of(same) != digest_of(other)
        assert len(digest_of(one)) == 32

    @pytest.mark.parametrize("suffix", [".data", "_data"])
    def test_covers_weights_beside_the_model(self, identity: Callable[..., Path], suffix: str) -> None:
        path = identity([1])
        digests = {digest_of(path)}
        for content in (b"weights", b"other weights"):
            path.with_name(path.name + suffix).write_bytes(content)
            digests.add(digest_of(path))
        assert len(digests) == 3


def test_cuda_comes_first_where_the_build_has_it() -> None:
    class Build:
        def __init__(self, *names: str) -> None:
            self._names = list(names)

        def get_available_providers(self) -> list[str]:
            return self._names

    assert choose_providers(Build("AzureExecutionProvider", "CPUExecutionProvider"), None) == ["CPUExecutionProvider"]
    assert choose_providers(
        Build("CPUExecutionProvider", "TensorrtExecutionProvider", "CUDAExecutionProvider"), None
    ) == [
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
