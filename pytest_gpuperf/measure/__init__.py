"""From a target and load points to runs: warm-up, windows, fresh starts, the guard."""

from pytest_gpuperf.measure.plan import MeasurePlan, Progress
from pytest_gpuperf.measure.sweep import measure_sweep, smoke_sweep

__all__ = ["MeasurePlan", "Progress", "measure_sweep", "smoke_sweep"]
