"""Metrics that can gate: the unit of each, which direction is worse, and what it is a figure of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from pytest_gpuperf.model.histogram import QUANTILES

#: Factors that convert times of other units to ns.
TIME_UNITS: Mapping[str, float] = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
#: Examples of all forms of names, for messages.
GOODPUT_EXAMPLE = "goodput_50ms"
_GOODPUT = re.compile(r"goodput_([0-9]{1,9}(?:\.[0-9]{1,6})?)(ns|us|ms|s)", re.ASCII)
_FIRST = "first_"


@dataclass(frozen=True)
class Metric:
    """A metric that can gate.

    Attributes:
        unit: ``ns``, ``inferences/s``, ``j`` (per inference), ``bytes`` or ``share``. Shares are compared by their
            difference, all others by their ratio.
        more_is_better: Whether a larger figure is better.
        quantile: Quantile of the latencies, or of the times to the first answer; None for other metrics.
        of_first: Whether it is about the first answers of streams.
        of_start: Whether it is measured at a start of the target instead of at a load point.
        once: Whether a record has a single value of it, however many runs it has.
        budget_ns: Latency budget of a goodput; 0 for other metrics.
    """

    name: str
    unit: str
    more_is_better: bool = False
    quantile: float | None = None
    of_first: bool = False
    of_start: bool = False
    once: bool = False
    budget_ns: float = 0.0

    @property
    def is_share(self) -> bool:
        return self.unit == "share"


#: Metrics with a fixed name. In addition there is a goodput for each latency budget, such as ``goodput_50ms``.
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        *(Metric(name, "ns", quantile=quantile) for name, quantile in QUANTILES.items()),
        Metric("throughput", "inferences/s", more_is_better=True),
        Metric("energy", "j"),
        Metric("memory", "bytes"),
        Metric("host_memory", "bytes"),
        *(Metric(_FIRST + name, "ns", quantile=quantile, of_first=True) for name, quantile in QUANTILES.items()),
        Metric("failed", "share"),
        Metric("startup", "ns", of_start=True),
        Metric("cold_startup", "ns", of_start=True, once=True),
        Metric("model_load", "ns", of_start=True),
        Metric("engine_build", "ns", of_start=True, once=True),
    )
}
#: All names, for messages.
METRIC_NAMES = (*METRICS, GOODPUT_EXAMPLE)


@cache
def metric_of(name: str) -> Metric | None:
    """Return the metric of a name; None if there is no such metric.

    ``goodput_50ms`` is the share of all requests that were answered correctly within 50 ms.
    """
    if name in METRICS:
        return METRICS[name]
    match = _GOODPUT.fullmatch(name)
    budget_ns = float(match[1]) * TIME_UNITS[match[2]] if match else 0.0
    return Metric(name, "share", more_is_better=True, budget_ns=budget_ns) if budget_ns else None


def is_of_start(name: str) -> bool:
    """Return whether a metric is measured at the starts of a target."""
    metric = metric_of(name)
    return metric is not None and metric.of_start


def is_measured_once(name: str) -> bool:
    """Return whether more runs give no more values of a metric."""
    metric = metric_of(name)
    return metric is not None and metric.once


def is_share(name: str) -> bool:
    """Return whether a metric is a share, which is compared by its difference."""
    metric = metric_of(name)
    return metric is not None and metric.is_share


def worse_sign(name: str) -> int:
    """Return -1 for a metric of which more is better, else 1; figures of other load tools are better when smaller."""
    metric = metric_of(name)
    return -1 if metric is not None and metric.more_is_better else 1
