"""Connections of the load generator without sockets: bytes go in, the result of the request comes out."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytest_gpuperf.load.connection import UNTIMELY, Connection
from pytest_gpuperf.load.grpc import GrpcConnection
from pytest_gpuperf.load.grpc_request import GrpcRequest
from pytest_gpuperf.load.http1 import Http1Connection, HttpRequest
from pytest_gpuperf.model import GRPC_STREAM, Address, Request, WireWorkload
from pytest_gpuperf.targets.kserve import grpc_codec

#: After every request that is sent here.
_LATER_NS = 1 << 62
_ROOM = 1 << 16
WAITING, COMPLETED, CLOSED = "waiting", "completed", "closed"

#: Types of failures that bytes from a server can cause; others are the connection's own.
KINDS = (
    *("bad response", "HTTP ", "gRPC ", "wrong answer", "stream error", "stream ended", "RST_STREAM ", "GOAWAY "),
    UNTIMELY,
)


class Wire:
    """A socket that takes everything."""

    def send(self, data: bytes) -> int:
        return len(data)

    def sendmsg(self, buffers: Sequence[bytes]) -> int:
        return sum(map(len, buffers))

    def close(self) -> None:
        """Nothing is open."""


class Owner:
    """What a connection asks of its loop.

    Attributes:
        outcome: What became of the request: ``WAITING``, ``COMPLETED`` or the type of its failure.
        details: The failure in full.
    """

    def __init__(self, label: str = "127.0.0.1") -> None:
        self.hosts = [label]
        self.addresses: list[tuple[socket.AddressFamily, Any]] = []
        self.tls_context: ssl.SSLContext | None = None
        self.buffer = bytearray(_ROOM)
        self.known_blocks: dict[bytes, Mapping[str, str]] = {}
        self.hot = False
        self.outcome, self.details = WAITING, ""
        self.add_row: Callable[[int, int], None] = self._add_row

    def _add_row(self, _sent_ns: int, _done_ns: int) -> None:
        self._settle(COMPLETED)

    def _settle(self, outcome: str) -> None:
        assert self.outcome is WAITING, f"{self.outcome}, and then {outcome}"
        self.outcome = outcome

    def completed(self, connection: Connection, _done_ns: int) -> None:
        self._settle(COMPLETED)
        connection.busy, connection.sent_ns = False, 0

    def failed(self, connection: Connection, kind: str, detail: str, *, keep: bool = False) -> None:
        if not keep:
            connection.disconnect()
        if connection.busy:
            self._settle(kind)
            self.details = detail
            connection.busy, connection.sent_ns = False, 0

    def untimely(self, connection: Connection, detail: str) -> None:
        self.failed(connection, UNTIMELY, detail)

    def unreachable(self, connection: Connection, error: OSError) -> None:
        raise AssertionError(f"a connection was opened: {connection} {error}")

    def reached(self) -> None:
        raise AssertionError("a connection was opened")

    def register(self, connection: Connection, events: int) -> None:
        raise AssertionError(f"a connection was opened: {connection} {events}")

    def modify(self, connection: Connection, events: int) -> None:
        """There is no epoll."""

    def unregister(self, connection: Connection) -> None:
        """There is no epoll."""


def connected(kind: type[Connection], owner: Owner) -> Any:
    """Return an open connection that has sent its greeting."""
    connection: Any = kind(owner, 0)
    connection.socket, connection.opened = _WIRE, True
    connection._send = _WIRE.send
    connection.greet()
    return connection


def deliver(connection: Any, data: bytes) -> None:
    """Give the connection bytes as its socket would."""
    owner = connection.loop
    for at in range(0, len(data), _ROOM):
        if connection.socket is None:
            return
        part = data[at : at + _ROOM]
        owner.buffer[: len(part)] = part
        if not connection.take_known(len(part), _LATER_NS):
            connection.take(len(part), _LATER_NS)


class Exchange:
    """A request over a connection, answered with any bytes.

    Args:
        good: The right answer to an earlier request on the same connection.
    """

    def __init__(self, kind: type[Connection], request: HttpRequest | GrpcRequest, good: bytes = b"") -> None:
        self._kind, self._request, self._good = kind, request, good
        self._owner = Owner()

    def outcome(self, *pieces: bytes, known: bool = False) -> str:
        """Return what becomes of a request that these bytes answer.

        Args:
            known: Whether the earlier answer made the fast path of the next one known.
        """
        owner, request = self._owner, self._request
        owner.outcome, owner.details = WAITING, ""
        connection = connected(self._kind, owner)
        if self._good:
            connection.begin(request, 0)
            deliver(connection, self._good)
            assert owner.outcome is COMPLETED, (owner.outcome, owner.details)
            owner.outcome = WAITING
        if not known:
            if isinstance(request, HttpRequest):
                request.head, request.known_length = b"", -1
            else:
                request.pattern = None
        connection.begin(request, 0)
        for piece in pieces:
            deliver(connection, piece)
        if owner.outcome is WAITING and connection.socket is None:
            return CLOSED
        if owner.outcome not in (WAITING, COMPLETED):
            assert owner.outcome.startswith(KINDS), (owner.outcome, owner.details)
        return owner.outcome


def http_exchange(good: bytes = b"", check: Any = None) -> Exchange:
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"
    return Exchange(Http1Connection, HttpRequest(head, b"{}", check), good)


def grpc_exchange(protocol: str, good: bytes = b"", check: Any = None) -> Exchange:
    reader = grpc_codec.StreamReader() if protocol == GRPC_STREAM else None
    request = Request(b"\n\x01m", (), check)
    load = WireWorkload(protocol, (_ADDRESS,), grpc_codec.PATHS[protocol], ((request,),), read_stream=reader)
    return Exchange(GrpcConnection, GrpcRequest(load, _ADDRESS, request), good)


_ADDRESS = Address("127.0.0.1", 8001)
_WIRE = Wire()
