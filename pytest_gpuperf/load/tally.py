"""The failures and tallies of a window's workers, and the recording that they make together."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pytest_gpuperf.limits import SENTENCE_CHARS, SENTENCES, SENTENCES_SHOWN
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
    """Failed requests: when each was due, its type, its address, and what the server said of it.

    Attributes:
        sample: The first failure in full; empty while there is none.
    """

    def __init__(self) -> None:
        self._all: list[tuple[int, str, int, str]] = []
        self._sentences: dict[str, str] = {}
        self.sample = ""

    def __len__(self) -> int:
        return len(self._all)

    def add(self, at_ns: int, kind: str, detail: str, address: int = NOWHERE) -> None:
        sentence = self._sentences.get(detail)
        if sentence is None:
            sentence = sentence_of(detail) if len(self._sentences) < SENTENCES else ""
            if sentence:
                self._sentences[detail] = sentence
        self._all.append((at_ns, kind, address, sentence))
        self.sample = self.sample or f"{kind}: {detail}"

    def within(self, start_ns: int, stop_ns: int, addresses: int = 0) -> WindowFailures:
        """Return the failures of a window."""
        kinds = Counter[str]()
        sentences: dict[str, Counter[str]] = {}
        by_address = [0] * addresses
        for at_ns, kind, address, sentence in self._all:
            if start_ns <= at_ns < stop_ns:
                kinds[kind] += 1
                if address != NOWHERE:
                    by_address[address] += 1
                if sentence:
                    sentences.setdefault(kind, Counter())[sentence] += 1
        return WindowFailures(dict(kinds), tuple(by_address), most_frequent(sentences))


class WindowFailures(NamedTuple):
    """Failures of a window: their number by type and by address, and the sentences of each type with their number."""

    errors: dict[str, int]
    by_address: tuple[int, ...]
    sentences: dict[str, dict[str, int]]


def sentence_of(detail: str) -> str:
    """Return what a server says of a failed request, in a line of limited length."""
    if detail.startswith("{"):
        # KServe's form of an error over HTTP.
        with contextlib.suppress(ValueError, RecursionError):
            document = json.loads(detail)
            detail = document["error"] if isinstance(document.get("error"), str) else detail
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in detail).split())
    return text if len(text) <= SENTENCE_CHARS else text[: SENTENCE_CHARS - 3] + "..."


def most_frequent(sentences: Mapping[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """Return the most frequent sentences of each type of failure, with their numbers."""
    # Not Counter.most_common, which imports a module: connections may have used up all files by now.
    ordered = {kind: sorted(counts.items(), key=lambda item: -item[1]) for kind, counts in sentences.items()}
    return {kind: dict(items[:SENTENCES_SHOWN]) for kind, items in ordered.items()}


@dataclass(frozen=True)
class Tally:
    """A worker's figures of a window; the times are in its columns."""

    rows: int
    start_ns: int
    stop_ns: int
    failures: WindowFailures
    error_sample: str
    cpu_s: float
    stall_s: float
    lost: str

    @property
    def errors(self) -> dict[str, int]:
        """Failed requests of the window, by type."""
        return self.failures.errors


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
    sentences: dict[str, Counter[str]] = {}
    for tally in tallies:
        errors.update(tally.errors)
        for kind, counts in tally.failures.sentences.items():
            sentences.setdefault(kind, Counter()).update(counts)
    return Recording(
        start_ns=max(tally.start_ns for tally in tallies),
        stop_ns=min(tally.stop_ns for tally in tallies),
        lanes=lanes,
        errors=dict(errors),
        error_sample=next((tally.error_sample for tally in tallies if tally.error_sample), ""),
        error_sentences=most_frequent(sentences),
        cpu_s=sum(tally.cpu_s for tally in tallies),
        address_errors=tuple(map(sum, zip(*(tally.failures.by_address for tally in tallies), strict=True))),
        stall_s=sum(tally.stall_s for tally in tallies),
        workers=len(tallies),
        lost=next((tally.lost for tally in tallies if tally.lost), ""),
    )
