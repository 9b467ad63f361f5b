"""Workloads for local servers, and what a recording says, for tests of the loops over sockets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.load.columns import Column
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.load.tally import Tally, column_names, recording_of, times_of
from pytest_gpuperf.model import HTTP, ROUND_ROBIN, Address, Request, WireWorkload
from tests.unit.load.listening import HOST

MS = 1_000_000
BODY = b"hello"


class Listening(Protocol):
    """Anything with a port."""

    @property
    def port(self) -> int: ...


@dataclass(frozen=True)
class Port:
    """Where a server was, or will be, or never is."""

    port: int


def workload(
    *servers: Listening,
    body: bytes = BODY,
    rotations: Sequence[Sequence[Request]] | None = None,
    weights: Sequence[float] = (),
    headers: Sequence[tuple[str, str]] = (),
    balance: str = ROUND_ROBIN,
    batch_size: int = 1,
) -> WireWorkload:
    """Requests to ``/infer`` on all of the servers; one request with this body unless ``rotations`` are given."""
    shares = weights or [1.0] * len(servers)
    return WireWorkload(
        HTTP,
        tuple(Address(HOST, server.port, share) for server, share in zip(servers, shares, strict=True)),
        "/infer",
        tuple(map(tuple, rotations)) if rotations else ((Request(body),),),
        tuple(headers),
        balance=balance,
        batch_size=batch_size,
    )


def request_bytes(server: Listening, body: bytes = BODY) -> bytes:
    """What such a request is on the wire."""
    head = f"POST /infer HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def recorded(tally: Tally, columns: Mapping[str, Column]) -> Recording:
    """The recording of a single loop."""
    return recording_of([tally], (times_of({name: column.read(tally.rows) for name, column in columns.items()}),))


class Replay:
    """A loop in this process, which reads its own columns."""

    def __init__(self, load: WireWorkload, parent: int | None = None) -> None:
        self.workload = load
        self.loop = Loop(load, parent)

    def window(self, spec: WindowSpec, load: WireWorkload | None = None, rows: int = 1024) -> Recording:
        """Run one window; ``rows`` is the room made for its times."""
        load = load or self.workload
        columns = {name: Column(rows=rows) for name in column_names(load, spec)}
        try:
            tally, _ = self.loop.window(load, spec, columns)
            return recorded(tally, columns)
        finally:
            for column in columns.values():
                column.close()

    def close(self) -> None:
        self.loop.close()


def measure(server: Listening, spec: WindowSpec, load: WireWorkload | None = None) -> Recording:
    """One window on a loop of its own."""
    with closing(Replay(load or workload(server))) as replay:
        return replay.window(spec)


def column(recording: Recording, name: str) -> list[int]:
    """One of the times of all answered requests, by lane and then in order of completion."""
    views: list[Any] = [getattr(lane, f"{name}_ns" if name != "address" else name) for lane in recording.lanes]
    return list(chain.from_iterable(views))


def lives(recording: Recording) -> Iterator[tuple[int, int]]:
    """Due and done times of all answered requests."""
    for lane in recording.lanes:
        yield from zip(lane.due_ns, lane.done_ns, strict=True)


def latencies(recording: Recording) -> list[int]:
    return [done - due for due, done in lives(recording)]


def inside(recording: Recording) -> list[int]:
    """Due times in the window."""
    return [due for due, _ in lives(recording) if recording.start_ns <= due < recording.stop_ns]


def outstanding(recording: Recording) -> float:
    """Mean number of requests in flight during the window."""
    start, stop = recording.start_ns, recording.stop_ns
    return sum(max(min(done, stop) - max(due, start), 0) for due, done in lives(recording)) / (stop - start)
