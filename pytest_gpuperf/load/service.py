"""The server side of a workload: resolved addresses, TLS, watched sockets, and the limit of open files."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import ssl
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import LoadError, OptionError
from pytest_gpuperf.load.connection import Connection
from pytest_gpuperf.load.generator import CONNECT_S
from pytest_gpuperf.model import HTTP, WireWorkload
from pytest_gpuperf.tls import tls_context

CONNECT_NS = int(CONNECT_S * 1e9)


class Watched:
    """Connections whose sockets an epoll set watches."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_fd: dict[int, Connection] = {}

    def register(self, connection: Connection, events: int) -> None:
        self._by_fd[connection.fd] = connection
        self._epoll.register(connection.fd, events)

    def modify(self, connection: Connection, events: int) -> None:
        self._epoll.modify(connection.fd, events)

    def unregister(self, connection: Connection) -> None:
        self._by_fd.pop(connection.fd, None)

    def catch_up(self, timeout_s: float = 0.0) -> None:
        """Handle events of idle connections: servers close them, or announce it, or answer what nobody asked."""
        for fd, event in self._epoll.poll(timeout_s, max(len(self._by_fd), 1)):
            if (connection := self._by_fd.get(fd)) is not None:
                connection.on_event(event)


def service_of(workload: WireWorkload) -> tuple[object, ...]:
    """Return what two workloads must share to use the same connections."""
    return (tuple((address.host, address.port) for address in workload.addresses), workload.protocol, workload.tls)


def tls_of(workload: WireWorkload) -> ssl.SSLContext | None:
    """Return the TLS settings of a workload's connections; None where they are plain.

    Raises:
        LoadError: A file can't be used; the message names it.
    """
    if workload.tls is None:
        return None
    try:
        context = tls_context(workload.tls)
    except OptionError as error:
        raise LoadError(*error.args) from error
    context.set_alpn_protocols(["http/1.1" if workload.protocol == HTTP else "h2"])
    return context


def resolve(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Return the address to connect to: of several, the first that accepts connections (``localhost`` is often two)."""
    try:
        candidates = [(info[0], info[4]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise LoadError(f"Host {host!r} can't be resolved: {error}. Correct the endpoint's address.") from error
    for family, target in candidates if len(candidates) > 1 else ():
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(CONNECT_NS / 1e9)
            probe.connect(target)
            return family, target
    return candidates[0]


def allow_open_files(further: int) -> None:
    """Raise the limit of open files as far as the system permits: every request in flight has its own connection.

    Raises:
        LoadError: The limit is too low for as many further connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
    if hard != resource.RLIM_INFINITY and in_use + further > hard:
        raise LoadError(
            f"{further} connections can't be opened: the system allows this process {hard} open files, of which "
            f"{in_use} are in use. Raise the limit (ulimit -n), lower the concurrency, or use more worker processes."
        )
