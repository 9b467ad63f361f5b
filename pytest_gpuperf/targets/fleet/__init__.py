"""Tritonservers that share a load, each on a GPU, a MIG slice, or a share of the cores."""

from pytest_gpuperf.targets.fleet.factory import TritonFleetFactory
from pytest_gpuperf.targets.fleet.fleet import TritonFleet

__all__ = ["TritonFleet", "TritonFleetFactory"]
