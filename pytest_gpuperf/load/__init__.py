"""Applies a load to a workload and records the times of every request."""

from pytest_gpuperf.load.factory import open_generator
from pytest_gpuperf.load.generator import LoadGenerator, Recording, WindowSpec

__all__ = ["LoadGenerator", "Recording", "WindowSpec", "open_generator"]
