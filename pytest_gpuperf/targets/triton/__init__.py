"""Triton Inference Server: finding or installing one, writing model repositories, running it."""

from pytest_gpuperf.targets.triton.endpoint import TritonEndpoint

__all__ = ["TritonEndpoint"]
