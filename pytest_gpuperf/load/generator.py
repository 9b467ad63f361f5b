"""The interface of the load layer: the load generator, what it is asked for, and what it returns.

Protocols, arrival schedules, worker processes and remote machines are behind ``LoadGenerator``; the measuring layer
knows none of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from pytest_gpuperf.model import Arrivals, Workload

#: Most requests in flight in open loop, by default: with more, the client's machine is the first to give in.
MAX_IN_FLIGHT = 4096
#: How long worker processes wait for each other before a window.
MEET_S = 10.0
#: How long a connection may take to open; long enough for one lost SYN.
CONNECT_S = 2.0


@dataclass(frozen=True)
class WindowSpec:
    """Timing and load of a window.

    Attributes:
        concurrency: Requests kept in flight (closed loop); 0 in open loop.
        window_s: Length of the window, fixed before it starts. If 0, ``min_requests`` requests are sent and the window
            spans them (the smoke run).
        arrivals: When requests are due (open loop).
        max_in_flight: Most unanswered requests in open loop; further ones are sent as soon as an answer comes.
        lead_in_s: Shortest time under load before the window starts. Every connection has also been answered once by
            then, so that no window contains the change from one load point to the next.
        min_requests: Fewest requests of the window, which is lengthened by half its length until they are sent.
        max_window_s: Longest window, whatever ``min_requests`` says.
        deadline_s: Time after which an unanswered request is a ``timeout`` error.
        start_ns: Instant of the monotonic clock at which the window starts, without being lengthened: for workers that
            can't communicate. If 0, the rules above apply.
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
    def longest_s(self) -> float:
        """The longest time that a window can take, from its lead-in to the answer of its last request.

        The requests of the lead-in may take up to the deadline. After the window, a request that was due in it may wait
        up to the deadline until it is sent, and again for its answer; so may the requests that were sent meanwhile.
        """
        needed_s = self.deadline_s * math.ceil(self.min_requests / max(self.concurrency, 1))
        window_s = max(self.window_s, min(self.max_window_s, needed_s)) + self.window_s
        return MEET_S + self.lead_in_s + window_s + 4 * (self.deadline_s + CONNECT_S)

    @property
    def once(self) -> bool:
        """Whether this is a smoke run; see ``window_s``."""
        return self.window_s == 0


@dataclass(frozen=True)
class Times:
    """Times of requests on one monotonic clock, in order of completion; each a buffer of int64.

    Attributes:
        due_ns: When each should have been sent: the scheduled instant in open loop; the same as ``sent_ns`` in closed
            loop.
        sent_ns, done_ns: When its first byte was given to the kernel, and its answer's last byte was taken from it.
        address: The number of the workload's address that it went to.
        first_ns: When the first answer of a stream came.
        answers: Number of answers of a stream.
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

    ``analysis.window`` decides afterwards which requests belong to the window, from their times.

    Attributes:
        lanes: The correctly answered requests, by the worker that sent them.
        errors: Failed requests of the window, by type.
        error_sample: The first failure in full, for messages; empty when there was none.
        error_sentences: The most frequent sentences of the failures, by type, with their number.
        call_error: The first exception of a measured call; None for requests to a server.
        address_errors: Failed requests of the window, by address.
        cpu_s: CPU time of the load generator.
        stall_s: Time in the window during which the load generator was kept from its sockets (``loop.STALL_NS``).
        wait_s: Time in which its threads were ready to run, but waited for a CPU.
        halted_s: Further time in which it did not run, though it was due: it was stopped or frozen, or its machine was
            paused. Unknown, and 0, where threads of this process make the load.
        stops: How often its processes were stopped and continued.
        workers: Processes or threads of the load generator.
        lost: Why the load was given up before the window's end; empty when it was not.
        skew_s: Detectable difference between the clocks of the workers' machines; 0 on a single machine.
    """

    start_ns: int
    stop_ns: int
    lanes: tuple[Times, ...] = field(repr=False)
    errors: dict[str, int]
    error_sample: str
    cpu_s: float
    error_sentences: dict[str, dict[str, int]] = field(default_factory=dict, repr=False)
    call_error: BaseException | None = field(default=None, repr=False, compare=False)
    address_errors: tuple[int, ...] = ()
    stall_s: float = 0.0
    wait_s: float = 0.0
    halted_s: float = 0.0
    stops: int = 0
    workers: int = 1
    lost: str = ""
    skew_s: float = 0.0

    @property
    def answered(self) -> int:
        """Number of correctly answered requests, before, in and after the window."""
        return sum(len(lane.done_ns) for lane in self.lanes)


class LoadGenerator(Protocol):
    """Replays a workload. Connections, threads or processes live until ``close``."""

    def window(self, workload: Workload, spec: WindowSpec) -> Recording:
        """Run a window and wait for the last of its requests.

        Raises:
            LoadError: The load generator itself failed.
        """

    def close(self) -> None:
        """End all connections, threads and processes. May be called twice."""
