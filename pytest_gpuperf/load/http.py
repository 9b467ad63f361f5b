"""Closed-loop HTTP/1.1 load: one epoll loop, keep-alive connections, two clock readings per request.

Raw epoll rather than asyncio: measured against the same loop on uvloop it costs the same CPU per request or less
(11 against 14 us at concurrency 1), needs no dependency, and the clock is read next to the system call instead of
behind an event loop's queue.

A server repeats its response heads byte for byte, so a response whose first bytes equal the last complete 200 head
needs only its length checked. Everything else (another status, chunked bodies, a head in pieces) goes through llhttp.
"""

from __future__ import annotations

import os
import select
import socket
import time
from array import array
from enum import Enum

from pytest_gpuperf.load.generator import Recording, WindowSpec
from pytest_gpuperf.load.response import ResponseReader

now_ns = time.monotonic_ns

_RECEIVE_BYTES = 1 << 20
_POLL_S = 0.05
#: A refused connection is tried again so often...
_RECONNECT_S = 0.05
#: ...and after so long without any connection the window is given up: the server is gone, not busy.
_GIVE_UP_S = 2.0
#: Long enough for one lost SYN.
_CONNECT_S = 2.0
#: Room for so many requests is allocated before a window; more are appended.
_PREALLOCATED = 1 << 16


class _Connection:
    """One keep-alive connection with at most one request in flight."""

    __slots__ = ("answered", "expected", "fd", "reader", "received", "sent_ns", "socket", "unsent")

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.fd = -1
        self.sent_ns = 0  # 0: nothing in flight
        self.received = 0
        self.expected = 0  # length of the response that is being received; 0: not known
        self.unsent: memoryview | None = None
        self.reader: ResponseReader | None = None
        self.answered = False


class _Phase(Enum):
    LEAD_IN = 1  # the load runs, nothing counts yet
    INSIDE = 2  # between start and stop
    FOLLOW = 3  # the load goes on until every request sent inside is done
    DRAIN = 4  # nothing more is sent


class HttpLoop:
    """Keeps connections to one address and runs windows over them.

    Everything that happens from the first send on is recorded; which requests belong to the window is decided from
    the recorded times afterwards, so that no bookkeeping at the edges can get it wrong.
    """

    def __init__(self, host: str, port: int, parent: int | None = None) -> None:
        """With ``parent``, a window is given up when this process is no longer that process's child."""
        self._address = (host, port)
        self._parent = parent
        self._epoll = select.epoll()
        self._connections: list[_Connection] = []
        self._by_fd: dict[int, _Connection] = {}
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._head = b""
        self._length = 0

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            self._disconnect(connection)
        self._connections.clear()
        self._epoll.close()

    def window(self, wire: bytes, spec: WindowSpec) -> Recording:
        """Run one closed-loop window; see ``WindowSpec`` and ``Recording``."""
        while len(self._connections) < spec.concurrency:
            self._connections.append(_Connection())
        self._wire = memoryview(wire)
        self._active = self._connections[: spec.concurrency]
        self._spec = spec
        self._sent, self._done = array("q", bytes(8 * _PREALLOCATED)), array("q", bytes(8 * _PREALLOCATED))
        self._count = self._sends = 0
        self._errors: list[tuple[int, str]] = []
        self._sample = self._lost = ""
        self._retry: list[_Connection] = []
        self._refused_since_ns = 0
        self._begin_ns = now_ns()
        self._start_ns = self._stop_ns = 0
        self._phase = _Phase.LEAD_IN
        self._unanswered, self._followed = len(self._active), 0
        self._cpu_start_s, self._cpu_s = time.process_time(), 0.0
        if not spec.lead_in_s:
            self._start(self._begin_ns)
        for connection in self._active:
            connection.answered = False
            self._send(connection)
        self._loop()
        return self._recording()

    def _loop(self) -> None:
        poll, by_fd = self._epoll.poll, self._by_fd
        next_check_ns = 0
        while True:
            for fd, event in poll(_POLL_S):
                connection = by_fd.get(fd)
                if connection is None:  # closed by an earlier event of the same batch
                    continue
                if event & select.EPOLLOUT and connection.unsent is not None:
                    self._send_rest(connection)
                if event & ~select.EPOLLOUT and connection.socket is not None:
                    self._receive(connection)
            now = now_ns()
            if now >= next_check_ns:
                next_check_ns = now + int(_POLL_S * 1e9)
                self._check(now)
            if self._advance(now):
                return

    def _advance(self, now: int) -> bool:
        """Move to the next phase if it is time; True when the window is over."""
        spec = self._spec
        if self._lost:
            return True
        if self._phase is _Phase.INSIDE:
            if now < self._stop_ns:
                return False
            length_ns = self._stop_ns - self._start_ns
            if self._sends < spec.min_requests and length_ns < spec.max_window_s * 1e9:
                self._stop_ns += max(int(spec.window_s * 5e8), int(_POLL_S * 1e9))
                return False
            self._followed = sum(1 for connection in self._active if 0 < connection.sent_ns < self._stop_ns)
            self._phase = _Phase.FOLLOW
        if self._phase is _Phase.LEAD_IN:
            if self._unanswered <= 0 and now >= self._begin_ns + spec.lead_in_s * 1e9:
                self._start(now)
            return False
        if self._phase is _Phase.FOLLOW and self._followed <= 0:
            self._cpu_s = (
                (time.process_time() - self._cpu_start_s) * (self._stop_ns - self._start_ns) / (now - self._start_ns)
            )
            self._phase = _Phase.DRAIN
        return self._phase is _Phase.DRAIN and not any(connection.sent_ns for connection in self._active)

    def _start(self, now: int) -> None:
        # The length is fixed here, before the window: an edge that waited for an event would favour that event.
        self._phase = _Phase.INSIDE
        self._start_ns, self._stop_ns = now, now + int(self._spec.window_s * 1e9)
        self._cpu_start_s = time.process_time()

    def _check(self, now: int) -> None:
        """What needs no microseconds: deadlines, reconnecting, giving up."""
        spec = self._spec
        deadline_ns = int(spec.deadline_s * 1e9)
        for connection in self._active:
            if connection.sent_ns and now - connection.sent_ns > deadline_ns:
                self._fail(connection, "timeout", f"no answer within {spec.deadline_s:g} s")
        again, self._retry = self._retry, []
        for connection in again:
            if not connection.sent_ns:
                self._send(connection)
        where = f"{self._address[0]}:{self._address[1]}"
        if self._parent is not None and os.getppid() != self._parent:
            self._lost = "the process that asked for the window is gone"
        elif self._refused_since_ns and now - self._refused_since_ns > _GIVE_UP_S * 1e9:
            self._lost = f"no connection to {where} for {_GIVE_UP_S:g} s"
        elif self._phase is _Phase.LEAD_IN and now - self._begin_ns > deadline_ns + (spec.lead_in_s + 1) * 1e9:
            self._lost = f"{self._unanswered} of {len(self._active)} connections to {where} got no answer"

    def _send(self, connection: _Connection) -> None:
        if self._phase is _Phase.DRAIN or (self._spec.once and self._sends >= self._spec.min_requests):
            return
        if connection.socket is None and not self._connect(connection):
            self._retry.append(connection)
            return
        assert connection.socket is not None
        connection.received = connection.expected = 0
        if self._phase is not _Phase.LEAD_IN:
            self._sends += 1
        connection.sent_ns = now_ns()
        try:
            size = connection.socket.send(self._wire)
        except BlockingIOError:
            size = 0
        except OSError as error:
            self._fail(connection, _kind(error), str(error))
            return
        if size < len(self._wire):
            connection.unsent = self._wire[size:]
            self._epoll.modify(connection.fd, select.EPOLLIN | select.EPOLLOUT)

    def _send_rest(self, connection: _Connection) -> None:
        assert connection.socket is not None
        assert connection.unsent is not None
        try:
            size = connection.socket.send(connection.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(connection, _kind(error), str(error))
            return
        connection.unsent = connection.unsent[size:] or None
        if connection.unsent is None:
            self._epoll.modify(connection.fd, select.EPOLLIN)

    def _receive(self, connection: _Connection) -> None:
        assert connection.socket is not None
        try:
            size = connection.socket.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(connection, _kind(error), str(error))
            return
        done_ns = now_ns()
        if not connection.sent_ns:
            self._disconnect(connection)  # idle: closed by the server, or out of step with it
        elif not size:
            self._fail(connection, "connection closed", "the server closed the connection before it had answered")
        elif connection.expected:
            connection.received += size
            if connection.received >= connection.expected:
                self._complete(connection, done_ns)
        elif connection.reader is None and size >= len(self._head) > 0 and self._buffer.startswith(self._head):
            connection.received, connection.expected = size, self._length
            if size >= self._length:
                self._complete(connection, done_ns)
        else:
            self._read(connection, size, done_ns)

    def _read(self, connection: _Connection, size: int, done_ns: int) -> None:
        """A response that doesn't look like the last one."""
        reader = connection.reader = connection.reader or ResponseReader()
        try:
            reader.feed(memoryview(self._buffer)[:size])
        except ValueError as error:
            self._fail(connection, "bad response", str(error))
            return
        if not reader.done:
            return
        connection.reader = None
        if reader.status != 200:
            keep = reader.keeps_alive and connection.unsent is None
            self._fail(connection, f"HTTP {reader.status}", reader.body.decode("utf-8", "replace"), keep=keep)
            return
        head = reader.head()
        if head is not None:
            self._head, self._length = head, len(head) + reader.body_bytes
        self._complete(connection, done_ns, keep=reader.keeps_alive)

    def _complete(self, connection: _Connection, done_ns: int, *, keep: bool = True) -> None:
        if connection.received > connection.expected:
            self._fail(connection, "bad response", "the server sent more than its Content-Length")
            return
        if connection.unsent is not None:
            self._fail(connection, "bad response", "the server answered before it had the whole request")
            return
        if not keep:
            self._disconnect(connection)
        count = self._count
        if count == len(self._sent):
            self._sent.frombytes(bytes(8 * count))
            self._done.frombytes(bytes(8 * count))
        self._sent[count], self._done[count] = connection.sent_ns, done_ns
        self._count = count + 1
        self._settle(connection)
        self._send(connection)

    def _fail(self, connection: _Connection, kind: str, detail: str, *, keep: bool = False) -> None:
        """The request failed. Its connection is closed, unless ``keep`` says that it is still in step."""
        if connection.sent_ns:
            self._errors.append((connection.sent_ns, kind))
            self._sample = self._sample or f"{kind}: {detail}"
        if not keep:
            self._disconnect(connection)
        self._settle(connection)
        # Not at once: a server that fails fast would be hammered, and its errors would drown the answers.
        self._retry.append(connection)

    def _settle(self, connection: _Connection) -> None:
        """The request is over, one way or the other."""
        if 0 < connection.sent_ns < self._stop_ns and self._phase is _Phase.FOLLOW:
            self._followed -= 1
        connection.sent_ns = 0
        if not connection.answered:
            connection.answered = True
            self._unanswered -= 1

    def _connect(self, connection: _Connection) -> bool:
        if self._refused_since_ns and now_ns() - self._refused_since_ns > _GIVE_UP_S * 1e9:
            return False  # the next check gives the window up; a full backlog would cost each attempt its timeout
        try:
            fresh = socket.create_connection(self._address, timeout=_CONNECT_S)
        except OSError as error:
            self._refused_since_ns = self._refused_since_ns or now_ns()
            self._errors.append((now_ns(), _kind(error)))
            self._sample = self._sample or f"{_kind(error)}: {error}"
            return False
        self._refused_since_ns = 0
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        fresh.setblocking(False)
        connection.socket, connection.fd = fresh, fresh.fileno()
        self._by_fd[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLIN)
        return True

    def _disconnect(self, connection: _Connection) -> None:
        if connection.socket is not None:
            del self._by_fd[connection.fd]
            connection.socket.close()  # epoll forgets a closed descriptor by itself
        connection.socket = connection.unsent = connection.reader = None
        connection.received = connection.expected = 0

    def _recording(self) -> Recording:
        if self._lost:
            for connection in self._active:
                self._disconnect(connection)
                connection.sent_ns = 0
            now = now_ns()
            self._start_ns = self._start_ns or self._begin_ns
            self._stop_ns = min(self._stop_ns or now, now)
        elif self._spec.once:
            self._stop_ns = now_ns()
        errors: dict[str, int] = {}
        for sent_ns, kind in self._errors:
            if self._start_ns <= sent_ns < self._stop_ns:
                errors[kind] = errors.get(kind, 0) + 1
        return Recording(
            start_ns=self._start_ns,
            stop_ns=self._stop_ns,
            sent_ns=self._sent[: self._count],
            done_ns=self._done[: self._count],
            errors=errors,
            error_sample=self._sample,
            cpu_s=self._cpu_s,
            lost=self._lost,
        )


def _kind(error: OSError) -> str:
    """The type under which a failed request is counted."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "connection reset"
    if isinstance(error, TimeoutError):
        return "connection timeout"
    return f"connection error ({error.strerror or error})"
