"""What a test asks for, as load points: every combination of its loads and batch sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure.explore import Axis
from pytest_gpuperf.measure.search_range import CONCURRENCIES, SearchRange
from pytest_gpuperf.model import Arrivals, Constant, Intervals, LoadPoint, Poisson, Ramp

Made = TypeVar("Made")

#: One process of ours sends about half as many.
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
) -> tuple[tuple[LoadPoint, ...], dict[LoadPoint, Arrivals]]:
    """The load points, and the schedules of those in open loop.

    Args:
        rate: requests per second; with it ``arrivals`` names how they are spread.
        arrivals: ``poisson`` or ``constant``; or schedules of their own, without a rate.

    Raises:
        OptionError: says which argument can't be used, and what to write instead.
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
            f"concurrency={concurrency!r} is for a closed loop, and rate= or arrivals= for an open one; "
            "give one of them, and use two sweeps for both."
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
        raise OptionError(
            f"arrivals={distribution!r}: write 'poisson', 'constant', or a schedule such as Ramp(100, 1000, over_s=5)."
        )
    rates = (rate,) if isinstance(rate, int | float) else tuple(rate)
    numbers = [one for one in rates if type(one) in (int, float) and 0 < one < math.inf]
    if not numbers or len(numbers) < len(rates):
        raise OptionError(f"rate={rate!r}: write requests per second, or a list of them, for example [100, 200, 400].")
    return tuple(_DISTRIBUTIONS[distribution](float(one), seed) for one in numbers)


def _schedules(arrivals: Arrivals | Sequence[Arrivals]) -> tuple[Arrivals, ...]:
    kinds = (Constant, Poisson, Ramp, Intervals)
    schedules = (arrivals,) if isinstance(arrivals, kinds) else tuple(arrivals)
    if not schedules or not all(isinstance(one, kinds) for one in schedules):
        raise OptionError(
            f"arrivals={arrivals!r}: write 'poisson', 'constant', or a schedule such as Ramp(100, 1000, over_s=5)."
        )
    return schedules


def sizes(what: str, given: int | Sequence[int]) -> tuple[int, ...]:
    """Whole numbers of 1 or more, none twice.

    Raises:
        OptionError: they are not.
    """
    found = (given,) if isinstance(given, int) else tuple(given)
    if not found or any(type(size) is not int or size < 1 for size in found):
        raise OptionError(
            f"{what}={given!r}: write a whole number of 1 or more, or a list of them, for example [1, 2, 4]."
        )
    if len(set(found)) < len(found):
        raise OptionError(f"{what}={given!r} names the same value twice.")
    return found


def explored(
    make: Callable[[], Made],
    *,
    open_loop: bool,
    lowest: float,
    highest: float | None,
    batch_size: int,
    arrivals: str,
    seed: int,
) -> tuple[Made, Axis]:
    """What an exploration is to find, and where it looks.

    Args:
        make: makes the first of the two.
        highest: the usual one when None.

    Raises:
        OptionError: an argument can't be used.
    """
    (batch,) = sizes("batch_size", [batch_size])
    if arrivals not in _DISTRIBUTIONS:
        raise OptionError(f"arrivals={arrivals!r}: write 'poisson' or 'constant'.")
    try:
        loads = SearchRange(lowest, highest or (_HIGHEST_RATE if open_loop else CONCURRENCIES.highest), open_loop)
        return make(), Axis(loads, batch, arrivals == "poisson", seed)
    except (ValueError, TypeError) as error:
        raise OptionError(f"{error}.") from None
