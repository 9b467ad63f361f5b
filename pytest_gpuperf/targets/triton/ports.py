"""The three ports of a tritonserver."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.model import GRPC, HTTP, Address

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """Where a server listens on this machine."""

    http: int
    grpc: int
    metrics: int

    @classmethod
    def free(cls, http: int | None = None, grpc: int | None = None) -> Ports:
        """Ports that nobody listens on now.

        Raises:
            TargetError: a wanted one is taken.
        """
        for wanted, protocol in ((http, HTTP), (grpc, GRPC)):
            if wanted is not None:
                _check_free(wanted, protocol)
        one, two, three = _free_ports(3)
        return cls(http or one, grpc or two, three)

    def address(self, protocol: str) -> Address:
        """Of its HTTP or gRPC service."""
        return Address(HOST, self.grpc if protocol == GRPC else self.http)

    @property
    def metrics_url(self) -> str:
        return f"http://{HOST}:{self.metrics}/metrics"


def _free_ports(count: int) -> list[int]:
    """All are held until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _check_free(port: int, protocol: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TargetError(
                f"Port {port} is taken ({error.strerror}), so tritonserver can't listen on it.\n"
                f"See who has it with: ss -ltnp 'sport = :{port}'. Or leave {protocol}_port out to get a free one."
            ) from error
