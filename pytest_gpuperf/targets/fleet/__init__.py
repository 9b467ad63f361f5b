"""Several tritonservers that share one load: one on each GPU or MIG slice, or on each share of the cores."""

from pytest_gpuperf.targets.fleet.factory import TritonFleetFactory
from pytest_gpuperf.targets.fleet.fleet import TritonFleet

__all__ = ["TritonFleet", "TritonFleetFactory"]
