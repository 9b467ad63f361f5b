"""Triton Inference Server: locating or installing it, writing model repositories, and running it."""

from pytest_gpuperf.targets.triton.endpoint import TritonEndpoint
from pytest_gpuperf.targets.triton.step import DynamicBatching, Step

__all__ = ["DynamicBatching", "Step", "TritonEndpoint"]
