"""Curves: throughput against latency over the load points of a sweep, as a test gets them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model.budget import Budget
from pytest_gpuperf.model.figures import PointFigures, figures_by_point
from pytest_gpuperf.model.histogram import QUANTILES, quantile_or_zero_ns
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.resources import Memory
from pytest_gpuperf.model.run import Run
from pytest_gpuperf.model.server_times import ServerTimes
from pytest_gpuperf.model.window import EndpointFigures


class BudgetMissed(AssertionError):
    """No load point keeps within the budget."""


@dataclass(frozen=True)
class CurvePoint:
    """One load point over all runs (``PointFigures`` has the rules).

    Attributes:
        concurrency: Requests kept in flight; 0 in open loop, where ``rate`` and ``arrivals`` describe the load.
        requests: Requests answered correctly in the windows that count.
        errors: Failed requests of all windows.
        throughput: Inferences per second.
        supported: Quantiles with enough requests, for example ``p50``.
        server: The server's own times, summed over the windows; None if it doesn't report them.
        rate: Mean requests per second (open loop).
        service_p50_ns, service_p90_ns: Time from the send, without the wait before it (open loop).
        late_share: Share of the requests that were sent more than 1 ms after they were due (open loop).
        lag_p99_ns: 99th percentile of the delay between due and sent, in the worst window (open loop).
        client_cpu_per_request_s: CPU time that the load generator spends on one request.
        stall_share: Share of the time during which the load generator could not serve its sockets.
        first_p50_ns, first_p90_ns: Time to the first answer (streams).
        answers: Answers to the requests (streams).
        gpu_energy_j, cpu_energy_j: Joules per inference; None where they could not be measured.
        target_memory_bytes, device_memory_bytes, host_memory_bytes: Peaks (``Memory``); None as above.
        guards: Guards of the windows that count. A disturbance is among them only if all windows of the load point were
            disturbed in some run.
        cached: Whether answers came from the server's response cache.
    """

    concurrency: int
    batch_size: int
    requests: int = 0
    errors: int = 0
    throughput: float = 0.0
    mean_ns: float = 0.0
    p50_ns: float = 0.0
    p90_ns: float = 0.0
    p95_ns: float = 0.0
    p99_ns: float = 0.0
    supported: frozenset[str] = frozenset()
    server: ServerTimes | None = None
    rate: float = 0.0
    arrivals: str = ""
    service_p50_ns: float = 0.0
    service_p90_ns: float = 0.0
    late_share: float = 0.0
    lag_p99_ns: float = 0.0
    client_cpu_per_request_s: float = 0.0
    stall_share: float = 0.0
    first_p50_ns: float = 0.0
    first_p90_ns: float = 0.0
    answers: int = 0
    endpoints: tuple[EndpointFigures, ...] = ()
    gpu_energy_j: float | None = None
    cpu_energy_j: float | None = None
    energy_method: str = ""
    target_memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    host_memory_bytes: int | None = None
    guards: tuple[str, ...] = ()
    cached: bool = False

    @property
    def load(self) -> LoadPoint:
        return LoadPoint(self.concurrency, self.batch_size, self.rate, self.arrivals, self.cached)

    @property
    def p50_ms(self) -> float:
        return self.p50_ns / 1e6

    @property
    def p90_ms(self) -> float:
        return self.p90_ns / 1e6

    @property
    def p95_ms(self) -> float:
        return self.p95_ns / 1e6

    @property
    def p99_ms(self) -> float:
        return self.p99_ns / 1e6


@dataclass(frozen=True)
class Curve:
    """The load points of one sweep, in the order of the sweep.

    Attributes:
        measured: False in a smoke run (pytest without ``--gpuperf``). Nothing is measured there: every latency reads 0
            and every throughput infinity, so that budgets pass and the code after them runs.
        on_require: Called with each required budget, so that the record stores it; None if nothing listens.
    """

    name: str
    points: tuple[CurvePoint, ...]
    measured: bool = True
    on_require: Callable[[Budget], None] | None = field(default=None, compare=False, repr=False)

    def __iter__(self) -> Iterator[CurvePoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def at(
        self, concurrency: int | None = None, batch_size: int | None = None, *, rate: float | None = None
    ) -> CurvePoint:
        """Return the point of a concurrency or rate (and batch size).

        Raises:
            KeyError: The sweep has no such point.
        """
        for point in self.points:
            load = point.rate == rate if rate is not None else point.concurrency == concurrency
            if load and batch_size in (None, point.batch_size):
                return point
        missing = f"concurrency {concurrency}" if rate is None else f"{rate:g}/s"
        raise KeyError(f"{self.name} was not swept at {missing}, batch size {batch_size or 'any'}")

    def of(self, load: LoadPoint) -> CurvePoint:
        """Return the measured point of this load point.

        Raises:
            KeyError: The sweep has no such point.
        """
        for point in self.points:
            if load in (point.load, replace(point.load, cached=False)):
                return point
        raise KeyError(f"{self.name} was not swept at {load.label}")

    def best(
        self,
        *,
        p50_ms: float | None = None,
        p90_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
    ) -> CurvePoint:
        """Return the point of the highest throughput whose latencies keep within the given limits.

        Raises:
            BudgetMissed: No point does (an ``AssertionError``, so that the test fails).
        """
        __tracebackhide__ = True  # pytest shows the line of the test instead of this one
        budget = {"p50": p50_ms, "p90": p90_ms, "p95": p95_ms, "p99": p99_ms}
        limits = {name: limit for name, limit in budget.items() if limit is not None}
        within = [
            point
            for point in self.points
            if all(getattr(point, f"{name}_ms") <= limit for name, limit in limits.items())
        ]
        if not within:
            required = ", ".join(f"{name} <= {limit:g} ms" for name, limit in limits.items())
            measured = "; ".join(
                f"{point.load.label}: " + ", ".join(f"{name} {getattr(point, f'{name}_ms'):.3g} ms" for name in limits)
                for point in self.points
            )
            raise BudgetMissed(f"{self.name} has no load point with {required}: {measured}")
        return max(within, key=lambda point: point.throughput)

    def require(
        self,
        *,
        p50_ms: float | None = None,
        p90_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
    ) -> CurvePoint:
        """Require a latency budget: return the best point within it, and let the report draw it.

        Raises:
            BudgetMissed: No point keeps within the budget (an ``AssertionError``, so that the test fails).
            OptionError: No limit is given, or a limit is not positive.
        """
        __tracebackhide__ = True
        require_budget([self], p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms)
        return self.best(p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms)


@dataclass(frozen=True)
class Capacity:
    """The highest load within a latency budget.

    Attributes:
        point: Figures at this load, measured over fresh starts.
        confirmed: Whether further windows at this and at the next higher load confirmed the answer.
        reason: Readable reason why the search ended here.
    """

    point: CurvePoint
    confirmed: bool
    reason: str

    @property
    def concurrency(self) -> int:
        """Requests kept in flight; 0 in open loop."""
        return self.point.concurrency

    @property
    def rate(self) -> float:
        """Requests per second; 0 in closed loop."""
        return self.point.rate

    @property
    def throughput(self) -> float:
        """Inferences per second."""
        return self.point.throughput


@dataclass(frozen=True)
class Duet:
    """The curves of a duet's two sides."""

    candidate: Curve
    reference: Curve

    @property
    def measured(self) -> bool:
        """Whether the points were measured; False in a smoke run."""
        return self.candidate.measured


def require_budget(curves: Iterable[Curve], **limits_ms: float | None) -> None:
    """Record on each curve that a test requires a budget of it.

    Raises:
        OptionError: No limit is given, or a limit is not positive.
    """
    try:
        budget = Budget.of_ms(**limits_ms)
    except ValueError as error:
        raise OptionError(f"require(): {error}.") from None
    for curve in curves:
        if curve.on_require is not None:
            curve.on_require(budget)


def curve_of(name: str, points: Sequence[LoadPoint], runs: Sequence[Run]) -> Curve:
    """Return the curve of a sweep over all of its runs, complete or not; points without a window are left out.

    Its figures come from the windows that the gate compares (``windows_by_point``), its errors from all windows.
    """
    figures = figures_by_point(runs)
    errors: Counter[LoadPoint] = Counter()
    for window in (window for run in runs for window in run.windows):
        errors[window.point] += window.error_count
    wanted = dict.fromkeys(variant for point in points for variant in (point, replace(point, cached=True)))
    return Curve(name, tuple(_point(figures[point], errors[point]) for point in wanted if point in figures))


def curves_of(runs: Iterable[Run]) -> tuple[Curve, ...]:
    """Return the curve of each sweep, its points in the order of batch size and load."""
    sweeps: dict[str, list[Run]] = {}
    for run in runs:
        sweeps.setdefault(run.sweep, []).append(run)
    return tuple(curve_of(name, _points(sweep_runs), sweep_runs) for name, sweep_runs in sweeps.items())


def _points(runs: Sequence[Run]) -> list[LoadPoint]:
    points = {window.point for run in runs for window in run.windows}
    return sorted(points, key=lambda point: (point.batch_size, point.concurrency, point.rate, point.arrivals))


def smoke_curve(name: str, points: Sequence[LoadPoint]) -> Curve:
    """Return the curve of a smoke run; see ``Curve.measured``."""
    smoked = (
        CurvePoint(p.concurrency, p.batch_size, throughput=math.inf, rate=p.rate, arrivals=p.arrivals) for p in points
    )
    return Curve(name, tuple(smoked), measured=False)


def _point(figures: PointFigures, errors: int) -> CurvePoint:
    point, latency, memory = figures.point, figures.latency, figures.memory or Memory()
    return CurvePoint(
        concurrency=point.concurrency,
        batch_size=point.batch_size,
        rate=point.rate,
        arrivals=point.arrivals,
        requests=figures.requests,
        errors=errors,
        throughput=figures.throughput,
        mean_ns=figures.latency_mean_ns,
        p50_ns=quantile_or_zero_ns(latency, 0.50),
        p90_ns=quantile_or_zero_ns(latency, 0.90),
        p95_ns=quantile_or_zero_ns(latency, 0.95),
        p99_ns=quantile_or_zero_ns(latency, 0.99),
        supported=frozenset(name for name, q in QUANTILES.items() if latency.supports(q)),
        server=figures.server,
        service_p50_ns=quantile_or_zero_ns(figures.service, 0.5),
        service_p90_ns=quantile_or_zero_ns(figures.service, 0.9),
        late_share=figures.late_share,
        lag_p99_ns=figures.lag_p99_ns,
        client_cpu_per_request_s=figures.client_cpu_per_request_s,
        stall_share=figures.stall_share,
        first_p50_ns=quantile_or_zero_ns(figures.first, 0.5),
        first_p90_ns=quantile_or_zero_ns(figures.first, 0.9),
        answers=figures.answers,
        endpoints=figures.endpoints,
        gpu_energy_j=figures.energy_j("gpu"),
        cpu_energy_j=figures.energy_j("cpu"),
        energy_method="+".join(figures.energy_methods),
        target_memory_bytes=memory.target_bytes,
        device_memory_bytes=memory.device_bytes,
        host_memory_bytes=memory.host_bytes,
        guards=figures.guards,
        cached=point.cached,
    )
