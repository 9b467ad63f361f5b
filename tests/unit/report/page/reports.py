"""What a report is given, made up but whole: sweeps whose throughput saturates, a baseline, a history, costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from random import Random
from statistics import NormalDist

from pytest_gpuperf.model import (
    Budget,
    Change,
    Comparison,
    Curve,
    Histogram,
    LoadPoint,
    PointCost,
    Record,
    ReportedTest,
    Row,
    Run,
    ServerTimes,
    StartTimes,
    Verdict,
    Window,
    curve_of,
    worst,
)
from tests.unit.factories import KEY, histogram, utc

#: A name that tries to leave its place in HTML, Markdown and scripts.
HOSTILE = "tests/a.py::t[</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}](javascript:1)]"
WHEN = "2026-01-13T10:00:00"
LEVELS = tuple(LoadPoint(level) for level in (1, 2, 4, 8, 16, 32))
#: What a slower server looks like, by concurrency: little at low load, much at high.
SLOWER = {1: 1.02, 2: 1.03, 4: 1.08, 8: 1.24, 16: 1.31, 32: 1.35}
_SERVICE_MS, _PARALLEL = 4.0, 6.0


def latency_ms(point: LoadPoint, factor: float = 1.0) -> float:
    """Median of a server that answers some requests side by side, and lets the others wait."""
    load = point.concurrency or point.rate * _SERVICE_MS / 1e3
    waiting: float = max(load / _PARALLEL - 0.4, 0) ** 1.15
    return factor * _SERVICE_MS * (0.7 + 0.3 * point.batch_size) * (1 + waiting)


@cache
def _shape(requests: int) -> tuple[float, ...]:
    normal = NormalDist(0.0, 0.18)
    return tuple(math.exp(normal.inv_cdf((index + 0.5) / requests)) for index in range(requests))


def spread(p50_ms: float, requests: int) -> Histogram:
    """Log-normal with a second, slower mode, as batching makes it."""
    quantiles = _shape(requests)
    return histogram(p50_ms * 1e6 * value * (1.45 if index % 7 == 0 else 1.0) for index, value in enumerate(quantiles))


def window(point: LoadPoint, factor: float, *, requests: int = 400, sweep: str = "serving", visit: int = 0) -> Window:
    p50_ms = latency_ms(point, factor)
    mean_ns = p50_ms * 1.09e6
    queue_ns = max(p50_ms - _SERVICE_MS * factor, 0.0) * 0.8e6
    compute_ns = mean_ns - queue_ns - 0.55e6
    queue, into, compute, out = (round(value * requests) for value in (queue_ns, 0.15e6, compute_ns, 0.05e6))
    return Window(
        sweep=sweep,
        point=point,
        visit=visit,
        window_s=1.0,
        requests=requests,
        throughput=(point.rate or point.concurrency * 1e3 / (p50_ms * 1.09)) * point.batch_size,
        latency_mean_ns=mean_ns,
        latency=spread(p50_ms, requests),
        client_cpu_s=2e-5 * requests,
        server=ServerTimes(requests, requests, queue, into, compute, out),
    )


def runs(
    points: Sequence[LoadPoint],
    factors: Mapping[int, float] | float = 1.0,
    *,
    count: int = 2,
    requests: int = 400,
    sweep: str = "serving",
    chance: Random | None = None,
) -> tuple[Run, ...]:
    def factor(point: LoadPoint) -> float:
        typical = factors if isinstance(factors, float) else factors.get(point.concurrency, 1.0)
        return typical * (chance.lognormvariate(0.0, 0.02) if chance else 1.0)

    return tuple(
        Run(
            sweep,
            index,
            StartTimes(2.5),
            0.7,
            True,
            tuple(
                window(point, factor(point) * (1 + 0.004 * index), requests=requests, sweep=sweep) for point in points
            ),
        )
        for index in range(count)
    )


def record(
    test: str,
    made: tuple[Run, ...],
    *,
    minute: int = 0,
    name: str = "",
    gate: str = "passed",
    commit: str = "4f2a9c1d7e",
) -> Record:
    return Record(
        id=name or f"{minute:012x}",
        invocation="f0" * 16,
        test=test,
        created_utc=utc(minute),
        key={**KEY, "test": test},
        status="complete",
        gate=gate,
        runs=made,
        commit=commit,
        under_test={"serving": {"model": "resnet50", "engine": "sha256:8c1f…", "triton": "2.51.0"}},
        environment={"driver": "550.90.07", "host": "runner-3", "cuda": "12.4"},
        settings={"runs": len(made), "window_s": 1.0},
    )


def with_resources(curve: Curve, factor: float = 1.0) -> Curve:
    """Energy falls with the load, memory grows."""
    return replace(
        curve,
        points=tuple(
            replace(
                point,
                gpu_energy_j=factor * (0.09 + 0.25 / (point.concurrency or 8)),
                energy_method="nvml-counter",
                target_memory_bytes=int((1.4 + 0.02 * point.concurrency) * factor * (1 << 30)),
                device_memory_bytes=int((1.9 + 0.02 * point.concurrency) * factor * (1 << 30)),
                host_memory_bytes=int(0.6 * (1 << 30)),
            )
            for point in curve
        ),
    )


def rows(
    verdict: Verdict, points: Sequence[LoadPoint], factors: Mapping[int, float], sweep: str = "serving"
) -> tuple[Row, ...]:
    """p90 and throughput of each point; what changed less than 10% is unchanged."""
    actual = []
    for point in points:
        factor = factors.get(point.concurrency, 1.0)
        p90_ns = latency_ms(point) * 1.3e6
        rate = point.concurrency * 1e3 / latency_ms(point)
        for metric, ratio, base in (("p90", factor, p90_ns), ("throughput", 1 / factor, rate)):
            changed = abs(math.log(ratio)) > 0.1
            own = verdict if changed or verdict is Verdict.INCONCLUSIVE else Verdict.UNCHANGED
            wide = 0.18 if own is Verdict.INCONCLUSIVE else 0.035
            ends = ratio * math.exp(-wide), ratio * math.exp(wide)
            actual.append(
                Row(sweep, point, metric, base * ratio, base, ratio, *ends, 0.002 if changed else 0.4, own, 0.06)
            )
    return tuple(actual)


def reported(
    test: str = "tests/test_serving.py::test_resnet50",
    verdict: Verdict = Verdict.REGRESSED,
    *,
    points: Sequence[LoadPoint] = LEVELS,
    factors: Mapping[int, float] | None = None,
    history: int = 12,
    requests: int = 400,
    resources: bool = True,
    budgets: tuple[Budget, ...] = (Budget.of_ms(p90_ms=12.0),),
    changes: tuple[Change, ...] = (),
    error: str = "",
    chance: Random | None = None,
) -> ReportedTest:
    """One test of a report.

    Args:
        chance: where no two tests should have the same numbers.
    """
    if factors is None:
        kinds = {Verdict.REGRESSED: 1.0, Verdict.IMPROVED: -0.6, Verdict.INCONCLUSIVE: 0.15}
        factors = {level: math.exp(kinds.get(verdict, 0.02) * math.log(value)) for level, value in SLOWER.items()}
    compared = verdict not in (Verdict.NO_BASELINE, Verdict.NOT_COMPARABLE)
    own = record(
        test, runs(points, factors, requests=requests, chance=chance), minute=1440 * history, commit="9be41c07aa55"
    )
    past = tuple(
        record(
            test,
            runs(
                points,
                1.0 + 0.01 * math.sin(index * 1.7) + (0.2 if index == 5 else 0.0),
                count=1,
                requests=60,
                chance=chance,
            ),
            minute=1440 * index,
            gate="failed" if index == 5 else "passed",
        )
        for index in range(history)
    )
    curve = curve_of("serving", points, own.runs)
    base = curve_of("serving", points, past[-1].runs if past and compared else ())
    if resources:
        curve, base = with_resources(curve, 1.04), with_resources(base)
    actual = rows(verdict, points, factors) if compared else ()
    return ReportedTest(
        record=replace(own, budgets=budgets),
        curves=(curve,),
        comparison=Comparison(
            verdict=worst([row.verdict for row in actual]) if actual else verdict,
            rows=actual,
            baseline=tuple(value.id for value in past[::-1]) if compared else (),
            changes=changes,
            differing=None if verdict is not Verdict.NOT_COMPARABLE else {"power_limit_w": (72, 60)},
        ),
        base_curves=(base,) if compared and past else (),
        baseline=past[::-1] if compared else (),
        history=(*past, own) if history else (),
        costs=tuple(
            PointCost(
                "serving",
                p.load,
                name,
                hourly,
                hourly / 3600 / p.throughput * 1e6 * slow,
                p.throughput,
                p.p90_ns * slow,
            )
            for name, hourly, slow in (("g6.xlarge", 0.805, 1.0), ("g5.xlarge", 1.006, 0.83))
            for p in curve
        )
        if resources
        else (),
        path=f".gpuperf/nvidia-l4/0a1b2c/{own.id}.json",
        error=error,
    )
