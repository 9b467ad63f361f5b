"""Simulated servers with noisy windows, for algorithms that choose their own load."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from statistics import NormalDist

import numpy as np

from pytest_gpuperf.measure.ask import Ask, Result, Steps
from pytest_gpuperf.model import Histogram, LoadPoint, Poisson, Window, bucket_of
from pytest_gpuperf.model.histogram import GAMMA

#: Of the log of the latencies inside a window.
SHAPE_SD = 0.08
#: 90% of the log-normal latencies below are shorter than the median times this.
P90_SHAPE = math.exp(SHAPE_SD * NormalDist().inv_cdf(0.9))


@cache
def _buckets(requests: int) -> tuple[tuple[int, int], ...]:
    """Latencies around a median of e^20 ns, without any chance in them."""
    normal = NormalDist(20.0, SHAPE_SD)
    return tuple(
        sorted(Counter(bucket_of(math.exp(normal.inv_cdf((i + 0.5) / requests))) for i in range(requests)).items())
    )


def latencies(median_ns: float, requests: int) -> Histogram:
    """Log-normal latencies of that median; its quantiles are those of the distribution."""
    if not requests:
        return Histogram()
    shift = round((math.log(median_ns) - 20.0) / math.log(GAMMA))
    buckets = _buckets(requests)
    return Histogram(tuple(bucket + shift for bucket, _ in buckets), tuple(count for _, count in buckets))


class Server:
    """Answers with windows whose median latency follows a curve, with noise.

    Args:
        median_ms: the truth, by load.
        noise: standard deviation of the log of a window's latency.
        hiccups: share of windows that are three times as slow.
        drift: how much slower the machine is after 100 windows, as a log.
        failing: load above which a fifth of the requests fails.
        open_loop: loads are rates, of which at most ``capacity`` is answered.
    """

    def __init__(
        self,
        median_ms: Callable[[float], float],
        rng: np.random.Generator,
        *,
        noise: float = 0.1,
        hiccups: float = 0.0,
        drift: float = 0.0,
        failing: float = math.inf,
        open_loop: bool = False,
        capacity: float = math.inf,
        requests: int = 200,
    ) -> None:
        self.median_ms = median_ms
        self.rng = rng
        self.noise = noise
        self.hiccups = hiccups
        self.drift = drift
        self.failing = failing
        self.open_loop = open_loop
        self.capacity = capacity
        self.requests = requests
        self.asked: list[float] = []

    def measure(self, ask: Ask) -> list[Window]:
        return [self._window(ask.load, visit) for visit in range(ask.visits)]

    def _window(self, load: float, visit: int) -> Window:
        factor = math.exp(self.rng.normal(0, self.noise) + self.drift * len(self.asked) / 100)
        if self.rng.random() < self.hiccups:
            factor *= 3
        self.asked.append(load)
        median_ns = self.median_ms(load) * 1e6 * factor
        errors = self.requests // 5 if load > self.failing else 0
        window_s = 1.0
        if self.open_loop:
            window_s = max(1.0, 50 / load)
            due = int(self.rng.poisson(load * window_s))
            throughput = min(due / window_s, self.capacity / factor)
            point = LoadPoint.open_loop(Poisson(load))
            requests = due - errors
        else:
            throughput = load / (median_ns / 1e9)
            point = LoadPoint(int(load))
            requests = self.requests - errors
        return Window(
            "serving",
            point,
            visit,
            window_s,
            requests,
            throughput,
            median_ns,
            latencies(median_ns, min(requests, 400)),
            errors={"reset": errors} if errors else {},
        )


def drive(steps: Steps[Result], measure: Callable[[Ask], Sequence[Window]]) -> Result:
    """Measure what an algorithm asks for, and return its result."""
    try:
        ask = next(steps)
        while True:
            ask = steps.send(measure(ask))
    except StopIteration as end:
        result: Result = end.value
        return result


def saturating(service_ms: float, clients: float, sharpness: float = 4.0) -> Callable[[float], float]:
    """Closed loop: constant up to ``clients`` in flight, then in proportion to them, with a rounded corner."""
    return lambda load: service_ms * (1 + (load / clients) ** sharpness) ** (1 / sharpness)


def queueing(service_ms: float, servers: int) -> Callable[[float], float]:
    """Open loop: the mean time in an M/M/c system (Erlang's C formula); beyond capacity, what builds up in a window."""

    def median_ms(rate: float) -> float:
        offered = rate * service_ms / 1e3
        if offered >= 0.999 * servers:
            return service_ms * (1000 + 1000 * (offered / servers - 0.999))
        blocking = 1.0
        for number in range(1, servers + 1):
            blocking = offered * blocking / (number + offered * blocking)
        utilisation = offered / servers
        waiting = blocking / (1 - utilisation * (1 - blocking))
        return service_ms * (1 + waiting / (servers - offered))

    return median_ms


def staircase(service_ms: float, batch: int) -> Callable[[float], float]:
    """Dynamic batching: with every ``batch`` clients more, a request waits for one execution more."""
    return lambda load: service_ms * math.ceil(load / batch)


def highest(median_ms: Callable[[float], float], limit_ms: float, loads: Sequence[float]) -> float:
    """The true answer: the highest of the loads, given in increasing order, whose p90 keeps within the limit."""
    return loads[bisect.bisect_right(loads, limit_ms, key=lambda load: median_ms(load) * P90_SHAPE) - 1]
