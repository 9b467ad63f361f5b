"""A connection: connecting, TLS, sending what doesn't fit at once. Subclasses know the protocol."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pytest_gpuperf.clock import time
from pytest_gpuperf.tls import tls_advice

if TYPE_CHECKING:
    from pytest_gpuperf.model import Address, Request, WireWorkload

now_ns = time.monotonic_ns

_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
CLOSED = "the server closed the connection before it had answered"
#: The type under which answers are counted that come when no request waits for them.
UNTIMELY = "untimely answer"
UNASKED = "the server sent an answer that no request asked for; latencies of this window can't be believed"
TOO_EARLY = "the server answered before it had received the request"
#: Buffers handed to one ``sendmsg``; Linux takes up to 1,024.
_BUFFERS = 256


class BadResponse(ValueError):
    """The server sent bytes that the protocol does not allow."""


class UntimelyAnswer(BadResponse):
    """An answer came that no request asked for: earlier ones may have been taken for those to later requests."""


class ConnectionOwner(Protocol):
    """The parts of a loop that its connections use.

    Attributes:
        hosts, addresses: Names and socket addresses of the workload's addresses, by number.
        buffer: The bytes received last.
        known_blocks: Header blocks that have been decoded before (HTTP/2).
        hot: The right answer to a request only leads to the same request again, on the same connection; nothing else
            is counted or chosen. A connection may then call ``add_row`` and send, without ``completed``.
        add_row: Notes when the request of a right answer was sent and done.
    """

    hosts: list[str]
    addresses: list[tuple[socket.AddressFamily, Any]]
    tls_context: ssl.SSLContext | None
    buffer: bytearray
    known_blocks: dict[bytes, Mapping[str, str]]
    hot: bool
    add_row: Callable[[int, int], None]

    def completed(self, connection: Connection, done_ns: int) -> None:
        """Note a right answer."""

    def failed(self, connection: Connection, kind: str, detail: str, *, keep: bool = False) -> None:
        """Note a failed request, and close its connection unless ``keep`` says that it can take the next request."""

    def untimely(self, connection: Connection, detail: str) -> None:
        """Note an answer that no request waits for, and close its connection: no answer of the window is right then."""

    def unreachable(self, connection: Connection, error: OSError) -> None:
        """Note that the connection could not be opened."""

    def reached(self) -> None:
        """Note that the connection was opened."""

    def register(self, connection: Connection, events: int) -> None:
        """Watch the connection's socket for these events of epoll."""

    def modify(self, connection: Connection, events: int) -> None:
        """Watch the socket for different events."""

    def unregister(self, connection: Connection) -> None:
        """Stop watching the socket."""


class Connection(ABC):
    """A connection with at most one request in flight.

    Attributes:
        address: Number of the workload's address that it connects to.
        due_ns, sent_ns: Times of the request in flight; ``sent_ns`` is 0 while it waits for the connection.
        busy: Whether a request is in flight.
        slot: The rotation that its request comes from.
        initial: Whether its request is among the window's first.
    """

    __slots__ = (
        "_outbox",
        "_recv_into",
        "_send",
        "address",
        "asked_ns",
        "busy",
        "due_ns",
        "fd",
        "initial",
        "loop",
        "opened",
        "readable",
        "request",
        "sent_ns",
        "slot",
        "socket",
        "wants_out",
    )

    def __init__(self, loop: ConnectionOwner, address: int) -> None:
        self.loop, self.address = loop, address
        self.socket: Any = None
        self.fd = -1
        self.request: Any = None
        self.due_ns = self.sent_ns = self.asked_ns = 0
        self.slot = 0
        self.busy = self.initial = self.opened = self.wants_out = False
        #: The part of the request that the kernel has not taken yet.
        self._outbox: deque[memoryview] = deque()
        #: Called when there is something to read.
        self.readable: Any = self._progress

    # Implemented by each protocol.

    @staticmethod
    @abstractmethod
    def prepare(workload: WireWorkload, address: Address, request: Request) -> Any:
        """Return a request, ready to be written.

        Raises:
            ValueError: A header can't be written.
        """

    @abstractmethod
    def send_request(self) -> None:
        """Stamp ``sent_ns`` and write ``self.request``."""

    @abstractmethod
    def take(self, size: int, done_ns: int) -> None:
        """Process the first ``size`` bytes of the loop's buffer, received at ``done_ns``."""

    @abstractmethod
    def take_known(self, size: int, done_ns: int) -> bool:
        """Process a complete correct answer that is recognised by its bytes: the fast path of nearly all answers.

        Returns:
            False, without having done anything, if the bytes need ``take``.
        """

    @abstractmethod
    def greet(self) -> None:
        """Send what the protocol requires first on a fresh connection."""

    @abstractmethod
    def forget(self) -> None:
        """Drop a partly received answer."""

    # Common to all protocols.

    def begin(self, request: Any, due_ns: int) -> None:
        """Send a request, over a fresh connection if need be. ``due_ns`` 0: it is due when it is sent."""
        self.request, self.due_ns, self.busy = request, due_ns, True
        if self.opened:
            self.send_request()
        else:
            self.asked_ns = now_ns()
            self._connect()

    def on_event(self, event: int) -> None:
        """Handle any event but "there is something to read"."""
        if not self.opened:
            self._progress()
            return
        if event & select.EPOLLOUT:
            self.flush()
        if event & ~select.EPOLLOUT and self.socket is not None:
            self.readable()

    def _connect(self) -> None:
        self.sent_ns = 0
        family, target = self.loop.addresses[self.address]
        try:
            fresh = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self.loop.failed(self, "too many open files" if error.errno == errno.EMFILE else kind_of(error), str(error))
            return
        fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket, self.fd = fresh, fresh.fileno()
        status = fresh.connect_ex(target)
        if status not in (0, errno.EINPROGRESS):
            fresh.close()
            self.socket = None
            self.loop.unreachable(self, OSError(status, os.strerror(status)))
            return
        self.loop.register(self, select.EPOLLOUT)
        self.wants_out = True
        self.readable = self._progress

    def _progress(self) -> None:
        """Handle an event of a connection that isn't open yet."""
        status = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            self.loop.unreachable(self, OSError(status, os.strerror(status)))
            return
        context = self.loop.tls_context
        if context is not None:
            try:
                if not isinstance(self.socket, ssl.SSLSocket):
                    self.socket = context.wrap_socket(
                        self.socket, server_hostname=self.loop.hosts[self.address], do_handshake_on_connect=False
                    )
                self.socket.do_handshake()
            except ssl.SSLWantReadError:
                self._want_out(False)
                return
            except ssl.SSLWantWriteError:
                self._want_out(True)
                return
            except OSError as error:
                self.loop.failed(self, "TLS error", "".join(map(str, tls_advice(error))))
                return
        self.opened = True
        self._want_out(False)
        self._send, self._recv_into = self.socket.send, self.socket.recv_into
        self.readable = self._receive if context is None else self._receive_tls
        self.loop.reached()
        self.greet()
        if self.busy and self.socket is not None:
            self.send_request()

    def _receive(self) -> None:
        try:
            size = self._recv_into(self.loop.buffer)
        except BlockingIOError:
            return
        except OSError as error:
            self._broken(kind_of(error), str(error))
            return
        done_ns = now_ns()
        if not size:
            self._broken("connection closed", CLOSED)
        elif not self.take_known(size, done_ns):
            self.take(size, done_ns)

    def _receive_tls(self) -> None:
        """Receive record by record: epoll doesn't report records that OpenSSL has read already."""
        while True:
            try:
                size = self._recv_into(self.loop.buffer)
            except _LATER:
                return
            except ssl.SSLEOFError:
                size = 0
            except OSError as error:
                self._broken(kind_of(error), "".join(map(str, tls_advice(error))))
                return
            done_ns = now_ns()
            if not size:
                self._broken("connection closed", CLOSED)
                return
            before = self.socket
            if not self.take_known(size, done_ns):
                self.take(size, done_ns)
            if self.socket is not before or not self.socket.pending():
                return

    def _broken(self, kind: str, detail: str) -> None:
        if self.busy:
            self.loop.failed(self, kind, detail)
        else:
            self.disconnect()  # idle: the server may close it at any time

    def write(self, data: bytes) -> bool:
        """Send a small piece; the part that the kernel doesn't take waits. Return False when the connection broke."""
        if self._outbox:
            self._outbox.append(memoryview(data))
            return True
        try:
            size = self._send(data)
        except _LATER:
            size = 0
        except OSError as error:
            self._broken(kind_of(error), str(error))
            return False
        if size < len(data):
            self._outbox.append(memoryview(data)[size:])
            self._want_out(True)
        return True

    def flush(self) -> None:
        """Write as much of ``_outbox`` as the kernel takes now, without copying it."""
        outbox = self._outbox
        try:
            while outbox:
                if self.loop.tls_context is None:
                    size = self.socket.sendmsg([outbox[index] for index in range(min(len(outbox), _BUFFERS))])
                else:
                    size = self._send(outbox[0])
                while size:
                    first = outbox.popleft()
                    if size < len(first):
                        outbox.appendleft(first[size:])
                        break
                    size -= len(first)
        except _LATER:
            self._want_out(True)
            return
        except OSError as error:
            self._broken(kind_of(error), str(error))
            return
        self._want_out(False)

    def _want_out(self, wanted: bool) -> None:
        if wanted is not self.wants_out:
            self.wants_out = wanted
            self.loop.modify(self, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def disconnect(self) -> None:
        if self.socket is not None:
            self.loop.unregister(self)
            self.socket.close()  # epoll drops closed descriptors
        self.socket = None
        self.opened = self.wants_out = False
        self._outbox.clear()
        self.readable = self._progress
        self.forget()


def kind_of(error: OSError) -> str:
    """Return the type under which a failed request is counted."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "connection reset"
    if isinstance(error, TimeoutError):
        return "connection timeout"
    if isinstance(error, ssl.SSLEOFError):
        return "connection closed"
    if isinstance(error, ssl.SSLError):
        return "TLS error"
    return f"connection error ({error.strerror or error})"


def headers_of(request: Request, common: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the headers of a request; its headers override the common ones, whatever the case of their names.

    Raises:
        ValueError: A header has no name, or a line break, which would forge further headers.
    """
    merged: dict[str, tuple[str, str]] = {}
    for name, value in (*common, *request.headers):
        if any(character in name + value for character in "\r\n\0") or not name:
            raise ValueError(f"the header {name!r}: {value!r} has a line break or no name")
        merged[name.lower()] = (name, value)
    return dict(merged.values())
