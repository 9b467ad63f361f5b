"""The parts of a latency: waiting for the send, network, and the server's queue and compute times."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_gpuperf.model import Histogram, PointFigures
from pytest_gpuperf.model.histogram import GAMMA


@dataclass(frozen=True)
class LatencyParts:
    """The parts of the mean latency in ns; those of the server are 0 if it does not report them.

    Attributes:
        send_ns: Time from the scheduled instant to the send; 0 in closed loop.
        network_ns: Time neither before the send nor accounted for by the server.
    """

    send_ns: float
    network_ns: float
    queue_ns: float = 0.0
    input_ns: float = 0.0
    infer_ns: float = 0.0
    output_ns: float = 0.0

    @property
    def server_ns(self) -> float:
        return self.queue_ns + self.input_ns + self.infer_ns + self.output_ns


def latency_parts(figures: PointFigures) -> LatencyParts:
    """Split the mean latency of a load point into its parts."""
    mean_ns, service = figures.latency_mean_ns, figures.service
    send_ns = max(mean_ns - mean_of(service), 0.0) if service is not None and service.total else 0.0
    server = figures.server
    if server is None:
        return LatencyParts(send_ns, max(mean_ns - send_ns, 0.0))
    # All requests queue, but what comes from the response cache is not computed.
    computed, requests = max(server.computed, 1), max(server.requests, 1)
    totals = (server.compute_input_ns, server.compute_infer_ns, server.compute_output_ns)
    times = [server.queue_ns / requests, *(total / computed for total in totals)]
    # The server uses another clock and counts other requests, so the difference can be below zero.
    return LatencyParts(send_ns, max(mean_ns - send_ns - server.total_ns / requests, 0.0), *times)


def mean_of(histogram: Histogram) -> float:
    """Return the mean of a histogram, within its precision."""
    return math.fsum(count * middle for middle, count in middles_ns(histogram)) / histogram.total


def deviation_of(histogram: Histogram) -> float:
    """Return the standard deviation of a histogram."""
    mean = mean_of(histogram)
    squares = math.fsum(count * middle * middle for middle, count in middles_ns(histogram))
    return math.sqrt(max(squares / histogram.total - mean * mean, 0.0))


def middles_ns(histogram: Histogram) -> list[tuple[float, int]]:
    """Return the middle of each bucket with its count."""
    pairs = zip(histogram.buckets, histogram.counts, strict=True)
    return [(math.pow(GAMMA, bucket + 0.5), count) for bucket, count in pairs]
