"""Window figures: from the times of single requests to the figures of one window.

The rule for requests at an edge, for a window ``[start, stop)`` under a load that is applied before and after it, too:

* **Latency**: a request belongs to the window in which it was *due* (sent, in closed loop), and is followed to its end,
  however long that takes. The number of requests sent up to a fixed time is a stopping time of the sequence of
  latencies, so by Wald's identity their mean is unbiased, whatever the load was before. Counting by the end, as
  perf_client does, is so only in a steady state, and counting what is sent *and* done inside favours fast requests: the
  slow one still running is left out.
* **Response and service time**: in open loop the latency runs from the scheduled instant, so that a queue before the
  server, or a client that sends late, shows (no coordinated omission); the time from the send is a figure of its own.
* **Throughput**: a request counts by the share of its life, from due to done, that lies inside the window. In a
  steady state (which the lead-in is for) every request adds up to exactly one over all windows, so the rate is unbiased
  too, and a window of a few slow requests does not jump by one whole request at each edge.

Times come as plain buffers and are read in slices, so that ten million requests need no copies of their arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_gpuperf.analysis.robust import FloatArray, IntArray
from pytest_gpuperf.model import EndpointFigures, Histogram, LoadPoint, Window
from pytest_gpuperf.model.histogram import GAMMA

Times = IntArray

#: A longer round is a mistake in the file or in the user's timer.
_LONGEST_ROUND_S = 1e9

#: Delay from which a request counts as sent late, as in perf_client.
LATE_NS = 1_000_000
_SLICE = 1 << 18
#: Buckets up to 2**63 ns.
_BUCKETS = 8_760


@dataclass(frozen=True)
class WindowFigures:
    """Figures of the correct requests of one window.

    Attributes:
        latency: Times from due to done.
        service: Times from sent to done.
        late: Requests sent more than ``LATE_NS`` after they were due.
        lag_p99_ns: 99th percentile of the delay between due and sent.
    """

    requests: int
    throughput: float
    latency_mean_ns: float
    latency: Histogram
    service: Histogram
    late: int
    lag_p99_ns: float


class _Sum:
    """Sums over requests, added slice by slice."""

    def __init__(self, start_ns: int, stop_ns: int) -> None:
        self._start_ns, self._stop_ns = start_ns, stop_ns
        self._shares = self._latency_ns = 0.0
        self._requests = self._late = 0
        self._latency, self._service, self._lag = (np.zeros(_BUCKETS, dtype=np.int64) for _ in range(3))

    def add(self, due_ns: Times, sent_ns: Times | None, done_ns: Times) -> None:
        latency_ns = np.maximum(done_ns - due_ns, 1)
        inside_ns = np.minimum(done_ns, self._stop_ns) - np.maximum(due_ns, self._start_ns)
        self._shares += float((np.clip(inside_ns, 0, None) / latency_ns).sum())
        due_inside = (due_ns >= self._start_ns) & (due_ns < self._stop_ns)
        latency_ns = latency_ns[due_inside]
        self._requests += int(latency_ns.size)
        self._latency_ns += float(latency_ns.sum())
        self._latency += _counts(latency_ns)
        if sent_ns is not None:
            lag_ns = (sent_ns - due_ns)[due_inside]
            self._late += int((lag_ns > LATE_NS).sum())
            self._lag += _counts(lag_ns)
            self._service += _counts((done_ns - sent_ns)[due_inside])

    def figures(self, batch_size: int) -> WindowFigures:
        latency, lag = _histogram(self._latency), _histogram(self._lag)
        return WindowFigures(
            requests=self._requests,
            throughput=self._shares * batch_size / ((self._stop_ns - self._start_ns) / 1e9),
            latency_mean_ns=self._latency_ns / self._requests if self._requests else 0.0,
            latency=latency,
            service=_histogram(self._service),
            late=self._late,
            lag_p99_ns=lag.quantile_ns(0.99) if lag.total else 0.0,
        )


def window_figures(
    lanes: Iterable[tuple[Any, Any, Any]], start_ns: int, stop_ns: int, batch_size: int
) -> WindowFigures:
    """Return the figures of a window, by the edge rule of this module.

    Args:
        lanes: Due, sent and done times of every correct request whose life overlaps the window, each a buffer or an
            array of int64, shape (n,). If due and sent are the same object (closed loop), nothing can be late, and
            ``service`` stays empty.
        start_ns, stop_ns: Beginning and end of the window, on the same monotonic clock.
    """
    sums = _Sum(start_ns, stop_ns)
    for lane in lanes:
        for due_ns, sent_ns, done_ns in _slices(*lane):
            sums.add(due_ns, None if lane[0] is lane[1] else sent_ns, done_ns)
    return sums.figures(batch_size)


def endpoint_figures(
    lanes: Sequence[tuple[Any, Any, Any]],
    labels: Sequence[str],
    errors: Sequence[int],
    edges_ns: tuple[int, int],
    batch_size: int,
) -> tuple[EndpointFigures, ...]:
    """Return the figures of each of several endpoints.

    Args:
        lanes: Due times, done times and the endpoint's number of each request.
        edges_ns: Beginning and end of the window.
    """
    sums = [_Sum(*edges_ns) for _ in labels]
    for lane in lanes:
        for due_ns, done_ns, number in _slices(*lane):
            for index, endpoint in enumerate(sums):
                served = number == index
                endpoint.add(due_ns[served], None, done_ns[served])
    return tuple(
        EndpointFigures(label, served.requests, failed, served.throughput, served.latency)
        for label, failed, served in zip(labels, errors, (each.figures(batch_size) for each in sums), strict=True)
    )


def rounds_window(sweep: str, rounds_s: Sequence[float], iterations: int = 1, visit: int = 0) -> Window:
    """Return the rounds of a benchmark, which calls its subject again and again, as a window.

    A round is a request: the quantiles are over rounds, and throughput counts calls. A round that took less than the
    clock's resolution reads 0; it counts among the shortest.

    Args:
        rounds_s: Time of each round per call; one of them or more is above 0.
        iterations: Calls in each round.
    """
    seconds = np.asarray(rounds_s, dtype=np.float64)
    total_s = float(seconds.sum())
    return Window(
        sweep=sweep,
        point=LoadPoint(),
        visit=visit,
        window_s=total_s * iterations,
        requests=seconds.size,
        throughput=seconds.size / total_s,
        latency_mean_ns=total_s / seconds.size * 1e9,
        latency=_histogram(_counts(seconds * 1e9)),
    )


def rounds_problem(rounds_s: Sequence[Any]) -> str:
    """Return why rounds have no figures, as the end of a sentence that begins with the test; empty if they have some.

    Args:
        rounds_s: Time of each round per call, one or more, as the file or the user's clock has them.
    """
    for round_s in rounds_s:
        is_number = isinstance(round_s, int | float) and not isinstance(round_s, bool)
        if not is_number or not 0 <= round_s <= _LONGEST_ROUND_S:
            return f"has a round of {round_s!r}, which is not a time in seconds."
    short = sum(not round_s for round_s in rounds_s)
    if short < len(rounds_s) / 2:
        return ""
    return (
        f"took 0 s in {short} of its {len(rounds_s)} rounds: it is shorter than the clock's resolution. "
        "Give it more iterations in each round, for example with --benchmark-min-time."
    )


def _slices(*columns: Any) -> Iterator[tuple[Times, ...]]:
    arrays = [np.asarray(column, dtype=np.int64) for column in columns]
    for start in range(0, len(arrays[0]), _SLICE):
        yield tuple(array[start : start + _SLICE] for array in arrays)


def _counts(latency_ns: Times | FloatArray) -> IntArray:
    numbers = np.floor(np.log(np.maximum(latency_ns, 1)) / np.log(GAMMA)).astype(np.int64)
    return np.bincount(numbers, minlength=_BUCKETS)


def _histogram(counts: IntArray) -> Histogram:
    buckets = np.flatnonzero(counts)
    return Histogram(tuple(buckets.tolist()), tuple(counts[buckets].tolist()))
