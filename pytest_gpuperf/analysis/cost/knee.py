"""The knee of a throughput-latency curve: where more load stops buying throughput and starts to buy waiting.

It is the point of the highest *power*, throughput divided by mean latency: Kleinrock, "Power and deterministic rules of
thumb for probabilistic problems in computer communications" (ICC 1979). Rules that look at a curve's shape between its
ends (Satopaa et al., "Finding a Kneedle in a haystack", 2011) move with how far beyond saturation the sweep went;
this rule does not. An adaptive sweep places its points by it, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pytest_gpuperf.model import CurvePoint, OperatingPoint

Point = TypeVar("Point", CurvePoint, OperatingPoint)


def power(throughput: float, mean_ns: float) -> float:
    """Return the inferences per second for each second of mean latency; 0 if no request was answered."""
    return throughput / (mean_ns / 1e9) if mean_ns > 0 else 0.0


def knee(points: Iterable[Point]) -> Point | None:
    """Return the point of the highest power, the first of equals; None if no point has any."""
    answering = [point for point in points if power(point.throughput, point.mean_ns) > 0]
    return max(answering, key=lambda point: power(point.throughput, point.mean_ns), default=None)
