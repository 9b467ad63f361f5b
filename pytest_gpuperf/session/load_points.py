"""The load points of a test: combinations of its loads and batch sizes, or points that it explored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure.explore import Axis
from pytest_gpuperf.measure.search_range import CONCURRENCIES, SearchRange
from pytest_gpuperf.model import Arrivals, Constant, Intervals, LoadPoint, Poisson, Ramp, Record
from pytest_gpuperf.store import Baseline

#: Load points, and the schedules of those in open loop.
Loads = tuple[tuple[LoadPoint, ...], dict[LoadPoint, Arrivals]]

#: A load process sends about half as many.
_HIGHEST_RATE = 100_000.0
_DISTRIBUTIONS: dict[str, Callable[[float, int], Arrivals]] = {
    "poisson": Poisson,
    "constant": lambda rate, _seed: Constant(rate),
}


def load_points(
    concurrency: int | Sequence[int] | None,
    batch_size: int | Sequence[int],
    rate: float | Sequence[float] | None,
    arrivals: str | Arrivals | Sequence[Arrivals],
    seed: int,
) -> Loads:
    """Return the load points that arguments of ``Gpuperf.sweep`` name.

    Raises:
        OptionError: An argument can't be used; the message says what to write instead.
    """
    batches = sizes("batch_size", batch_size)
    if isinstance(arrivals, str):
        schedules = _rates(rate, arrivals, seed) if rate is not None else ()
    else:
        schedules = _schedules(arrivals)
        if rate is not None:
            raise OptionError(f"rate={rate!r}: arrivals={arrivals!r} has its own rate; give one of the two.")
    if schedules and concurrency is not None:
        raise OptionError(
            f"concurrency={concurrency!r} is for a closed loop, rate= and arrivals= are for an open one; "
            "write one of them, and two sweeps for both."
        )
    if not schedules:
        levels = sizes("concurrency", 1 if concurrency is None else concurrency)
        return tuple(LoadPoint(level, batch) for batch in batches for level in levels), {}
    points = {LoadPoint.open_loop(schedule, batch): schedule for batch in batches for schedule in schedules}
    if len(points) < len(batches) * len(schedules):
        raise OptionError(f"rate={rate!r}, arrivals={arrivals!r} names the same load twice.")
    return tuple(points), points


def _rates(rate: float | Sequence[float], distribution: str, seed: int) -> tuple[Arrivals, ...]:
    if distribution not in _DISTRIBUTIONS:
        raise _unusable(distribution)
    rates = (rate,) if isinstance(rate, int | float) else tuple(rate)
    numbers = [number for number in rates if type(number) in (int, float) and 0 < number < math.inf]
    if not numbers or len(numbers) < len(rates):
        raise OptionError(f"rate={rate!r}: write requests per second, or a list of them, for example [100, 200, 400].")
    return tuple(_DISTRIBUTIONS[distribution](float(number), seed) for number in numbers)


def _schedules(arrivals: Arrivals | Sequence[Arrivals]) -> tuple[Arrivals, ...]:
    kinds = (Constant, Poisson, Ramp, Intervals)
    schedules = (arrivals,) if isinstance(arrivals, kinds) else tuple(arrivals)
    if not schedules or not all(isinstance(schedule, kinds) for schedule in schedules):
        raise _unusable(arrivals)
    return schedules


def _unusable(arrivals: object) -> OptionError:
    return OptionError(
        f"arrivals={arrivals!r}: write 'poisson', 'constant', or a schedule such as Ramp(100, 1000, over_s=5)."
    )


def sizes(argument: str, given: int | Sequence[int]) -> tuple[int, ...]:
    """Return the values of a named argument that takes distinct whole numbers of 1 or more.

    Raises:
        OptionError: A value can't be used.
    """
    values = (given,) if isinstance(given, int) else tuple(given)
    if not values or any(type(size) is not int or size < 1 for size in values):
        raise OptionError(
            f"{argument}={given!r}: write a whole number of 1 or more, or a list of them, for example [1, 2, 4]."
        )
    if len(set(values)) < len(values):
        raise OptionError(f"{argument}={given!r} names the same value twice.")
    return values


def axis_of(
    lowest: float, highest: float | None, batch_size: int, arrivals: str, seed: int, *, open_loop: bool
) -> Axis:
    """Return the axis on which loads are explored; its default highest load when ``highest`` is None.

    Raises:
        OptionError: An argument can't be used.
    """
    (batch,) = sizes("batch_size", [batch_size])
    if arrivals not in _DISTRIBUTIONS:
        raise OptionError(f"arrivals={arrivals!r}: write 'poisson' or 'constant'.")
    with option_errors():
        loads = SearchRange(lowest, highest or (_HIGHEST_RATE if open_loop else CONCURRENCIES.highest), open_loop)
        return Axis(loads, batch, arrivals == "poisson", seed)


@contextmanager
def option_errors() -> Iterator[None]:
    """Raise the error of a wrong argument as an ``OptionError``."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise OptionError(f"{error}.") from None


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
    points = dict.fromkeys(
        replace(window.point, cached=False) for run in record.runs if run.sweep == sweep for window in run.windows
    )
    kept = record.kept_points.get(sweep)
    return [point for point in points if kept is None or point in kept]


def _load(point: LoadPoint) -> float:
    """Return the point's position on its axis."""
    return float(point.concurrency or point.rate)
