"""HTTP/1.1 for control calls and metrics: an answer is bounded in time and in size, and no proxy is used.

The load generator connects to the servers directly, so control calls must do so, too. ``http.client`` limits the length
of the headers, but its timeout applies to each read: a server that sends a byte at a time would never exceed it.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
from collections.abc import Mapping
from typing import Any

from pytest_gpuperf.clock import time
from pytest_gpuperf.limits import read_within

#: Errors that ``BoundedHttp.ask`` raises without an answer; TooLargeError is a ValueError.
NO_ANSWER = (OSError, http.client.HTTPException, ValueError)


class BoundedHttp:
    """A connection to a server. It opens when it is used, and again after an error.

    Args:
        timeout_s: Longest time of a call, from the connection to the last byte.
        connect_s: Longest time to open the connection; ``timeout_s`` when None.
        limit: Largest body in bytes.
        context: Settings of TLS; None for a plain connection.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout_s: float,
        limit: int,
        connect_s: float | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_s, self._limit = timeout_s, limit
        self._connection: Any
        self._timed: _TimedSocket | None = None
        connect_s = timeout_s if connect_s is None else connect_s
        if context is None:
            self._connection = http.client.HTTPConnection(host, port, timeout=connect_s)
        else:
            self._connection = http.client.HTTPSConnection(host, port, timeout=connect_s, context=context)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return the status and the body of an answer.

        Raises:
            OSError, http.client.HTTPException: No answer came in time, or it is not HTTP.
            TooLargeError: The answer is too large.
            ValueError: The path or a header can't be sent.
        """
        end_s = time.monotonic() + self._timeout_s
        try:
            if self._timed is None:
                self._connection.connect()
                self._timed = _TimedSocket(self._connection.sock)
                self._connection.sock = self._timed
            self._timed.end_s = end_s
            self._connection.request(method, path, body, dict(headers or {}))
            response = self._connection.getresponse()
            answer = response.status, read_within(response.read, self._limit, "the answer")
        except BaseException:
            self.close()
            raise
        if response.will_close:
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection. May be called twice."""
        self._connection.close()
        if self._timed is not None:
            self._timed.really_close()
        self._timed = None


class _TimedSocket:
    """The parts of a socket that ``http.client`` uses, with an end for all reads and writes together."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self.end_s = 0.0

    def _bound(self) -> socket.socket:
        left_s = self.end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left_s)
        return self._socket

    def sendall(self, data: bytes) -> None:
        self._bound().sendall(data)

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def receive_into(self, buffer: Any) -> int:
        return self._bound().recv_into(buffer)

    def close(self) -> None:
        """Do nothing: ``http.client`` closes a connection before it has read the last answer."""

    def really_close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


class _TimedReader(io.RawIOBase):
    """The reading end of a socket, as a file."""

    def __init__(self, timed: _TimedSocket) -> None:
        super().__init__()
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.receive_into(buffer)
