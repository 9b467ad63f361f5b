"""Policies: which window is measured next, and whether a disturbed window is repeated.

A policy is a generator. It yields a ``WindowRequest``, is sent the window with its recording, and so on; it returns its
result. The measuring loop (``measuring_loop``) takes the windows and decides none of this.

=====================================  ======================================================================
sweeps, both sides of a duet           ``planned_windows``: the plan's visits of all load points
searches                               ``explore.explored_windows``: what an algorithm (``ask.Steps``) asks for
``gpuperf sweep``                      ``cli.sweep.levels.level_windows``: each level until its windows agree
=====================================  ======================================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from pytest_gpuperf.analysis.guard import is_unanswered, worth_repeating
from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.model import TIMEOUT, Arrivals, LoadPoint, Window

Result = TypeVar("Result")

#: A window, and the times of every request in it; None where the target could not bear the load.
Measured = tuple[Window, Recording | None]
Policy = Generator["WindowRequest", Measured, Result]


@dataclass(frozen=True)
class WindowRequest:
    """A window to measure.

    Attributes:
        spec: How it is timed.
        visit: Zero-based index of the visit.
        number, parity: Its place in the order of a duet; see ``MeasureStep``.
        earlier: Windows of the same run, to which the state of the devices is compared.
        warm_up: Load to apply first, without measuring it.
        may_fail: Whether a load that the target can't bear is an answer (a window of failed requests), not an error.
    """

    point: LoadPoint
    spec: WindowSpec
    visit: int = 0
    number: int = 0
    parity: int = 0
    earlier: Sequence[Window] = ()
    warm_up: WindowSpec | None = None
    may_fail: bool = False


def planned_windows(
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    run: int,
    *,
    repeats: int,
    on_done: Callable[[], None],
    arrivals: Mapping[LoadPoint, Arrivals] | None = None,
    measured: Collection[LoadPoint] | None = None,
) -> Policy[list[Window]]:
    """Visit all load points as often as the plan says, in its order for this run.

    Args:
        points: The load points that determine the order, and the turns in a duet.
        repeats, on_done: See ``with_repeats``.
        arrivals: The schedules of open-loop points.
        measured: The points to measure; all by default.
    """
    requests = []
    for number, (visit, point) in enumerate(plan.order(points, run)):
        if measured is None or point in measured:
            spec = plan.spec(point, (arrivals or {}).get(point), run * plan.visits + visit)
            requests.append(WindowRequest(point, spec, visit, number, visit + points.index(point) + run))
    return with_repeats(requests, repeats, on_done)


def with_repeats(requests: Iterable[WindowRequest], repeats: int, on_done: Callable[[], None]) -> Policy[list[Window]]:
    """Measure every requested window, and disturbed ones once more after the others; return all of them.

    A window with too many requests that got no answer until their deadline ends the measurement: the test would fail,
    and each further window would wait as long.

    This is where it is decided that a window is repeated. ``worth_repeating`` is the rule.

    Args:
        repeats: How many windows may be repeated.
        on_done: Called after every window that is not repeated.

    Raises:
        LoadError: Too many requests of a window got no answer.
    """
    queue = deque(requests)
    windows: list[Window] = []
    while queue:
        request = queue.popleft()
        window, _ = yield replace(request, earlier=windows)
        if is_unanswered(window):
            raise LoadError(_unanswered(window, request.spec.deadline_s))
        is_repeated = repeats > 0 and worth_repeating(
            window, [earlier for earlier in windows if earlier.point == window.point]
        )
        windows.append(window)
        if is_repeated:
            repeats -= 1
            queue.append(request)
        else:
            on_done()
    return windows


def _unanswered(window: Window, deadline_s: float) -> str:
    return (
        f"At {window.point.label}, {window.errors[TIMEOUT]} of {window.requests + window.error_count} requests got no "
        f"answer within {deadline_s:g} s. The measurement was ended, since each further window would wait as long.\n"
        "Does the server drop requests, or is it overloaded? See its log, or lower the load."
    )
