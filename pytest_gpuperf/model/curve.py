"""What a sweep returns to the test that asked for it: the throughput-latency curve."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_gpuperf.model.records import LoadPoint, Run, ServerTimes, Window, gather

_QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}


class BudgetMissed(AssertionError):
    """No load point keeps within the budget."""


@dataclass(frozen=True)
class CurvePoint:
    """One load point over all runs.

    Attributes:
        throughput: inferences per second.
        supported: the quantiles for which there were enough requests, as ``p50``.
        server: the server's own times, summed over the windows; None where it gave none.
    """

    concurrency: int
    batch_size: int
    requests: int
    errors: int
    throughput: float
    mean_ns: float
    p50_ns: float
    p90_ns: float
    p95_ns: float
    p99_ns: float
    supported: frozenset[str] = frozenset()
    server: ServerTimes | None = None

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
    """All load points of one sweep, in the order they were asked for.

    Attributes:
        measured: False in a smoke run (pytest without ``--gpuperf``). Nothing was measured then, so every latency
            reads 0 and every throughput infinity: budgets pass, and code behind them is still tried.
    """

    name: str
    points: tuple[CurvePoint, ...]
    measured: bool = True

    def __iter__(self) -> Iterator[CurvePoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def at(self, concurrency: int, batch_size: int | None = None) -> CurvePoint:
        """The point of that concurrency (and batch size).

        Raises:
            KeyError: it was not part of the sweep.
        """
        for point in self.points:
            if point.concurrency == concurrency and batch_size in (None, point.batch_size):
                return point
        raise KeyError(f"{self.name} was not swept at concurrency {concurrency}, batch size {batch_size or 'any'}")

    def best(
        self,
        *,
        p50_ms: float | None = None,
        p90_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
    ) -> CurvePoint:
        """The point of the highest throughput whose latencies keep within the budget.

        Raises:
            BudgetMissed: there is none (an ``AssertionError``, so the test fails).
        """
        budget = {"p50": p50_ms, "p90": p90_ms, "p95": p95_ms, "p99": p99_ms}
        limits = {name: limit for name, limit in budget.items() if limit is not None}
        within = [
            point
            for point in self.points
            if all(getattr(point, f"{name}_ms") <= limit for name, limit in limits.items())
        ]
        if not within:
            asked = ", ".join(f"{name} <= {limit:g} ms" for name, limit in limits.items())
            had = "; ".join(f"{_label(point)}: {_figures(point, limits)}" for point in self.points)
            raise BudgetMissed(f"{self.name} has no load point with {asked}: {had}")
        return max(within, key=lambda point: point.throughput)


def _figures(point: CurvePoint, names: Iterable[str]) -> str:
    return ", ".join(f"{name} {getattr(point, f'{name}_ms'):.3g} ms" for name in names)


def _label(point: CurvePoint) -> str:
    return LoadPoint(point.concurrency, point.batch_size).label


def curve_of(name: str, points: Sequence[LoadPoint], runs: Sequence[Run]) -> Curve:
    """The curve over all complete and incomplete runs of a sweep; points without a window are left out."""
    windows: dict[LoadPoint, list[Window]] = {}
    for run in runs:
        for window in run.windows:
            windows.setdefault(window.point, []).append(window)
    return Curve(name, tuple(_point(point, windows[point]) for point in points if point in windows))


def unmeasured(name: str, points: Sequence[LoadPoint]) -> Curve:
    """The curve of a smoke run; see ``Curve.measured``."""
    return Curve(
        name,
        tuple(CurvePoint(p.concurrency, p.batch_size, 0, 0, float("inf"), 0.0, 0.0, 0.0, 0.0, 0.0) for p in points),
        measured=False,
    )


def _point(point: LoadPoint, windows: list[Window]) -> CurvePoint:
    whole = gather(point, windows)
    quantiles = {f"{name}_ns": whole.latency.quantile_ns(q) for name, q in _QUANTILES.items()}
    return CurvePoint(
        concurrency=point.concurrency,
        batch_size=point.batch_size,
        requests=whole.requests,
        errors=whole.errors,
        throughput=whole.throughput,
        mean_ns=whole.latency_mean_ns,
        supported=frozenset(name for name, q in _QUANTILES.items() if whole.latency.supports(q)),
        server=_server([window.server for window in windows]),
        **quantiles,
    )


def _server(times: list[ServerTimes | None]) -> ServerTimes | None:
    known = [one for one in times if one is not None]
    return functools.reduce(operator.add, known) if known and len(known) == len(times) else None
