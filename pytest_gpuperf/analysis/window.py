"""From the times of single requests to what one window says.

The rule for requests at an edge, for a window ``[start, stop)`` under a load that goes on before and after it:

* **Latency**: a request belongs to the window in which it was *sent*, and is followed to its end, however long that
  takes. The number of requests sent up to a fixed time is a stopping time of the sequence of latencies, so by Wald's
  identity their mean is unbiased, whatever the load was before. Counting by the end, as perf_client does, is so only in
  a steady state, and what is sent *and* done inside favours the fast requests: the slow one still running is left out.
* **Throughput**: a request counts by the share of its life, from sent to done, that lies inside the window. In a
  steady state (which the lead-in is for) every request adds up to exactly one over all windows, so the rate is unbiased
  too, and a window of a few slow requests does not jump by one whole request at each edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_gpuperf.model import Histogram
from pytest_gpuperf.model.histogram import GAMMA

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WindowFigures:
    """What the correct requests of one window amount to.

    Attributes:
        throughput: inferences per second.
    """

    requests: int
    throughput: float
    latency_mean_ns: float
    latency: Histogram


def figures(sent_ns: Times, done_ns: Times, start_ns: int, stop_ns: int, batch_size: int) -> WindowFigures:
    """Apply the edge rule of this module.

    Args:
        sent_ns, done_ns: shape (n,), of every correct request whose life overlaps the window.
        start_ns, stop_ns: the window, on the same monotonic clock.
        batch_size: inferences per request.
    """
    latency_ns = np.maximum(done_ns - sent_ns, 1)
    inside_ns = np.minimum(done_ns, stop_ns) - np.maximum(sent_ns, start_ns)
    shares = np.clip(inside_ns, 0, None) / latency_ns
    own = latency_ns[(sent_ns >= start_ns) & (sent_ns < stop_ns)]
    return WindowFigures(
        requests=int(own.size),
        throughput=float(shares.sum()) * batch_size / ((stop_ns - start_ns) / 1e9),
        latency_mean_ns=float(own.mean()) if own.size else 0.0,
        latency=histogram_of(own),
    )


def histogram_of(latency_ns: Times) -> Histogram:
    """The histogram of an array of latencies in ns."""
    numbers = np.floor(np.log(np.maximum(latency_ns, 1)) / np.log(GAMMA)).astype(np.int64)
    buckets, counts = np.unique(numbers, return_counts=True)
    return Histogram(tuple(buckets.tolist()), tuple(counts.tolist()))
