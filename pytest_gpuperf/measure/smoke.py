"""Smoke runs: does a target start, and answer at every load point? Nothing is measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.measure.duet import name_side
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad, shared_by_batch_size
from pytest_gpuperf.measure.turns import SIDES
from pytest_gpuperf.model import LoadPoint
from pytest_gpuperf.targets import Target


def smoke_sweep(target: Target, points: Sequence[LoadPoint], plan: MeasurePlan) -> None:
    """Start the target once and have it answer one batch of requests at every load point.

    Raises:
        TargetError, LoadError, OptionError: It doesn't start, or doesn't answer.
    """
    with closing(TargetUnderLoad.start(target, shared_by_batch_size(points), points)) as under_load:
        for point in points:
            count = point.concurrency or 1
            spec = WindowSpec(count, 0.0, lead_in_s=0.0, min_requests=count, deadline_s=plan.deadline_s)
            under_load.apply(point, spec, errors=False)


def smoke_duet(candidate: Target, reference: Target, points: Sequence[LoadPoint], plan: MeasurePlan) -> None:
    """Start each side once and have it answer at every load point.

    Raises:
        TargetError, LoadError, OptionError: A side does not start or answer; the message names it.
    """
    for side, target in zip(SIDES, (candidate, reference), strict=True):
        try:
            smoke_sweep(target, points, plan)
        except GpuperfError as error:
            raise name_side(error, side) from (error.__cause__ or error)
