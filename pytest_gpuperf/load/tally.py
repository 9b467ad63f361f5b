"""The failures and tallies of a window's workers, and the recording that they make together."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

from pytest_gpuperf.clock import cpu_wait_s, time
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


class Occupation:
    """Time that a worker spent in a window on CPU work, and time in which it could not serve its sockets.

    Attributes:
        stall_ns: Time in batches of events that took longer than ``loop.STALL_NS``.
        overslept_ns: Time by which it woke up later than it had asked for.
        cpu_s: CPU time.
        wait_s: Time in which it was ready to run, but waited for a CPU.
    """

    def __init__(self) -> None:
        self.stall_ns = self.overslept_ns = 0
        self.cpu_s = self.wait_s = 0.0
        self.begin()

    @property
    def halted_s(self) -> float:
        """Time in which it was due to run, but neither ran nor waited for a CPU (waiting delays it, too)."""
        return max(self.overslept_ns / 1e9 - self.wait_s, 0.0)

    def begin(self) -> None:
        """Note the beginning of the window."""
        self._begin_cpu_s, self._begin_wait_s = time.process_time(), cpu_wait_s()

    def end(self, share: float) -> None:
        """Note the end of the window, whose share of the time since its beginning is ``share``."""
        self.cpu_s = (time.process_time() - self._begin_cpu_s) * share
        self.wait_s = (cpu_wait_s() - self._begin_wait_s) * share


class Stops:
    """Notes when this process is continued after it was stopped (SIGSTOP, or Ctrl-Z and ``fg``)."""

    def __init__(self) -> None:
        self._at_ns: list[int] = []
        self._before: Any = None

    def __enter__(self) -> Stops:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = signal.signal(signal.SIGCONT, self._continued)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGCONT, self._before)

    def _continued(self, number: int, frame: FrameType | None) -> None:
        self._at_ns.append(time.monotonic_ns())
        if callable(self._before):
            self._before(number, frame)

    def within(self, start_ns: int, stop_ns: int) -> int:
        """Return the number of stops that ended between two instants."""
        return sum(start_ns <= at_ns < stop_ns for at_ns in self._at_ns)


@dataclass(frozen=True)
class Tally:
    """A worker's figures of a window; the times are in its columns."""

    rows: int
    start_ns: int
    stop_ns: int
    failures: WindowFailures
    error_sample: str
    occupation: Occupation
    lost: str
    stops: int = 0

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
    occupations = [tally.occupation for tally in tallies]
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
        cpu_s=sum(work.cpu_s for work in occupations),
        address_errors=tuple(map(sum, zip(*(tally.failures.by_address for tally in tallies), strict=True))),
        stall_s=sum(work.stall_ns for work in occupations) / 1e9,
        wait_s=sum(work.wait_s for work in occupations),
        halted_s=sum(work.halted_s for work in occupations),
        stops=sum(tally.stops for tally in tallies),
        workers=len(tallies),
        lost=next((tally.lost for tally in tallies if tally.lost), ""),
    )
