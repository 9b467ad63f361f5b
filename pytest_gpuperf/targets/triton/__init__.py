"""Triton Inference Server: finding or installing one, writing model repositories, running it."""

from pytest_gpuperf.targets.triton.endpoint import TritonEndpoint
from pytest_gpuperf.targets.triton.step import DynamicBatching, Step

__all__ = ["DynamicBatching", "Step", "TritonEndpoint"]
