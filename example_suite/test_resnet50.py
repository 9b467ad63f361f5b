"""An example of a performance suite: an endpoint, an engine, and a preprocessing step.

Run it with ``pytest --gpuperf example_suite``; without ``--gpuperf`` it is a smoke test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pytest_gpuperf import Gpuperf, OnnxRuntimeEngine, TritonEndpoint


def test_resnet50_triton(gpuperf: Gpuperf, triton_endpoint: type[TritonEndpoint], resnet50_onnx: Path) -> None:
    """Serving: a concurrency sweep over HTTP, with dynamic batching."""
    endpoint = triton_endpoint(resnet50_onnx, max_batch_size=8, dynamic_batching=True, threads=1)
    curve = gpuperf.sweep(endpoint, concurrency=[1, 2, 4])
    assert curve.require(p90_ms=5000).throughput > 0.5  # an absolute budget, beside the baseline gate


def test_resnet50_onnxruntime(
    gpuperf: Gpuperf, onnxruntime_engine: type[OnnxRuntimeEngine], resnet50_onnx: Path
) -> None:
    """The same model without a server; the difference is the cost of serving."""
    engine = onnxruntime_engine(resnet50_onnx, threads=1)
    gpuperf.sweep(engine, batch_size=[1, 2])


def test_preprocessing(gpuperf: Gpuperf) -> None:
    """A callable: resize and normalise an image, as a service does before it calls the model."""
    image = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def preprocess() -> object:
        resized = image.reshape(224, 2, 224, 2, 3).mean(axis=(1, 3), dtype=np.float32)
        return ((resized / 255 - mean) / deviation).astype(np.float32).transpose(2, 0, 1)

    gpuperf.sweep(preprocess, name="preprocess")
