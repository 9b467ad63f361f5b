"""ResNet-50 as an ONNX graph with random weights: it costs the same to run as a trained one.

He et al., "Deep Residual Learning for Image Recognition" (2015), table 1, the 50-layer column; batch normalisation is
folded into the convolutions, as every inference engine does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

#: (blocks, channels inside a block, channels after it) of the four stages.
STAGES = ((3, 64, 256), (4, 128, 512), (6, 256, 1024), (3, 512, 2048))
CLASSES = 1000


class _Graph:
    """The nodes and weights of a graph; all passes through the network share the weights."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self._random = np.random.default_rng(seed)

    def weight(self, name: str, shape: tuple[int, ...], scale: float) -> str:
        if name not in self.weights:
            values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(scale)
            self.constant(name, values)
        return name

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self.weights[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(
        self, x: str, copy: str, name: str, shape: tuple[int, int, int], *, stride: int = 1, relu: bool = True
    ) -> str:
        out, inside, size = shape
        kernel = self.weight(f"{name}.weight", (out, inside, size, size), (2 / (inside * size * size)) ** 0.5)
        bias = self.weight(f"{name}.bias", (out,), 0.01)
        pad = size // 2
        y = self.add("Conv", [x, kernel, bias], f"{copy}{name}", strides=[stride] * 2, pads=[pad] * 4)
        return self.add("Relu", [y], f"{copy}{name}.relu") if relu else y


def _network(graph: _Graph, x: str, copy: str) -> str:
    """Add a pass; names of its values begin with ``copy``."""
    x = graph.convolution(x, copy, "stem", (64, 3, 7), stride=2)
    x = graph.add("MaxPool", [x], f"{copy}stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, (blocks, inner, outer) in enumerate(STAGES):
        for block in range(blocks):
            name, stride = f"stage{stage}.{block}", 2 if stage and not block else 1
            y = graph.convolution(x, copy, f"{name}.a", (inner, channels, 1))
            y = graph.convolution(y, copy, f"{name}.b", (inner, inner, 3), stride=stride)
            y = graph.convolution(y, copy, f"{name}.c", (outer, inner, 1), relu=False)
            if not block:
                x = graph.convolution(x, copy, f"{name}.skip", (outer, channels, 1), stride=stride, relu=False)
            x = graph.add("Relu", [graph.add("Add", [x, y], f"{copy}{name}.sum")], f"{copy}{name}")
            channels = outer
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x], f"{copy}pool")], f"{copy}flat")
    kernel = graph.weight("head.weight", (channels, CLASSES), channels**-0.5)
    return graph.add("Gemm", [x, kernel, graph.weight("head.bias", (CLASSES,), 0.01)], f"{copy}head")


def build(path: Path, *, size: int = 224, extra: float = 0.0, seed: int = 0) -> Path:
    """Write the model: input ``image`` FP32 [N, 3, size, size], output ``scores`` FP32 [N, 1000].

    Args:
        size: height and width of the image.
        extra: share of extra work: 0.5 makes the model 50% slower, 2 three times as slow. The network is passed again
            as often as the share says, the last time over that share of the image's rows, each pass waiting for the
            one before it. It really is that much more arithmetic, for whatever engine runs it.
    """
    graph = _Graph(seed)
    scores = _network(graph, "image", "")
    passes, rest = int(extra), extra - int(extra)
    heights = [size] * passes + ([max(round(size * rest), 32)] if rest > 0 else [])
    for number, height in enumerate(heights):
        copy = f"extra{number}."
        # A mean of the last result, too small to matter, makes this pass depend on it: none can be merged or skipped.
        axes = graph.constant("axes", np.array([1], np.int64))
        mean = graph.add("ReduceMean", [scores, axes], f"{copy}mean", keepdims=1)
        tiny = graph.add("Mul", [mean, graph.constant("tiny", np.float32(1e-12))], f"{copy}tiny")
        shape = graph.constant("shape", np.array([-1, 1, 1, 1], np.int64))
        image = graph.add("Add", ["image", graph.add("Reshape", [tiny, shape], f"{copy}column")], f"{copy}image")
        if height < size:
            starts, ends = graph.constant("starts", np.array([0])), graph.constant("ends", np.array([height]))
            image = graph.add("Slice", [image, starts, ends, graph.constant("rows", np.array([2]))], f"{copy}rows")
        scores = _network(graph, image, copy)
    graph.add("Identity", [scores], "scores")
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "resnet50",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
            list(graph.weights.values()),
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
