"""Load points that a test looked for: where they lie, and which of them its next record measures as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_gpuperf.measure.explore import Axis
from pytest_gpuperf.model import Arrivals, LoadPoint, Record
from pytest_gpuperf.store import Baseline


def schedules(points: Sequence[LoadPoint], axis: Axis) -> dict[LoadPoint, Arrivals]:
    """The schedules of found points; empty in closed loop."""
    found = {point: axis.arrivals(_load(point)) for point in points}
    return {point: schedule for point, schedule in found.items() if schedule is not None}


def on_axis(axis: Axis, points: Iterable[LoadPoint]) -> list[LoadPoint]:
    """Those of the points that the axis has: the same load spread otherwise is another point."""
    return [point for point in points if (point.rate > 0) == axis.loads.open_loop and axis.point(_load(point)) == point]


def inherited(baseline: Baseline, name: str, axis: Axis) -> tuple[LoadPoint, ...]:
    """The points of a sweep that the newest record of the baseline keeps, and those that are pinned.

    What a record only inherited is not among them, or a sweep would grow with every record, and neither is another
    kind of load.
    """
    records = (*baseline.records[:1], *baseline.pinned)
    return tuple(dict.fromkeys(point for record in records for point in on_axis(axis, _kept_points(record, name))))


def _kept_points(record: Record, name: str) -> list[LoadPoint]:
    """Of the points of a sweep those that the record keeps for the next one; all where it doesn't say."""
    points = dict.fromkeys(window.point for run in record.runs if run.sweep == name for window in run.windows)
    kept = record.kept_points.get(name)
    return [point for point in points if kept is None or point in kept]


def _load(point: LoadPoint) -> float:
    """Where it lies on its axis."""
    return float(point.concurrency or point.rate)
