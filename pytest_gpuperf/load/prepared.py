"""Requests ready to be written, in the form of each protocol's connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load.connection import Connection
from pytest_gpuperf.model import HTTP, WireWorkload


@dataclass(frozen=True)
class Prepared:
    """A workload's requests.

    Attributes:
        kind: Class of the connections that write them.
        rotations: The requests by address, slot and turn.
    """

    workload: WireWorkload
    kind: type[Connection]
    rotations: list[list[list[Any]]]

    @property
    def only(self) -> Any:
        """The only request, if there is a single request to a single address (the common case); else None."""
        first = self.rotations[0]
        return first[0][0] if len(self.rotations) == len(first) == len(first[0]) == 1 else None

    @classmethod
    def of(cls, workload: WireWorkload) -> Prepared:
        """Prepare the requests of a workload.

        Raises:
            LoadError: A request can't be written.
        """
        kind = _connection_kind(workload.protocol)
        try:
            rotations = [
                [[kind.prepare(workload, address, request) for request in rotation] for rotation in workload.rotations]
                for address in workload.addresses
            ]
        except ValueError as error:
            raise LoadError(f"The request can't be written: {error}") from error
        return cls(workload, kind, rotations)


class Rotation:
    """Chooses the requests of a worker in a window: the next of a connection's slot.

    Several workers divide the slots among them.

    Attributes:
        free_slots: Slots without a request in flight; None where all connections share a slot.
    """

    def __init__(self, rotations: list[list[list[Any]]], worker: tuple[int, int]) -> None:
        self._rotations = rotations
        self._turn = 0
        slots = list(range(worker[0], len(rotations[0]), worker[1]))
        self.count = len(slots)
        self.free_slots = slots if len(rotations[0]) > 1 else None

    def next_request(self, connection: Connection) -> Any:
        """Choose the connection's slot and return its next request."""
        connection.slot = self.free_slots.pop() if self.free_slots is not None else 0
        rotation = self._rotations[connection.address][connection.slot]
        self._turn += 1
        return rotation[(self._turn - 1) % len(rotation)]


def _connection_kind(protocol: str) -> type[Connection]:
    if protocol == HTTP:
        from pytest_gpuperf.load.http1 import Http1Connection

        return Http1Connection
    from pytest_gpuperf.load.grpc import GrpcConnection

    return GrpcConnection
