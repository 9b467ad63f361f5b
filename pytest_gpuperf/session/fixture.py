"""The ``gpuperf`` fixture: what one test measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_gpuperf.device import DeviceLock
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure import MeasurePlan, measure_sweep, smoke_sweep
from pytest_gpuperf.model import Curve, CurvePoint, LoadPoint, PlainMapping, Run, curve_of, unmeasured
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.store import Baseline, select_baseline
from pytest_gpuperf.targets import Target, as_target

if TYPE_CHECKING:
    from pytest_gpuperf.session.state import State


@dataclass
class Sweep:
    """One sweep of a test while it grows.

    Attributes:
        planned: complete runs that it should have in the end.
    """

    name: str
    points: tuple[LoadPoint, ...]
    planned: int
    runs: list[Run] = field(default_factory=list)
    under_test: PlainMapping = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """All runs were measured to their end."""
        return sum(run.complete for run in self.runs) == self.planned

    @property
    def curve(self) -> Curve:
        return curve_of(self.name, self.points, self.runs)


class Gpuperf:
    """Measures targets for one test, and remembers what it measured for the gate.

    Attributes:
        enabled: False in a smoke run (pytest without ``--gpuperf``).
        sweeps: what was measured so far.
        baseline: what it will be compared with; None before the first sweep.
    """

    def __init__(self, state: State, test: str, marker: Marker) -> None:
        self._state, self._test, self.marker = state, test, marker
        self.enabled = state.settings.measure
        self.sweeps: list[Sweep] = []
        self.baseline: Baseline | None = None
        self.smoked = 0

    @property
    def plan(self) -> MeasurePlan:
        """How this test is measured."""
        return MeasurePlan(runs=self.marker.runs or self._state.settings.runs)

    @property
    def key(self) -> PlainMapping:
        """What must match for a stored session to be comparable with this one."""
        return self._state.key(self._test, self.marker.version)

    def sweep(
        self,
        target: Target | Callable[..., object],
        concurrency: int | Sequence[int] = 1,
        batch_size: int | Sequence[int] = 1,
        *,
        name: str | None = None,
        window_s: float | None = None,
    ) -> Curve:
        """Measure a target at every combination of concurrency and batch size.

        Args:
            target: what a target fixture made, or a callable that does one inference.
            concurrency: requests kept in flight (closed loop).
            batch_size: inferences in each request.
            name: tells the sweeps of one test apart; the target's name when None.
            window_s: length of each window instead of the default.

        Returns:
            The throughput-latency curve over all runs. In a smoke run its ``measured`` is False.

        Raises:
            OptionError: an argument can't be used.
            TargetError, LoadError: the target doesn't start, dies, or doesn't answer.
            UnreadableSession: there is a baseline, and not one session of it can be read.
        """
        thing = as_target(target)
        points = tuple(
            LoadPoint(c, b) for b in _sizes("batch_size", batch_size) for c in _sizes("concurrency", concurrency)
        )
        plan = self.plan
        if window_s is not None:
            if not window_s > 0:
                raise OptionError(f"window_s={window_s}: a window has a positive length in seconds, for example 1.0.")
            plan = replace(plan, window_s=window_s, max_window_s=max(plan.max_window_s, window_s))
        sweep_name = name or thing.name
        if any(sweep.name == sweep_name for sweep in self.sweeps):
            raise OptionError(f"This test has a sweep named {sweep_name!r} already; give each its own name=.")
        if not self.enabled:
            smoke_sweep(thing, points, plan)
            self.smoked += len(points)
            return unmeasured(sweep_name, points)
        if self.baseline is None:
            # Before measuring: a damaged baseline should not cost minutes to find.
            self.baseline = select_baseline(self._state.store, self.key)
        sweep = Sweep(sweep_name, points, plan.runs)
        self.sweeps.append(sweep)

        def describe(facts: PlainMapping) -> None:
            sweep.under_test = facts

        console = self._state.console
        try:
            with DeviceLock(self._state.device.id, waiting=console.waiting):
                measure_sweep(
                    thing,
                    points,
                    plan,
                    name=sweep_name,
                    record=sweep.runs.append,
                    describe=describe,
                    progress=console.progress,
                    watch_cpu=self._state.device.kind == "cpu",
                )
        finally:
            console.clear()
        return sweep.curve

    def measure(
        self,
        target: Target | Callable[..., object],
        concurrency: int = 1,
        batch_size: int = 1,
        *,
        name: str | None = None,
        window_s: float | None = None,
    ) -> CurvePoint:
        """Measure a target at one load point; see ``sweep``."""
        return self.sweep(target, concurrency, batch_size, name=name, window_s=window_s).points[0]


def _sizes(what: str, given: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (given,) if isinstance(given, int) else tuple(given)
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise OptionError(
            f"{what}={given!r}: write a whole number of 1 or more, or a list of them, for example [1, 2, 4]."
        )
    if len(set(sizes)) < len(sizes):
        raise OptionError(f"{what}={given!r} names the same value twice.")
    return sizes
