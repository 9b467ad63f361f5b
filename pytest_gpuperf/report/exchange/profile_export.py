"""perf_analyzer's profile export: when every single request was sent and answered.

The format is that of ``--profile-export-file``. Times are ns since the epoch. Two keys are ours: ``scheduled`` (open
loop: when the request was due; ``timestamp`` is its send) and ``responses`` (streams: how many answers came; of these
only the first and the last have a timestamp). Inputs and outputs of requests are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Protocol, TextIO

#: Requests to a piece: large enough for fast writing, small enough not to be felt in memory.
_PIECE = 10_000


class RequestTimes(Protocol):
    """Times of requests, in ns on one monotonic clock."""

    @property
    def due_ns(self) -> Sequence[int]: ...
    @property
    def sent_ns(self) -> Sequence[int]: ...
    @property
    def done_ns(self) -> Sequence[int]: ...
    @property
    def first_ns(self) -> Sequence[int] | None: ...
    @property
    def answers(self) -> Sequence[int] | None: ...


class RecordedWindow(Protocol):
    """One window and the requests around it."""

    @property
    def start_ns(self) -> int: ...
    @property
    def stop_ns(self) -> int: ...
    @property
    def lanes(self) -> Sequence[RequestTimes]: ...


def requests_of(window: RecordedWindow, epoch_ns: int) -> Iterator[str]:
    """The window's requests as JSON objects: those that were due in it, which are those that its latencies tell of.

    Args:
        epoch_ns: the clock's zero, in ns since the epoch.
    """
    for lane in window.lanes:
        open_loop = lane.due_ns is not lane.sent_ns
        for index, due_ns in enumerate(lane.due_ns):
            if not window.start_ns <= due_ns < window.stop_ns:
                continue
            sent, done = lane.sent_ns[index] + epoch_ns, lane.done_ns[index] + epoch_ns
            extra = f',"scheduled":{due_ns + epoch_ns}' if open_loop else ""
            answers = 1 if lane.answers is None else lane.answers[index]
            answered = f"{done}"
            if lane.first_ns is not None and answers > 1:
                answered = f"{lane.first_ns[index] + epoch_ns},{done}"
                extra += f',"responses":{answers}'
            yield f'{{"timestamp":{sent},"response_timestamps":[{answered}]{extra}}}'


class ProfileExport:
    """Writes the file level by level, beside its place; it gets there when it is whole."""

    def __init__(self, path: Path, epoch_ns: int) -> None:
        """Begin.

        Raises:
            OSError: the file can't be written.
        """
        self._path, self._epoch_ns = path, epoch_ns
        self._part = path.with_name(path.name + ".part")
        self._file: TextIO = self._part.open("w")
        self._file.write('{"experiments":[')
        self._first = True

    def add(self, mode: str, value: float, windows: Sequence[RecordedWindow]) -> None:
        """One level.

        Args:
            mode: ``concurrency`` or ``request_rate``.
            windows: those that make up the level's figures.
        """
        write = self._file.write
        write("" if self._first else ",")
        self._first = False
        write(f'{{"experiment":{json.dumps({"mode": mode, "value": value}, separators=(",", ":"))},"requests":[')
        separator = ""
        for piece in _pieces(chain.from_iterable(requests_of(window, self._epoch_ns) for window in windows)):
            write(separator + piece)
            separator = ","
        edges = [edge + self._epoch_ns for window in windows for edge in (window.start_ns, window.stop_ns)]
        write(f'],"window_boundaries":{json.dumps(edges, separators=(",", ":"))}}}')
        self._file.flush()

    def close(self) -> None:
        """End the file and put it into its place. May be called twice.

        Raises:
            OSError: it can't be written.
        """
        if not self._file.closed:
            self._file.write('],"version":"","service_kind":"triton","endpoint":""}')
            self._file.close()
            self._part.replace(self._path)


def _pieces(items: Iterator[str]) -> Iterator[str]:
    """Several items as one text, with commas between them."""
    while piece := list(islice(items, _PIECE)):
        yield ",".join(piece)
