"""Scaling: one throughput-latency curve for each number of replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model.curve import BudgetMissed, Curve, CurvePoint, require_budget


@dataclass(frozen=True)
class RequiredReplicas:
    """The fewest replicas that satisfy a demand, and the load point at which they were measured to satisfy it."""

    replicas: int
    point: CurvePoint


@dataclass(frozen=True)
class Scaling:
    """The same loads on increasing numbers of replicas: each number with its curve, the fewest first."""

    name: str
    curves: tuple[tuple[int, Curve], ...]

    def __iter__(self) -> Iterator[tuple[int, Curve]]:
        return iter(self.curves)

    @property
    def replicas(self) -> tuple[int, ...]:
        """Numbers of replicas that were measured."""
        return tuple(count for count, _ in self.curves)

    @property
    def measured(self) -> bool:
        """False in a smoke run; see ``Curve.measured``."""
        return all(curve.measured for _, curve in self.curves)

    def at(self, replicas: int) -> Curve:
        """Return the curve of a number of replicas.

        Raises:
            KeyError: This number was not measured.
        """
        for count, curve in self.curves:
            if count == replicas:
                return curve
        raise KeyError(
            f"{self.name} was not measured with {replicas} replicas, only with " + ", ".join(map(str, self.replicas))
        )

    def speedup(self, replicas: int) -> float:
        """Return the highest throughput of a number of replicas, relative to that of the fewest.

        Raises:
            KeyError: This number was not measured.
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
        """Return the fewest replicas that satisfy a demand within a latency budget.

        Only measured points count: nothing is interpolated or extrapolated, and a point with too few requests for a
        percentile of the budget is no proof.

        Args:
            throughput: Inferences per second to reach, at any load.
            concurrency, rate: Load to serve; one of the sweep's.

        Raises:
            BudgetMissed: No measured number of replicas suffices (an ``AssertionError``, so that the test fails).
            OptionError: No demand is given, or the sweep does not have this load.
        """
        if throughput is None and concurrency is None and rate is None:
            raise OptionError("needed(): give a demand: throughput= (inferences per second), concurrency= or rate=.")
        limits_ms = {"p50_ms": p50_ms, "p90_ms": p90_ms, "p95_ms": p95_ms, "p99_ms": p99_ms}
        quantiles = {name.removesuffix("_ms") for name, limit in limits_ms.items() if limit is not None}
        reasons = []
        for count, curve in self.curves:
            loaded = [
                point
                for point in curve
                if concurrency in (None, point.concurrency) and (rate is None or point.rate == rate)
            ]
            if not loaded:
                measured = ", ".join(point.load.label for point in curve)
                raise OptionError(f"{curve.name} was not measured at that load, only at {measured}.")
            supported = [point for point in loaded if quantiles <= point.supported or not curve.measured]
            if not supported:
                reasons.append(f"{curve.name}: too few requests for its {', '.join(sorted(quantiles))}")
                continue
            try:
                best = replace(curve, points=tuple(supported)).best(**limits_ms)
            except BudgetMissed as missed:
                reasons.append(str(missed))
                continue
            if throughput is None or best.throughput >= throughput:
                return RequiredReplicas(count, best)
            reasons.append(f"{curve.name}: within the budget at most {best.throughput:.4g}/s, at {best.load.label}")
        demand = f"{throughput:g}/s" if throughput is not None else "the load"
        raise BudgetMissed(
            f"{self.name}: none of {', '.join(map(str, self.replicas))} replicas serves {demand} within the budget.\n  "
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
            BudgetMissed, OptionError: As for ``needed``; also if no limit is given, or a limit is not positive.
        """
        __tracebackhide__ = True
        curves = [curve for _, curve in self.curves]
        require_budget(curves, p50_ms=p50_ms, p90_ms=p90_ms, p95_ms=p95_ms, p99_ms=p99_ms)
        return self.needed(
            throughput=throughput,
            concurrency=concurrency,
            rate=rate,
            p50_ms=p50_ms,
            p90_ms=p90_ms,
            p95_ms=p95_ms,
            p99_ms=p99_ms,
        )
