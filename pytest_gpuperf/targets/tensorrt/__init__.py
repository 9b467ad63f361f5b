"""TensorRT in this process: building engines from ONNX models, caching their plans, running them."""

from pytest_gpuperf.targets.tensorrt.engine import TensorRTEngine

__all__ = ["TensorRTEngine"]
