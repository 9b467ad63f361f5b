"""The one seam of the load layer: what a load generator is asked for and what it gives back.

Protocols, arrival schedules, worker processes and other machines stand behind ``LoadGenerator``; the measuring layer
sees none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pytest_gpuperf.model import Arrivals, Workload

#: Requests in flight up to which open loop goes by default: with more, it is the client's machine that gives in first.
MAX_IN_FLIGHT = 4096


@dataclass(frozen=True)
class WindowSpec:
    """How one window is timed.

    Attributes:
        concurrency: requests kept in flight (closed loop); 0 in open loop.
        window_s: its length, fixed before it starts. 0: no window at all, ``min_requests`` requests are sent and the
            window spans them (the smoke run).
        arrivals: when requests are due (open loop).
        max_in_flight: open loop: a request due while so many are unanswered is sent as soon as one of them is.
        lead_in_s: the load runs at least so long, and every connection has been answered at least once, before the
            window starts, so that no window contains the change from one load point to the next.
        min_requests: it is lengthened, in steps of half its length, until so many requests were sent in it.
        max_window_s: but not beyond this.
        deadline_s: a request unanswered for so long is a ``timeout`` error.
        start_ns: the window starts at this instant of the monotonic clock, come what may, and isn't lengthened: for
            workers that can't talk to each other. 0: as above.
    """

    concurrency: int
    window_s: float
    arrivals: Arrivals | None = None
    max_in_flight: int = MAX_IN_FLIGHT
    lead_in_s: float = 0.05
    min_requests: int = 1
    max_window_s: float = 60.0
    deadline_s: float = 60.0
    start_ns: int = 0

    @property
    def once(self) -> bool:
        """A smoke run; see ``window_s``."""
        return self.window_s == 0


@dataclass(frozen=True)
class Times:
    """Times of requests on one monotonic clock, in order of completion; each a buffer of int64.

    Attributes:
        due_ns: when each should have been sent: its scheduled instant in open loop; the same as ``sent_ns`` in closed
            loop.
        sent_ns, done_ns: when its first byte was given to the kernel, and its answer's last byte was taken from it.
        address: which of the workload's addresses it went to.
        first_ns: of streams: when the first answer came.
        answers: of streams: how many answers came.
    """

    due_ns: memoryview
    sent_ns: memoryview
    done_ns: memoryview
    address: memoryview | None = None
    first_ns: memoryview | None = None
    answers: memoryview | None = None


@dataclass(frozen=True)
class Recording:
    """Every request from the first send on, and the window ``[start_ns, stop_ns)``, on one monotonic clock.

    Which requests belong to the window is decided afterwards, from their times (``analysis.window``).

    Attributes:
        lanes: the correctly answered requests, by worker that sent them.
        errors: failed requests of the window, by type.
        error_sample: the first failure in full, for messages; empty when there was none.
        address_errors: failed requests of the window, by address.
        cpu_s: CPU time that the load generator took.
        stall_s: time in the window during which the load generator was kept from its sockets (``loop.STALL_NS``).
        workers: processes or threads that the load generator spread its work over.
        lost: why the load had to be given up before the window's end; empty when it was not.
        skew_s: how far the clocks of the workers' machines were apart, as far as that can be known; 0 on one machine.
    """

    start_ns: int
    stop_ns: int
    lanes: tuple[Times, ...] = field(repr=False)
    errors: dict[str, int]
    error_sample: str
    cpu_s: float
    address_errors: tuple[int, ...] = ()
    stall_s: float = 0.0
    workers: int = 1
    lost: str = ""
    skew_s: float = 0.0

    @property
    def answered(self) -> int:
        """Correctly answered requests, before, in and after the window."""
        return sum(len(lane.done_ns) for lane in self.lanes)

    def pairs(self) -> Iterator[tuple[memoryview, memoryview]]:
        """Due and done times, by worker."""
        for lane in self.lanes:
            yield lane.due_ns, lane.done_ns


class LoadGenerator(Protocol):
    """Replays a workload. Connections, threads or processes live until ``close``."""

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        """Run one window and wait for the last of its requests.

        Raises:
            LoadError: the load generator itself failed.
        """

    def close(self) -> None:
        """End all that it started. May be called twice."""
