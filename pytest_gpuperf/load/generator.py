"""The one seam of the load layer: what a load generator is asked for and what it gives back.

A new protocol, an open-loop arrival schedule or several worker processes stand behind ``LoadGenerator``, in one file
each; the measuring layer sees none of them.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Protocol

from pytest_gpuperf.model import HttpWorkload, Workload


@dataclass(frozen=True)
class WindowSpec:
    """How one window is timed.

    Attributes:
        concurrency: requests kept in flight.
        lead_in_s: the load runs at least so long, and every connection has been answered at least once, before the
            window starts, so that no window contains the change from one load point to the next.
        window_s: its length, fixed before it starts.
        min_requests: it is lengthened, in steps of half its length, until so many requests were sent in it.
        max_window_s: but not beyond this.
        deadline_s: a request unanswered for so long is a ``timeout`` error.
    """

    concurrency: int
    window_s: float
    lead_in_s: float = 0.05
    min_requests: int = 1
    max_window_s: float = 60.0
    deadline_s: float = 60.0

    @property
    def once(self) -> bool:
        """No window at all: ``min_requests`` requests are sent, and the window spans them (the smoke run)."""
        return self.window_s == 0


@dataclass(frozen=True)
class Recording:
    """Every request from the first send on, and the window ``[start_ns, stop_ns)``, on one monotonic clock.

    Which requests belong to the window is decided afterwards, from their times (``analysis.window``).

    Attributes:
        sent_ns, done_ns: of the correctly answered requests, in order of completion.
        errors: failed requests by type.
        error_sample: the first failure in full, for messages; empty when there was none.
        cpu_s: CPU time that the load generator took.
        lane_count: processes or threads that the load generator spread its work over.
        lost: why the load had to be given up before the window's end; empty when it was not.
    """

    start_ns: int
    stop_ns: int
    sent_ns: array[int] = field(repr=False)
    done_ns: array[int] = field(repr=False)
    errors: dict[str, int]
    error_sample: str
    cpu_s: float
    lane_count: int = 1
    lost: str = ""


class LoadGenerator(Protocol):
    """Replays a workload. Connections, threads or processes live until ``close``."""

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        """Run one window and wait for the last of its requests.

        Raises:
            LoadError: the load generator itself failed.
        """

    def close(self) -> None:
        """End all that it started. May be called twice."""


def open_generator(workload: Workload) -> LoadGenerator:
    """The load generator that can replay this kind of workload."""
    if isinstance(workload, HttpWorkload):
        from pytest_gpuperf.load.process import WorkerProcess

        return WorkerProcess()
    from pytest_gpuperf.load.inprocess import ThreadLoop

    return ThreadLoop()
