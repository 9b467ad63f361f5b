"""ONNX files: inspection and conversion before an engine is built. The only module that imports ``onnx``."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.extras import import_extra
from pytest_gpuperf.targets.model_file import check_model_file
from pytest_gpuperf.targets.onnxruntime import digest_of
from pytest_gpuperf.targets.payload import from_bytes, to_bytes
from pytest_gpuperf.targets.tensorrt.precision import BF16, FP8, FP16, FP32, INT8, TF32

#: FP16's largest number. The converter's default of 10,000 would change more weights than necessary.
_MAX_FP16 = 65504.0


@dataclass(frozen=True)
class OnnxFile:
    """A model on disk.

    Attributes:
        extra: Extra of this package that installs the needed libraries.
    """

    path: Path
    extra: str = "tensorrt"

    @cached_property
    def _model(self) -> Any:
        """The graph without its external weights."""
        check_model_file(self.path, "ONNX model")
        onnx = self._onnx("read models")
        try:
            model = onnx.load(str(self.path), load_external_data=False)
        except Exception as error:  # protobuf's errors, which differ between its versions
            raise TargetError(
                f"{self.path} can't be read as an ONNX model: {error}\nCheck that the file is complete."
            ) from error
        if not model.graph.output:
            raise TargetError(f"{self.path} has no outputs. Check that it is a complete ONNX model.")
        return model

    @property
    def external(self) -> tuple[Path, ...]:
        """Files with the model's external weights."""
        names = {
            entry.value
            for tensor in _tensors(self._model.graph)
            for entry in tensor.external_data
            if entry.key == "location"
        }
        files = tuple(self.path.parent / name for name in sorted(names))
        for file in files:
            if not file.is_file():
                raise TargetError(
                    f"{self.path.name} has weights in {file}, which does not exist; put it beside the model."
                )
            check_model_file(file, "file of weights")
        return files

    @cached_property
    def digest(self) -> str:
        """Digest of the model and all its weights, see ``onnxruntime.digest_of``."""
        return digest_of(self.path, self.external)

    def check(self, precision: str, *, always_typed: bool) -> None:
        """Refuse a precision that the model can't be built in."""
        if precision in (INT8, FP8):
            types = self._quantized_types()
            if precision not in types:
                nodes = f"only those of {' and '.join(sorted(types))}" if types else "none"
                raise OptionError(
                    f"precision={precision!r} needs QuantizeLinear and DequantizeLinear nodes of that type; "
                    f"{self.path.name} has {nodes}.\nQuantize the model first (NVIDIA Model Optimizer, ONNX Runtime's "
                    "quantize_static)."
                )
        elif precision in (FP32, TF32) and always_typed and (half := self._half_precision()):
            raise OptionError(
                f"precision={precision!r}: {self.path.name} has {half.upper()} weights, and this TensorRT uses a "
                f"model's types unchanged. Set precision={half!r}, or export the model in FP32."
            )

    def converted(self, precision: str) -> bytes:
        """Return the model with FP16 or BF16 weights and unchanged inputs and outputs."""
        if self._half_precision():
            return self.path.read_bytes()
        onnx = self._onnx("convert models")
        float16 = import_extra(
            "onnxconverter_common.float16", "onnxconverter-common", self.extra, f"convert a model to {precision}"
        )
        # From here on the model includes its external weights.
        original = onnx.load(str(self.path), load_external_data=True)
        casts = _name_nodes(original.graph, onnx.TensorProto.FLOAT)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a warning for every weight that FP16 can't hold exactly
                model = float16.convert_float_to_float16(
                    copy.deepcopy(original), keep_io_types=True, max_finite_val=_MAX_FP16, check_fp16_ready=False
                )
            _convert_leftovers(onnx, model.graph, casts)
            if precision == BF16:
                _to_bfloat16(onnx, model.graph, {tensor.name: tensor for tensor in _tensors(original.graph)})
            return bytes(model.SerializeToString())
        except Exception as error:  # the converter has no error classes
            raise TargetError(
                f"{self.path} can't be converted to {precision}: {error}\nExport it in {precision}, which needs no "
                "conversion."
            ) from error

    def _onnx(self, purpose: str) -> Any:
        return import_extra("onnx", "onnx", self.extra, purpose)

    def _half_precision(self) -> str:
        """Return ``fp16`` or ``bf16`` if there are such weights; else an empty string."""
        types = self._onnx("read models").TensorProto
        kinds = {tensor.data_type for tensor in _tensors(self._model.graph)}
        return FP16 if types.FLOAT16 in kinds else BF16 if types.BFLOAT16 in kinds else ""

    def _quantized_types(self) -> set[str]:
        types = self._onnx("read models").TensorProto
        names = {types.INT8: INT8, types.FLOAT8E4M3FN: FP8}
        constants = {tensor.name: tensor.data_type for tensor in _tensors(self._model.graph)}
        quantized = set()
        for node in _nodes(self._model.graph):
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                quantized |= {names[constants[name]] for name in node.input if constants.get(name) in names}
                dtypes = [attribute.i for attribute in node.attribute if attribute.name == "output_dtype"]
                quantized |= {names[dtype] for dtype in dtypes if dtype in names}
        return quantized


def _nodes(graph: Any) -> Iterator[Any]:
    for inner in _graphs(graph):
        yield from inner.node


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield weights and constants; a Constant's tensor gets the name of its output."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                if node.op_type == "Constant":
                    attribute.t.name = node.output[0]
                yield attribute.t
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _name_nodes(graph: Any, single: int) -> set[str]:
    """Name every node, since the converter identifies nodes by name, and return the names of casts to FP32."""
    casts = set()
    for number, node in enumerate(_nodes(graph)):
        node.name = node.name or f"gpuperf_{number}"
        if node.op_type == "Cast" and any(item.name == "to" and item.i == single for item in node.attribute):
            casts.add(node.name)
    return casts


def _convert_leftovers(onnx: Any, graph: Any, casts: set[str]) -> None:
    """Convert what the converter leaves in FP32: the model's casts, constants without a type, reused outputs."""
    half = onnx.TensorProto.FLOAT16
    ends = {output.name for output in graph.output}
    inside = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Cast" and node.output[0] in ends and node.name not in casts
    }
    for node in _nodes(graph):
        node.input[:] = [inside.get(name, name) for name in node.input]
        if node.op_type == "Cast" and node.name in casts:
            for attribute in node.attribute:
                attribute.i = half
        elif node.op_type == "ConstantOfShape" and not node.attribute:
            node.attribute.append(onnx.helper.make_attribute("value", onnx.helper.make_tensor("", half, [1], [0.0])))


def _to_bfloat16(onnx: Any, graph: Any, originals: dict[str, Any]) -> None:
    """Convert FP16 to BF16, with the weights rounded from their FP32 values."""
    half, brain = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
    for tensor in _tensors(graph):
        if tensor.data_type != half:
            continue
        values = onnx.numpy_helper.to_array(originals.get(tensor.name, tensor))
        tensor.ClearField("int32_data")
        tensor.data_type = brain
        tensor.raw_data = to_bytes("BF16", values)
        assert len(tensor.raw_data) == 2 * values.size == 2 * from_bytes("BF16", tensor.raw_data).size
    for inner in _graphs(graph):
        for value in (*inner.value_info, *inner.input, *inner.output):
            if value.type.tensor_type.elem_type == half:
                value.type.tensor_type.elem_type = brain
    for node in _nodes(graph):
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = brain


def _graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)
