"""What the servers of these tests share: a listener, a thread for each connection, and an end to all of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Any, TypeVar

HOST = "127.0.0.1"

Own = TypeVar("Own", bound="Listening")


class Listening:
    """Accepts connections in threads; a context manager.

    Attributes:
        connections: how many were accepted.
    """

    def __init__(self, *, receive_bytes: int = 0, port: int = 0, backlog: int = 64) -> None:
        self.connections = 0
        self.lock = threading.Lock()
        self.open: set[Any] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._listener.bind((HOST, port))
        self._listener.listen(backlog)
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def serve(self, connection: socket.socket, number: int) -> None:
        """One connection, in a thread of its own, until it ends."""
        raise NotImplementedError

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.die()
        for thread in self._threads:
            thread.join(5)

    def die(self) -> None:
        """Stop listening and drop every connection, at once."""
        with self.lock:
            sockets = [self._listener, *self.open]
        for connected in sockets:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.lock:
                    self.open.add(connection)
                    thread = threading.Thread(target=self.serve, args=(connection, self.connections), daemon=True)
                    self.connections += 1
                    self._threads.append(thread)
                thread.start()
