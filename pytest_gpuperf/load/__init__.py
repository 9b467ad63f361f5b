"""Applies a load to a workload and records the times of every request."""

from pytest_gpuperf.load.generator import LoadGenerator, Recording, WindowSpec, open_generator

__all__ = ["LoadGenerator", "Recording", "WindowSpec", "open_generator"]
