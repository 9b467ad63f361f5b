"""Targets, which describe what is measured: a module or package for each kind, behind the protocols in ``target``."""

from pytest_gpuperf.targets.call import CallTarget, as_target
from pytest_gpuperf.targets.target import (
    OnDevices,
    Replicated,
    Scalable,
    Sequential,
    StartedTarget,
    Target,
    TimedStart,
)

__all__ = [
    "CallTarget",
    "OnDevices",
    "Replicated",
    "Scalable",
    "Sequential",
    "StartedTarget",
    "Target",
    "TimedStart",
    "as_target",
]
