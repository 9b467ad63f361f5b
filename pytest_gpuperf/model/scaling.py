"""What more replicas bring: one throughput-latency curve for each number of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model.budget import Budget
from pytest_gpuperf.model.curve import BudgetMissed, Curve, CurvePoint


@dataclass(frozen=True)
class RequiredReplicas:
    """The fewest replicas that do.

    Attributes:
        point: the load point at which they were seen to.
    """

    replicas: int
    point: CurvePoint


@dataclass(frozen=True)
class Scaling:
    """The same loads on more and more replicas.

    Attributes:
        curves: number of replicas and their curve, the fewest first.
    """

    name: str
    curves: tuple[tuple[int, Curve], ...]

    def __iter__(self) -> Iterator[tuple[int, Curve]]:
        return iter(self.curves)

    @property
    def replicas(self) -> tuple[int, ...]:
        """The numbers of replicas that were measured."""
        return tuple(count for count, _ in self.curves)

    @property
    def measured(self) -> bool:
        """False in a smoke run, see ``Curve.measured``."""
        return all(curve.measured for _, curve in self.curves)

    def at(self, replicas: int) -> Curve:
        """The curve of so many replicas.

        Raises:
            KeyError: so many were not measured.
        """
        for count, curve in self.curves:
            if count == replicas:
                return curve
        raise KeyError(f"{self.name} was not measured with {replicas} replicas, but with {self.replicas}")

    def speedup(self, replicas: int) -> float:
        """How many times the highest throughput of the fewest replicas these reach.

        Raises:
            KeyError: so many were not measured.
        """
        curve = self.at(replicas)
        fewest, first = self.curves[0]
        if not self.measured:
            return replicas / fewest
        return curve.best().throughput / first.best().throughput

    def needed(
        self,
        *,
        throughput: float | None = None,
        concurrency: int | None = None,
        rate: float | None = None,
        p50_ms: float | None = None,
        p90_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
    ) -> RequiredReplicas:
        """The fewest replicas that bear a demand within a latency budget.

        Only what was measured counts: nothing is read between two points or beyond the last, and a point with too few
        requests for a percentile of the budget doesn't show that it keeps it.

        Args:
            throughput: inferences per second that are wanted, at whatever load reaches them.
            concurrency, rate: the load that has to be borne; one of the sweep's.
            p50_ms, p90_ms, p95_ms, p99_ms: the budget.

        Raises:
            BudgetMissed: not even the most replicas do (an ``AssertionError``, so the test fails).
            OptionError: no demand is given, or the load was not part of the sweep.
        """
        if throughput is None and concurrency is None and rate is None:
            raise OptionError("needed() wants a demand: throughput= (inferences per second), concurrency= or rate=.")
        budget = {"p50": p50_ms, "p90": p90_ms, "p95": p95_ms, "p99": p99_ms}
        quantiles = {name for name, limit in budget.items() if limit is not None}
        reasons = []
        for count, curve in self.curves:
            loaded = [
                point
                for point in curve
                if concurrency in (None, point.concurrency) and (rate is None or point.rate == rate)
            ]
            if not loaded:
                had = ", ".join(point.load.label for point in curve)
                raise OptionError(f"{curve.name} was not measured at that load, only at {had}.")
            shown = [point for point in loaded if quantiles <= point.supported or not curve.measured]
            if not shown:
                reasons.append(f"{curve.name}: too few requests to tell its {', '.join(sorted(quantiles))}")
                continue
            try:
                best = replace(curve, points=tuple(shown)).best(
                    p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms
                )
            except BudgetMissed as missed:
                reasons.append(str(missed))
                continue
            if throughput is None or best.throughput >= throughput:
                return RequiredReplicas(count, best)
            reasons.append(f"{curve.name}: within the budget at most {best.throughput:.4g}/s, at {best.load.label}")
        wanted = f"{throughput:g}/s" if throughput is not None else "the load"
        raise BudgetMissed(
            f"{self.name}: none of {', '.join(map(str, self.replicas))} replicas bears {wanted} within the budget.\n  "
            + "\n  ".join(reasons)
        )

    def require(
        self,
        *,
        throughput: float | None = None,
        concurrency: int | None = None,
        rate: float | None = None,
        p50_ms: float | None = None,
        p90_ms: float | None = None,
        p95_ms: float | None = None,
        p99_ms: float | None = None,
    ) -> RequiredReplicas:
        """Require a latency budget: as ``needed``, and let the report draw the budget.

        Raises:
            BudgetMissed, OptionError: As for ``needed``; also if no limit is given, or one is not positive.
        """
        __tracebackhide__ = True
        try:
            budget = Budget.of_ms(p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms)
        except ValueError as error:
            raise OptionError(f"require(): {error}.") from None
        for _, curve in self.curves:
            if curve.on_require is not None:
                curve.on_require(budget)
        return self.needed(
            throughput=throughput,
            concurrency=concurrency,
            rate=rate,
            p50_ms=p50_ms,
            p90_ms=p90_ms,
            p95_ms=p95_ms,
            p99_ms=p99_ms,
        )
