"""The tallies of a window's workers, and the recording that they make together."""

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
