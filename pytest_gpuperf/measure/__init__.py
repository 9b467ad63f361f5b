"""From a target and load points to runs: warm-up, windows, fresh starts, the guard."""

from pytest_gpuperf.measure.duet import duet_plan, measure_duet, smoke_duet
from pytest_gpuperf.measure.plan import MeasurePlan, Progress
from pytest_gpuperf.measure.sweep import measure_sweep, smoke_sweep
from pytest_gpuperf.measure.window import take_window

__all__ = [
    "MeasurePlan",
    "Progress",
    "duet_plan",
    "measure_duet",
    "measure_sweep",
    "smoke_duet",
    "smoke_sweep",
    "take_window",
]
