"""The failures and tallies of a window's workers, and the recording that they make together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpuperf.load.generator import Recording, Times, WindowSpec
from pytest_gpuperf.model import GRPC_STREAM, WireWorkload

#: The columns, and the attributes of the connection that fill them; ``done`` has none.
ATTRIBUTES = {
    "sent": "sent_ns",
    "done": "",
    "due": "due_ns",
    "address": "address",
    "first": "first_ns",
    "answers": "answers",
}


#: The address of a request that was never sent.
NOWHERE = -1


class Failures:
    """Failed requests: when each was due, its type, and its address.

    Attributes:
        sample: The first failure in full; empty while there is none.
    """

    def __init__(self) -> None:
        self._all: list[tuple[int, str, int]] = []
        self.sample = ""

    def __len__(self) -> int:
        return len(self._all)

    def add(self, at_ns: int, kind: str, detail: str, address: int = NOWHERE) -> None:
        self._all.append((at_ns, kind, address))
        self.sample = self.sample or f"{kind}: {detail}"

    def within(self, start_ns: int, stop_ns: int, addresses: int = 0) -> tuple[dict[str, int], tuple[int, ...]]:
        """Return the window's failures by type, and by address."""
        kinds = Counter[str]()
        by_address = [0] * addresses
        for at_ns, kind, address in self._all:
            if start_ns <= at_ns < stop_ns:
                kinds[kind] += 1
                if address != NOWHERE:
                    by_address[address] += 1
        return dict(kinds), tuple(by_address)


@dataclass(frozen=True)
class Tally:
    """A worker's figures of a window; the times are in its columns."""

    rows: int
    start_ns: int
    stop_ns: int
    errors: dict[str, int]
    error_sample: str
    address_errors: tuple[int, ...]
    cpu_s: float
    stall_s: float
    lost: str


def column_names(workload: WireWorkload, spec: WindowSpec) -> list[str]:
    """Return the columns that a window needs; further ones would repeat them."""
    wanted = {"sent", "done"}
    if spec.arrivals is not None:
        wanted.add("due")
    if len(workload.addresses) > 1:
        wanted.add("address")
    if workload.protocol == GRPC_STREAM:
        wanted |= {"first", "answers"}
    return [name for name in ATTRIBUTES if name in wanted]


def times_of(columns: Mapping[str, memoryview]) -> Times:
    """Return the times in a window's columns."""
    sent, streams = columns["sent"], (columns.get(name) for name in ("address", "first", "answers"))
    return Times(columns.get("due", sent), sent, columns["done"], *streams)


def recording_of(tallies: Sequence[Tally], lanes: tuple[Times, ...]) -> Recording:
    """Return the recording of a window's workers."""
    errors = Counter[str]()
    for tally in tallies:
        errors.update(tally.errors)
    return Recording(
        start_ns=max(tally.start_ns for tally in tallies),
        stop_ns=min(tally.stop_ns for tally in tallies),
        lanes=lanes,
        errors=dict(errors),
        error_sample=next((tally.error_sample for tally in tallies if tally.error_sample), ""),
        cpu_s=sum(tally.cpu_s for tally in tallies),
        address_errors=tuple(map(sum, zip(*(tally.address_errors for tally in tallies), strict=True))),
        stall_s=sum(tally.stall_s for tally in tallies),
        workers=len(tallies),
        lost=next((tally.lost for tally in tallies if tally.lost), ""),
    )
