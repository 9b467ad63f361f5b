"""Several tritonservers that share one load: one for each GPU or MIG slice, or for each share of the cores."""

from pytest_gpuperf.targets.fleet.factory import TritonFleetFactory
from pytest_gpuperf.targets.fleet.fleet import TritonFleet

__all__ = ["TritonFleet", "TritonFleetFactory"]
