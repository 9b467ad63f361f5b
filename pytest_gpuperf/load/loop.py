"""Windows over many connections, in an epoll loop with two clock readings per request, whatever the protocol.

Raw epoll rather than asyncio: measured against the same loop on uvloop it costs the same CPU per request or less
(11 against 14 us at concurrency 1), needs no dependency, and the clock is read next to the system call instead of
behind an event loop's queue.
"""

from __future__ import annotations

import os
import select
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from pytest_gpuperf.clock import time
from pytest_gpuperf.load.agreement import Agreement, WindowPhase
from pytest_gpuperf.load.balance import balance_of
from pytest_gpuperf.load.columns import Column, Rows
from pytest_gpuperf.load.connection import UNTIMELY, Connection, kind_of
from pytest_gpuperf.load.generator import WindowSpec
from pytest_gpuperf.load.prepared import Prepared, Rotation
from pytest_gpuperf.load.service import CONNECT_NS, Watched, allow_open_files, resolve, service_of, tls_of
from pytest_gpuperf.load.tally import Failures, Occupation, Tally, column_names
from pytest_gpuperf.model import WireWorkload

now_ns = time.monotonic_ns

_RECEIVE_BYTES = 1 << 20
_POLL_S = 0.05
#: Longest sleep in closed loop. If it wakes up more than 1 ms after that, something kept it from running.
_SLEEP_S, _OVERSLEPT_NS = 0.02, 21_000_000
#: Time without any connection after which the window is given up: the server is gone, not busy.
_GIVE_UP_S = 2.0
#: How long requests that belong to no window may take at its end, unless answers took half as long.
_DRAIN_NS = 1_000_000_000
#: Longest wait, at a window's end, for answers that no request asked for; else one and a half of the longest latency.
_UNASKED_NS = 250_000_000
#: A loop that handles a batch of events for longer than this keeps answers waiting. A batch of 16 takes 0.3 ms.
STALL_NS = 1_000_000
#: How long the loop stays awake before a request is due: a virtual machine is woken 50 us late. At 2,000 requests per
#: second this takes a tenth of a core, which every window reports as cost of the load generator.
_AWAKE_NS = 50_000
#: Most connections that wait for their first answer at once: less than a common listen backlog holds.
_OPENING = 512


class Loop(Watched):
    """Keeps connections to a workload's addresses and runs windows over them; the owner of its connections.

    It records every request from the first send on. Which requests belong to the window is decided afterwards from
    their times, so that no bookkeeping at the edges can go wrong.
    """

    def __init__(self, workload: WireWorkload, parent: int | None = None) -> None:
        """Give a window up, if ``parent`` is given, when this process is no longer a child of that process.

        Raises:
            LoadError: An address can't be resolved, or TLS can't be set up.
        """
        super().__init__()
        self.hosts = [address.host for address in workload.addresses]
        self.addresses = [resolve(address.host, address.port) for address in workload.addresses]
        self.tls_context = tls_of(workload)
        self._serves = service_of(workload)
        self._labels = [address.label for address in workload.addresses]
        self._parent = parent
        self._connections: list[Connection] = []
        self._idle: list[list[Connection]] = [[] for _ in self.addresses]
        self.buffer = bytearray(_RECEIVE_BYTES)
        self._known: dict[int, Prepared] = {}
        self._next_check_ns = 0
        self.known_blocks: dict[bytes, Mapping[str, str]] = {}

    def serves_also(self, workload: WireWorkload) -> bool:
        """Return whether another workload can use the same connections."""
        return self._serves == service_of(workload)

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.disconnect()
        self._connections.clear()
        self._epoll.close()

    # A window.

    def window(
        self,
        workload: WireWorkload,
        spec: WindowSpec,
        columns: dict[str, Column] | None = None,
        agreement: Agreement | None = None,
        worker: tuple[int, int] = (0, 1),
    ) -> tuple[Tally, dict[str, Column]]:
        """Run a window; see ``WindowSpec``.

        Args:
            columns: Columns for the times; new ones when None.
            agreement: The agreement with the other workers; None for a single worker.
            worker: Number of this worker, and how many there are. ``spec.concurrency`` is this worker's alone; the
                arrivals are dealt to the workers in turn.
        """
        self._rows = Rows(columns or {name: Column() for name in column_names(workload, spec)})
        self.add_row: Callable[[int, int], None] = self._rows.add
        self._agreement = agreement or Agreement(memoryview(array("q", bytes(8 * Agreement.cells(1)))))
        self._spec = spec
        known = self._known.get(id(workload))
        if known is None or known.workload is not workload:
            known = self._known[id(workload)] = Prepared.of(workload)
        self._prepared, self._only = known, known.only
        allow_open_files(spec.concurrency - len(self._by_fd))
        self._rotation = Rotation(self._prepared, worker, in_turn=spec.arrivals is not None)
        self._balance = balance_of(workload)
        self._sends = self._in_flight = self._followed = self._retries = 0
        self._failures, self._lost, self._untimely = Failures(), "", ""
        self._failed_at: list[int] = []
        self._due: deque[int] = deque()
        self._unreachable_since_ns = self._unreachable_count = self._start_ns = self._stop_ns = 0
        self._occupation, self._awake_ns = Occupation(), now_ns() + _OVERSLEPT_NS
        self._phase = WindowPhase.INSIDE if spec.once else WindowPhase.LEAD_IN
        self._ready = self.hot = False
        self._next_look_ns = self._before = self._cut_ns = 0
        self._limit = min(spec.max_in_flight, self._rotation.count) if workload.max_in_flight else spec.max_in_flight
        self._next_due_ns = 0
        self._begin_ns, self._lost = self._agreement.meet(spec)
        # The window's first requests: it doesn't start before each of them is over.
        self._initial, self._to_open = max(spec.concurrency, 1), spec.concurrency
        for _ in range(2):  # a connection may be closed after its last bytes
            self.catch_up()
        if spec.arrivals is None:
            poll = self._epoll.poll
            self._open()
            while not self._handle(poll(_SLEEP_S)):
                pass  # every answer sends the next request
        else:
            self._run_by_schedule(islice(spec.arrivals.instants(), worker[0], None, worker[1]))
        if not self._lost and not spec.once:
            self._await_unasked()
        return self._tally(), self._rows.columns

    def _await_unasked(self) -> None:
        """Wait for answers that no request asked for: an answer too many makes each the answer to an older request."""
        end_ns = now_ns() + min(self._rows.longest_ns() * 3 // 2, _UNASKED_NS)
        while self._by_fd and not self._untimely and (left_ns := end_ns - now_ns()) > 0:
            self.catch_up(left_ns / 1e9)

    def _run_by_schedule(self, instants: Iterator[int]) -> None:
        """Run an open loop: the clock sends the requests."""
        poll, descriptor = self._epoll.poll, [self._epoll.fileno()]
        self._next_due_ns = self._begin_ns + next(instants)
        while True:
            now = now_ns()
            while self._next_due_ns <= now:
                self._due.append(self._next_due_ns)
                self._next_due_ns = self._begin_ns + next(instants)
            # Bounded, so that requests that fail at once don't hold up the answers to the others.
            for _ in range(min(len(self._due), self._limit - self._in_flight)):
                self._send(self._due.popleft())
            now = now_ns()
            sleep_s = min((self._next_due_ns - now - _AWAKE_NS) / 1e9, _POLL_S)
            self._awake_ns = now + _OVERSLEPT_NS + max(int((sleep_s - _SLEEP_S) * 1e9), 0)
            if sleep_s > 0:
                # Not epoll's own timeout, which is rounded up to milliseconds.
                select.select(descriptor, (), (), sleep_s)
            if self._handle(poll(0)):
                return

    def _handle(self, events: list[tuple[int, int]]) -> bool:
        """Handle a batch of events; return True when the window is over."""
        began = now_ns()
        if began > self._awake_ns and self._phase is WindowPhase.INSIDE:
            self._occupation.overslept_ns += began - self._awake_ns
        by_fd = self._by_fd
        for fd, event in events:
            connection = by_fd.get(fd)
            if connection is None:  # closed by an earlier event of the same batch
                continue
            if event == select.EPOLLIN:
                connection.readable()
            else:
                connection.on_event(event)
        now = now_ns()
        if now - began > STALL_NS and self._phase is WindowPhase.INSIDE:
            self._occupation.stall_ns += now - began
        self._awake_ns = now + _OVERSLEPT_NS
        return now >= self._next_look_ns and self._look(now)

    def _look(self, now: int) -> bool:
        """Do what isn't done for every event; return True when the window is over."""
        if now >= self._next_check_ns:
            self._next_check_ns = now + int(_POLL_S * 1e9)
            self._check(now)
        if self._to_open:
            self._open()
        over = self._advance(now)
        # Inside the window nothing changes before its end; outside, any event may change the phase.
        inside = self._phase is WindowPhase.INSIDE
        self._next_look_ns = min(self._next_check_ns, max(self._agreement.stop_ns, now)) if inside else 0
        self.hot = inside and self._initial <= 0 and self._only is not None and self._rows.plain and not self._spec.once
        return over

    def _advance(self, now: int) -> bool:
        """Move to the next phase if it is time; return True when the window is over."""
        agreement, phase = self._agreement, self._phase
        if self._lost:
            agreement.abort()
            return True
        agreement.lead(now, self._spec)
        if phase is WindowPhase.LEAD_IN:
            if not self._ready and self._initial <= 0:
                self._ready = True
                agreement.ready()
            if 0 < agreement.start_ns <= now:
                self._phase = WindowPhase.INSIDE
                self._before = self._rows.count + len(self._failures)
                self._occupation.begin()
        elif phase is WindowPhase.INSIDE:
            agreement.sent(self._rows.count + len(self._failures) - self._before)
            # In open loop the window may end before all requests that were due in it have been sent.
            dealt = self._spec.arrivals is None or self._next_due_ns >= agreement.stop_ns
            if dealt and agreement.closed and now >= agreement.stop_ns:
                self._start_ns, self._stop_ns = agreement.start_ns, agreement.stop_ns
                self._followed = sum(
                    connection.busy and 0 < (connection.due_ns or connection.sent_ns) < self._stop_ns
                    for connection in self._connections
                ) + sum(due_ns < self._stop_ns for due_ns in self._due)
                self._phase = WindowPhase.FOLLOW
        if self._phase is WindowPhase.FOLLOW and self._followed <= 0:
            agreement.followed()
            if agreement.all_followed:
                share = (self._stop_ns - self._start_ns) / max(now - self._start_ns, 1)
                self._occupation.end(share)
                self._phase, self._drain_ns = WindowPhase.DRAIN, now
                self._due.clear()
        if agreement.aborted:
            self._lost = "another worker gave up"
            return True
        return self._phase is WindowPhase.DRAIN and not self._in_flight and not self._end_sequences()

    def _check(self, now: int) -> None:
        """Apply deadlines, send failed requests again, and give up: every ``_POLL_S``."""
        self._expire(now)
        if self._balance is not None:
            for address in self._failed_at:
                self._balance.done(address)
        self._failed_at.clear()
        again, self._retries = self._retries, 0
        for _ in range(again):
            self._send(0)
        self._lost = self._lost or self._hopeless(now)

    def _expire(self, now: int) -> None:
        """Fail requests and connections that take too long."""
        spec = self._spec
        deadline_ns = int(spec.deadline_s * 1e9)
        drained_ns = now - self._drain_ns if self._phase is WindowPhase.DRAIN else 0
        if drained_ns > _DRAIN_NS and drained_ns > 2 * self._rows.longest_ns():
            self._abandon()  # sent after the window, only to keep up the load until its requests were answered
        for connection in self._connections:
            if not connection.busy:
                continue
            if connection.sent_ns and now - connection.sent_ns > deadline_ns:
                self.failed(connection, "timeout", f"no answer within {spec.deadline_s:g} s")
            elif not connection.sent_ns and now - connection.asked_ns > CONNECT_NS:
                self.unreachable(connection, TimeoutError("no connection within 2 s"))
        while self._due and now - self._due[0] > deadline_ns:
            due_ns = self._due.popleft()
            detail = f"not sent within {spec.deadline_s:g} s, since {self._limit} others were unanswered"
            self._failures.add(due_ns, "timeout", detail)
            if self._phase is WindowPhase.FOLLOW and due_ns < self._stop_ns:
                self._followed -= 1

    def _hopeless(self, now: int) -> str:
        """Return why the window is given up; empty while it isn't."""
        spec, where = self._spec, ", ".join(self._labels)
        if self._parent is not None and os.getppid() != self._parent:
            return "the process that asked for the window is gone"
        if self._unreachable_since_ns and now - self._unreachable_since_ns > _GIVE_UP_S * 1e9:
            if self._rows.count == self._unreachable_count:
                return f"no connection to {where} for {_GIVE_UP_S:g} s"
            self._unreachable_since_ns = 0  # others still answer
        if self._phase is WindowPhase.LEAD_IN and now - self._begin_ns > (spec.deadline_s + spec.lead_in_s + 1) * 1e9:
            return f"{self._initial} of {max(spec.concurrency, 1)} connections to {where} got no answer"
        return ""

    # Sending, and what connections report.

    def _open(self) -> None:
        """Send the first requests, at most as many at once as a server's backlog takes."""
        while self._to_open and self._initial - self._to_open < _OPENING:
            self._to_open -= 1
            self._send(0, initial=True)

    def _end_sequences(self) -> int:
        """Send the last request of each unfinished sequence, so that the server frees its state; return the number."""
        if count := self._rotation.cut_sequences():
            self._cut_ns = self._drain_ns = now_ns()
        for _ in range(count):
            self._send(0 if self._spec.arrivals is None else self._cut_ns, ends_sequence=True)
        return count

    def _send(self, due_ns: int, *, initial: bool = False, ends_sequence: bool = False) -> None:
        over = self._phase is WindowPhase.DRAIN or (self._spec.once and self._sends >= self._spec.min_requests)
        if over and not ends_sequence:
            return
        address = self._balance.pick() if self._balance is not None else 0
        idle = self._idle[address]
        if idle:
            connection = idle.pop()
        else:
            connection = self._prepared.kind(self, address)
            self._connections.append(connection)
        # In open loop only the first request: the others may come late.
        connection.initial = initial or (due_ns > 0 and not self._sends)
        self._in_flight += 1
        self._sends += 1
        connection.begin(self._only or self._rotation.next_request(connection), due_ns)

    def completed(self, connection: Connection, done_ns: int) -> None:
        self._rows.add_of(connection, done_ns)
        if self._balance is not None:
            self._balance.done(connection.address)
        self._settle(connection)
        if self._spec.arrivals is None:
            self._send(0)

    def failed(self, connection: Connection, kind: str, detail: str, *, keep: bool = False) -> None:
        if not keep:
            connection.disconnect()
        if not connection.busy:
            return
        self._failures.add(connection.due_ns or connection.sent_ns or now_ns(), kind, detail, connection.address)
        # Outstanding until the next check: an endpoint that fails at once would always have the fewest outstanding
        # requests, and get all of them.
        self._failed_at.append(connection.address)
        self._settle(connection, failed=True)
        if self._spec.arrivals is None:
            # Later: a server that fails fast would be flooded, and its errors would outnumber the answers.
            self._retries += 1

    def untimely(self, connection: Connection, detail: str) -> None:
        self._untimely = self._untimely or detail
        self.failed(connection, UNTIMELY, detail)

    def unreachable(self, connection: Connection, error: OSError) -> None:
        if not self._unreachable_since_ns:
            self._unreachable_since_ns, self._unreachable_count = now_ns(), self._rows.count
        self.failed(connection, kind_of(error), str(error))

    def reached(self) -> None:
        self._unreachable_since_ns = 0

    def _settle(self, connection: Connection, *, failed: bool = False) -> None:
        """Note that a request is over, answered or failed."""
        if self._phase is WindowPhase.FOLLOW and 0 < (connection.due_ns or connection.sent_ns) < self._stop_ns:
            self._followed -= 1
        connection.busy = False
        connection.sent_ns = 0
        self._in_flight -= 1
        self._idle[connection.address].append(connection)
        self._rotation.settle(connection.slot, failed=failed)
        if connection.initial:
            connection.initial = False
            self._initial -= 1

    def _abandon(self) -> None:
        """Drop all requests in flight, without counting them."""
        for connection in self._connections:
            if connection.busy:
                connection.disconnect()
                self._settle(connection, failed=True)

    # The end.

    def _tally(self) -> Tally:
        now = now_ns()
        if self._lost:
            self._start_ns = self._agreement.start_ns or self._begin_ns
            self._stop_ns = max(min(self._agreement.stop_ns or now, now), self._start_ns)
            self._abandon()
        elif self._spec.once:
            self._stop_ns = self._cut_ns or now
        for due_ns, address in self._rows.discard() if self._untimely else ():
            self._failures.add(due_ns, UNTIMELY, self._untimely, address)
        return Tally(
            rows=self._rows.count,
            start_ns=self._start_ns,
            stop_ns=self._stop_ns,
            failures=self._failures.within(self._start_ns, self._stop_ns, len(self.addresses)),
            error_sample=self._failures.sample,
            occupation=self._occupation,
            lost=self._lost,
        )
