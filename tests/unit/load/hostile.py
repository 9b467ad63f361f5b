"""HTTP servers that misbehave, on plain sockets in threads of this process."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import BinaryIO

from tests.unit.load.listening import Listening


def response(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """A response with a correct Content-Length."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class _HangUp(Exception):
    """The server is through with this connection."""


class Exchange:
    """One request that a server has read, and the connection on which to answer it.

    Attributes:
        connection: its number, from 0.
        number: of the request, over all connections, from 0.
    """

    def __init__(
        self, socket_: socket.socket, connection: int, number: int, request: bytes, over: Callable[[], None]
    ) -> None:
        self._socket, self._over = socket_, over
        self._begun = False
        self.connection = connection
        self.number = number
        self.request = request

    @property
    def body(self) -> bytes:
        """What the request carries."""
        return self.request.partition(b"\r\n\r\n")[2]

    def begin(self) -> None:
        """From now on the request no longer counts as unanswered: the client can't see the answer before this."""
        if not self._begun:
            self._begun = True
            self._over()

    def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Send the pieces as packets of their own."""
        self.begin()
        for index, piece in enumerate(pieces):
            if index:
                time.sleep(pause_s)
            self._socket.sendall(piece)

    def hang_up(self) -> None:
        """Close the connection in order (FIN)."""
        raise _HangUp

    def reset(self) -> None:
        """Tear it down (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _HangUp


Behaviour = Callable[[Exchange], None]


class Server(Listening):
    """Has every request answered by ``behave``, each connection in a thread of its own.

    Args:
        receive_bytes: size of the receive buffers; small ones make large requests arrive in pieces.
        early: answer when the head has been read, and read the body afterwards.
        idle_s: close connections on which nothing comes for so long.
        port: a free one when 0.
        backlog: connections that may wait to be accepted.

    Attributes:
        requests: how many were read.
        seen: the different requests among them.
        at_once: the most that were waiting for an answer at one time; may be set back to 0.
    """

    def __init__(
        self,
        behave: Behaviour,
        *,
        receive_bytes: int = 0,
        early: bool = False,
        idle_s: float | None = None,
        port: int = 0,
        backlog: int = 64,
    ) -> None:
        self._behave, self._early, self._idle_s = behave, early, idle_s
        self._unanswered = 0
        self.requests = self.at_once = 0
        self.seen: set[bytes] = set()
        super().__init__(receive_bytes=receive_bytes, port=port, backlog=backlog)

    def serve(self, connection: socket.socket, number: int) -> None:
        connection.settimeout(self._idle_s)
        try:
            with contextlib.suppress(_HangUp, OSError), connection, connection.makefile("rb") as stream:
                while head := _head(stream):
                    body = b"" if self._early else _body(stream, head)
                    self._see(head + body)
                    self._answer(Exchange(connection, number, self._arrived(), head + body, self._over))
                    if self._early:
                        self._see(head + _body(stream, head))
        finally:
            with self.lock:
                self.open.discard(connection)

    def _see(self, request: bytes) -> None:
        with self.lock:
            self.seen.add(request)

    def _arrived(self) -> int:
        with self.lock:
            self.requests += 1
            self._unanswered += 1
            self.at_once = max(self.at_once, self._unanswered)
            return self.requests - 1

    def _answer(self, exchange: Exchange) -> None:
        try:
            self._behave(exchange)
        finally:
            exchange.begin()

    def _over(self) -> None:
        with self.lock:
            self._unanswered -= 1


def _head(stream: BinaryIO) -> bytes:
    """Empty when the client is gone."""
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _body(stream: BinaryIO, head: bytes) -> bytes:
    length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    wanted = int(length.group(1)) if length else 0
    body = stream.read(wanted)
    if len(body) < wanted:
        raise _HangUp
    return body


def answers(*pieces: bytes, after_s: float = 0.0, pause_s: float = 0.0) -> Behaviour:
    """Every request gets the same bytes, after a time, in these packets."""

    def behave(exchange: Exchange) -> None:
        time.sleep(after_s)
        exchange.send(*pieces, pause_s=pause_s)

    return behave


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """One request is treated in this way, the next in that way, and so on round."""

    def behave(exchange: Exchange) -> None:
        behaviours[exchange.number % len(behaviours)](exchange)

    return behave


def silence(exchange: Exchange) -> None:
    """Never answer. Ends when the client or the server drops the connection."""
    with contextlib.suppress(OSError):
        exchange._socket.recv(1)
    exchange.hang_up()


def hang_up_after(sent: bytes) -> Behaviour:
    """Send this and close."""

    def behave(exchange: Exchange) -> None:
        exchange.send(sent)
        exchange.hang_up()

    return behave


def reset_after(sent: bytes) -> Behaviour:
    """Send this and reset."""

    def behave(exchange: Exchange) -> None:
        exchange.send(sent)
        exchange.reset()

    return behave


def silent_after(sent: bytes) -> Behaviour:
    """Send this and nothing more."""

    def behave(exchange: Exchange) -> None:
        exchange.send(sent)
        silence(exchange)

    return behave


def endless(start: bytes, again: bytes, pause_s: float = 0.0) -> Behaviour:
    """Send the start, then the rest again and again until the client leaves."""

    def behave(exchange: Exchange) -> None:
        exchange.send(start)
        while True:
            exchange.send(again)
            time.sleep(pause_s)

    return behave
