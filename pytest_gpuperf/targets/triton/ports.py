"""The ports of a tritonserver."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.model import GRPC, HTTP, Address

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """The ports on which a server listens on this machine."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def free(cls, http: int | None = None, grpc: int | None = None) -> Ports:
        """Return ports that no process currently uses; ``http`` and ``grpc`` if given."""
        for wanted, protocol in ((http, HTTP), (grpc, GRPC)):
            if wanted is not None:
                check_free(HOST, wanted, f"leave {protocol}_port out to get a free port")
        free_http, free_grpc, metrics = _free_ports()
        return cls(http or free_http, grpc or free_grpc, metrics)

    def address(self, protocol: str) -> Address:
        """Return the address of the HTTP or gRPC service."""
        return Address(HOST, self.grpc if protocol == GRPC else self.http)

    @property
    def metrics_url(self) -> str:
        return f"http://{HOST}:{self.metrics}/metrics"


def _free_ports() -> list[int]:
    """Return three distinct ports: all sockets stay open until every port is known."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for listener in sockets:
            listener.bind((HOST, 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def check_free(host: str, port: int, remedy: str) -> None:
    """Check that a server can listen on a port.

    Args:
        remedy: What to do otherwise, completing "Or ...".

    Raises:
        TargetError: It can't.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise TargetError(
                f"tritonserver can't listen on port {port}: {error.strerror}.\n"
                f"Find its user with: ss -ltnp 'sport = :{port}'. Or {remedy}."
            ) from error
