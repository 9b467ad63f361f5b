"""Factories of records and their parts from plain numbers, for tests of every layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cache
from statistics import NormalDist

from hypothesis import strategies as st

from pytest_gpuperf.model import (
    Budget,
    Curve,
    CurvePoint,
    EndpointFigures,
    Energy,
    Finding,
    GpuReadings,
    Histogram,
    LoadPoint,
    Memory,
    PlainMapping,
    Record,
    Row,
    Run,
    ServerTimes,
    StartTimes,
    Verdict,
    Window,
    bucket_of,
)

TEST = "tests/test_serving.py::test_resnet50"
KEY: PlainMapping = {"device": "NVIDIA L4", "power_limit_w": 72, "test": TEST, "version": 1, "method_version": 1}
#: Concurrency 1, batch size 1.
SINGLE = LoadPoint()
QUANTILES = frozenset({"p50", "p90", "p95", "p99"})


def utc(minute: int) -> str:
    """Return the time so many minutes after the beginning of 2026, in the format of records."""
    return (datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=minute)).isoformat(timespec="milliseconds")


def histogram(latencies_ns: Iterable[float]) -> Histogram:
    counts = sorted(Counter(map(bucket_of, latencies_ns)).items())
    return Histogram(tuple(bucket for bucket, _ in counts), tuple(count for _, count in counts))


@cache
def _shape(requests: int) -> tuple[float, ...]:
    """Return quantiles of a log-normal distribution of median 1: latencies without randomness."""
    normal = NormalDist(0.0, 0.1)
    return tuple(math.exp(normal.inv_cdf((index + 0.5) / requests)) for index in range(requests))


def window(
    point: LoadPoint = SINGLE,
    *,
    p50_ms: float = 1.0,
    throughput: float | None = None,
    requests: int = 60,
    sweep: str = "serving",
    visit: int = 0,
    window_s: float = 0.5,
    errors: Mapping[str, int] | None = None,
    server: ServerTimes | None = None,
    findings: tuple[Finding, ...] = (),
) -> Window:
    """Return a window of a given median. Its throughput is the rate, or that of a closed loop with this latency."""
    requests_per_s = point.rate or point.concurrency * 1e3 / p50_ms
    latencies = [p50_ms * 1e6 * factor for factor in _shape(requests)]
    return Window(
        sweep=sweep,
        point=point,
        visit=visit,
        window_s=window_s,
        requests=requests,
        throughput=requests_per_s * point.batch_size if throughput is None else throughput,
        latency_mean_ns=sum(latencies) / requests if requests else 0.0,
        latency=histogram(latencies),
        errors=errors or {},
        server=server,
        findings=findings,
    )


def guarded(window: Window, *guards: str) -> Window:
    """The window with a finding for each guard."""
    return replace(window, findings=tuple(Finding(f"{guard} is its kind", guard) for guard in guards))


def run(
    *windows: Window,
    index: int = 0,
    sweep: str = "serving",
    complete: bool = True,
    warm: bool = True,
    start: StartTimes | None = None,
) -> Run:
    return Run(
        sweep, index, start or StartTimes(2.5), warmup_s=0.75, warmed_up=warm, windows=windows, complete=complete
    )


def points(count: int) -> tuple[LoadPoint, ...]:
    """Return the load points of concurrency 1, 2, 4, ..."""
    return tuple(LoadPoint(2**index) for index in range(count))


def record(
    p50_ms: Sequence[Sequence[float]] = ((1.0,),),
    *,
    throughput: Sequence[Sequence[float]] | None = None,
    at: Sequence[LoadPoint] | None = None,
    requests: int = 60,
    name: str = "0a1b2c3d4e5f",
    minute: int = 0,
    key: PlainMapping = KEY,
    status: str = "complete",
    gate: str = "passed",
    commit: str = "1234567890abcdef",
    under_test: Mapping[str, PlainMapping] | None = None,
    environment: PlainMapping | None = None,
    settings: PlainMapping | None = None,
) -> Record:
    """Return a record of a single sweep.

    Args:
        p50_ms: Median at every load point, for every run.
        throughput: Throughput at every load point, for every run; that of a closed loop by default.
        at: Load points; concurrencies 1, 2, 4, ... by default.
    """
    runs = []
    for index, levels in enumerate(p50_ms):
        rates: Sequence[float | None] = throughput[index] if throughput else [None] * len(levels)
        windows = [
            window(point, p50_ms=level, throughput=rate, requests=requests)
            for point, level, rate in zip(at or points(len(levels)), levels, rates, strict=True)
        ]
        runs.append(run(*windows, index=index))
    return Record(
        id=name,
        invocation="f0" * 16,
        test=str(key["test"]),
        created_utc=utc(minute),
        key=key,
        status=status,
        gate=gate,
        runs=tuple(runs),
        commit=commit,
        under_test=under_test or {},
        environment=environment or {},
        settings=settings or {},
    )


def equal_runs(p50_ms: float = 1.0, *, runs: int = 3, load_points: int = 1) -> tuple[tuple[float, ...], ...]:
    """Return the same medians for all runs: ``k`` times ``p50_ms`` at the ``k``-th load point."""
    return (tuple(p50_ms * (index + 1) for index in range(load_points)),) * runs


def server_times(requests: int = 60) -> ServerTimes:
    """Return 0.1 ms in the queue, 0.05 ms input, 0.6 ms inference and 0.02 ms output for each request."""
    return ServerTimes(requests, requests, 100_000 * requests, 50_000 * requests, 600_000 * requests, 20_000 * requests)


def curve_point(
    concurrency: int = 1,
    batch_size: int = 1,
    *,
    p50_ms: float = 1.0,
    throughput: float = 1000.0,
    supported: frozenset[str] = QUANTILES,
    server: ServerTimes | None = None,
) -> CurvePoint:
    """Return a point whose p90, p95 and p99 are 20%, 30% and 50% above its p50."""
    p50_ns = p50_ms * 1e6
    return CurvePoint(
        concurrency=concurrency,
        batch_size=batch_size,
        requests=1000,
        errors=0,
        throughput=throughput,
        mean_ns=1.05 * p50_ns,
        p50_ns=p50_ns,
        p90_ns=1.2 * p50_ns,
        p95_ns=1.3 * p50_ns,
        p99_ns=1.5 * p50_ns,
        supported=supported,
        server=server,
    )


def curve(*members: CurvePoint, name: str = "serving") -> Curve:
    return Curve(name, members)


def row(
    verdict: Verdict = Verdict.UNCHANGED,
    *,
    point: LoadPoint | None = SINGLE,
    metric: str = "p50",
    ratio: float = 1.0,
    low: float | None = None,
    high: float | None = None,
    p_value: float = 0.5,
    min_detectable: float = 0.1,
    records_to_decide: int | None = 0,
) -> Row:
    """Return a row whose baseline is 1 ms or 1000 inferences per second; its interval is 5% to either side."""
    baseline = 1000.0 if metric == "throughput" else 1e6
    return Row(
        sweep="serving",
        point=point,
        metric=metric,
        candidate=baseline * ratio,
        baseline=baseline,
        ratio=ratio,
        low=0.95 * ratio if low is None else low,
        high=1.05 * ratio if high is None else high,
        p_value=p_value,
        verdict=verdict,
        min_detectable=min_detectable,
        records_to_decide=records_to_decide,
    )


# Strategies of hypothesis: any record that the model accepts.

_NAMES = st.text(max_size=12)
_COUNTS = st.integers(0, 10**9)
_SERVER = (_COUNTS,) * 6
_NUMBERS = st.floats(-1e9, 1e9)
_AMOUNTS = st.floats(0, 1e9)
_PLAIN_MAPPINGS = st.dictionaries(
    _NAMES,
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _NAMES,
    max_size=4,
)


def histograms() -> st.SearchStrategy[Histogram]:
    counts = st.dictionaries(st.integers(0, 6000), st.integers(1, 10**9), max_size=6)
    return counts.map(lambda count: Histogram(tuple(sorted(count)), tuple(count[bucket] for bucket in sorted(count))))


def load_points() -> st.SearchStrategy[LoadPoint]:
    """Load points of closed and of open loop."""
    batch_sizes = st.integers(1, 1024)
    rates = st.floats(0, 1e9, exclude_min=True, allow_nan=False, allow_subnormal=False)
    return st.builds(LoadPoint, st.integers(1, 4096), batch_sizes) | st.builds(
        LoadPoint, st.just(0), batch_sizes, rates, _NAMES
    )


def _windows() -> st.SearchStrategy[Window]:
    return st.builds(
        Window,
        sweep=_NAMES,
        point=load_points(),
        visit=_COUNTS,
        window_s=st.floats(1e-9, 1e9),
        requests=_COUNTS,
        throughput=_AMOUNTS,
        latency_mean_ns=_AMOUNTS,
        latency=histograms(),
        errors=st.dictionaries(_NAMES, _COUNTS, max_size=3),
        client_cpu_s=_NUMBERS,
        stall_s=_NUMBERS,
        client_wait_s=_NUMBERS,
        client_halted_s=_NUMBERS,
        client_stops=st.integers(0, 9),
        service=st.none() | histograms(),
        late=_COUNTS,
        lag_p99_ns=_NUMBERS,
        first=st.none() | histograms(),
        answers=_COUNTS,
        endpoints=st.lists(
            st.builds(EndpointFigures, _NAMES, _COUNTS, _COUNTS, _AMOUNTS, st.none() | histograms()), max_size=2
        ).map(tuple),
        others_cpu_share=st.none() | st.floats(0, 1),
        caller_wait_share=st.none() | st.floats(0, 1),
        server=st.none()
        | st.builds(ServerTimes, *_SERVER, st.dictionaries(_NAMES, st.builds(ServerTimes, *_SERVER), max_size=2)),
        findings=st.lists(_findings(), max_size=2).map(tuple),
        energy=st.lists(_energies(), max_size=2).map(tuple),
        memory=st.none() | st.builds(Memory, *(st.none() | _COUNTS,) * 3),
        gpus=st.lists(_gpus(), max_size=2).map(tuple),
    )


def _findings() -> st.SearchStrategy[Finding]:
    return st.builds(Finding, _NAMES, _NAMES, _NUMBERS, _NUMBERS, st.lists(_NAMES, max_size=2).map(tuple), _NAMES)


def _energies() -> st.SearchStrategy[Energy]:
    return st.builds(Energy, _NAMES, _NAMES, _AMOUNTS, _AMOUNTS, st.none() | _NUMBERS)


def _gpus() -> st.SearchStrategy[GpuReadings]:
    names = st.lists(_NAMES, max_size=2).map(tuple)
    return st.builds(GpuReadings, _NAMES, _COUNTS, *(st.none() | _NUMBERS,) * 8, names, names)


def _runs() -> st.SearchStrategy[Run]:
    times = st.none() | _NUMBERS
    return st.builds(
        Run,
        sweep=_NAMES,
        index=_COUNTS,
        start=st.builds(StartTimes, times, st.booleans(), times, times, st.none() | st.floats(0, 1)),
        warmup_s=_NUMBERS,
        warmed_up=st.booleans(),
        windows=st.lists(_windows(), max_size=2).map(tuple),
        complete=st.booleans(),
    )


def records() -> st.SearchStrategy[Record]:
    return st.builds(
        Record,
        id=st.from_regex(r"[0-9a-f]{1,12}", fullmatch=True),
        invocation=_NAMES,
        test=_NAMES,
        created_utc=st.integers(0, 10**6).map(utc),
        key=_PLAIN_MAPPINGS,
        status=st.sampled_from(["complete", "incomplete"]),
        gate=st.sampled_from(["passed", "failed", "open", "suspect", "inherited"]),
        runs=st.lists(_runs(), max_size=2).map(tuple),
        commit=_NAMES,
        under_test=st.dictionaries(_NAMES, _PLAIN_MAPPINGS, max_size=2),
        environment=_PLAIN_MAPPINGS,
        settings=_PLAIN_MAPPINGS,
        reference_under_test=st.dictionaries(_NAMES, _PLAIN_MAPPINGS, max_size=2),
        device_kind=st.sampled_from(["gpu", "cpu", "unknown"]),
        budgets=st.sampled_from([(), (Budget.of_ms(p50_ms=1.5), Budget.of_ms(p90_ms=2, p99_ms=3))]),
        kept_points=st.dictionaries(_NAMES, st.lists(load_points(), max_size=2).map(tuple), max_size=2),
    )
