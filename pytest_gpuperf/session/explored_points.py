"""Load points that a test explored: their schedules, and which of them the next record measures as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_gpuperf.measure.explore import Axis
from pytest_gpuperf.model import Arrivals, LoadPoint, Record
from pytest_gpuperf.store import Baseline


def schedules(points: Sequence[LoadPoint], axis: Axis) -> dict[LoadPoint, Arrivals]:
    """Return the schedules of points on an axis; empty in closed loop."""
    arrivals = {point: axis.arrivals(_load(point)) for point in points}
    return {point: schedule for point, schedule in arrivals.items() if schedule is not None}


def on_axis(axis: Axis, points: Iterable[LoadPoint]) -> list[LoadPoint]:
    """Return the points that lie on an axis; the same load with other arrivals or batches does not."""
    return [point for point in points if (point.rate > 0) == axis.loads.open_loop and axis.point(_load(point)) == point]


def kept_points_of(baseline: Baseline, sweep: str, axis: Axis) -> tuple[LoadPoint, ...]:
    """Return the points on an axis that the baseline keeps of a sweep: its newest record, and the pinned ones.

    A record does not keep the points that it measured only because an earlier one kept them, or sweeps would grow.
    """
    records = (*baseline.records[:1], *baseline.pinned)
    return tuple(dict.fromkeys(point for record in records for point in on_axis(axis, _kept_points(record, sweep))))


def _kept_points(record: Record, sweep: str) -> list[LoadPoint]:
    """Return the points of a sweep that a record keeps for the next one: all, if it doesn't state them."""
    points = dict.fromkeys(window.point for run in record.runs if run.sweep == sweep for window in run.windows)
    kept = record.kept_points.get(sweep)
    return [point for point in points if kept is None or point in kept]


def _load(point: LoadPoint) -> float:
    """Return the point's position on its axis."""
    return float(point.concurrency or point.rate)
