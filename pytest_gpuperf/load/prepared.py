"""Requests ready to be written, in the form of each protocol's connections."""

from __future__ import annotations

from collections import deque
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
        if self.workload.stateful:
            return None
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

    def __init__(self, prepared: Prepared, worker: tuple[int, int], *, in_turn: bool) -> None:
        """Begin all rotations.

        Args:
            worker: Number of this worker, and how many there are.
            in_turn: Whether to go round the slots (open loop); else the slot of the last answer is the next.
        """
        rotations, workload = prepared.rotations, prepared.workload
        self._rotations = rotations
        self._ends = [[request.ends_sequence for request in rotation] for rotation in workload.rotations]
        # Different requests at the same time, but sequences from their start.
        self._turns = [0 if workload.stateful else slot for slot in range(len(rotations[0]))]
        slots = deque(range(worker[0], len(rotations[0]), worker[1]))
        self.count = len(slots)
        self.free_slots = slots if workload.max_in_flight else None
        self._take = slots.popleft if in_turn else slots.pop

    def next_request(self, connection: Connection) -> Any:
        """Choose the connection's slot and return its next request."""
        slot = connection.slot = self._take() if self.free_slots is not None else 0
        rotation = self._rotations[connection.address][slot]
        turn = self._turns[slot]
        self._turns[slot] = turn + 1
        return rotation[turn % len(rotation)]

    def settle(self, slot: int, *, failed: bool) -> None:
        """Free a slot. After a failure, skip to its next sequence, since the server may have lost the state."""
        if failed:
            while self._is_open(slot):
                self._turns[slot] += 1
        if self.free_slots is not None:
            self.free_slots.append(slot)

    def cut_sequences(self) -> int:
        """Skip to the last request of each unfinished sequence; return the number of these sequences.

        All slots must be free. The next requests taken are these last ones.
        """
        if self.free_slots is None:
            return 0
        cut = [slot for slot in self.free_slots if self._is_open(slot)]
        for slot in cut:
            ends = self._ends[slot]
            while not ends[self._turns[slot] % len(ends)]:
                self._turns[slot] += 1
        done = [slot for slot in self.free_slots if slot not in cut]
        self.free_slots.clear()
        # At either end, whichever the next request is taken from.
        self.free_slots.extend(cut + done if self._take == self.free_slots.popleft else done + cut)
        return len(cut)

    def _is_open(self, slot: int) -> bool:
        ends = self._ends[slot]
        return not ends[(self._turns[slot] - 1) % len(ends)]


def _connection_kind(protocol: str) -> type[Connection]:
    if protocol == HTTP:
        from pytest_gpuperf.load.http1 import Http1Connection

        return Http1Connection
    from pytest_gpuperf.load.grpc import GrpcConnection

    return GrpcConnection
