"""From a target and load points to runs: warm-up, windows, fresh starts, interference."""

from pytest_gpuperf.measure.duet import duet_plan, measure_duet
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.progress import Progress
from pytest_gpuperf.measure.smoke import smoke_duet, smoke_sweep
from pytest_gpuperf.measure.sweep import measure_sweep

__all__ = [
    "MeasurePlan",
    "Progress",
    "duet_plan",
    "measure_duet",
    "measure_sweep",
    "smoke_duet",
    "smoke_sweep",
]
