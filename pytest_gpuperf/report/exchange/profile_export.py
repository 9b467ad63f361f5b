"""Export to the profile format of perf_analyzer: when each request was sent and answered.

The format is that of ``--profile-export-file``. Times are ns since the epoch. Two keys are additions: ``scheduled``
(open loop: when the request was due; ``timestamp`` is its send) and ``responses`` (streams: the number of answers, of
which only the first and the last have a timestamp). Inputs and outputs of requests are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

#: Requests per write: many enough to be fast, few enough to need little memory.
_PIECE = 10_000


class RecordedRequests(Protocol):
    """Times of requests in ns on a monotonic clock."""

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
    """A window and the requests around it."""

    @property
    def start_ns(self) -> int: ...
    @property
    def stop_ns(self) -> int: ...
    @property
    def lanes(self) -> Sequence[RecordedRequests]: ...


def requests_of(window: RecordedWindow, epoch_ns: int) -> Iterator[str]:
    """Yield the requests that were due in a window, to which its latencies belong, as JSON objects.

    Args:
        epoch_ns: Zero of the clock, in ns since the epoch.
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
    """Writes a profile level by level to a temporary file, which replaces the target once it is complete."""

    def __init__(self, path: Path, epoch_ns: int) -> None:
        """Begin the file.

        Raises:
            OSError: The file cannot be written.
        """
        self._path, self._epoch_ns = path, epoch_ns
        self._part = path.with_name(path.name + ".part")
        # Unbuffered, so that nothing of a level that can't be written remains in a buffer.
        self._file = self._part.open("wb", buffering=0)
        self._levels = 0

    def add(self, mode: str, value: float, windows: Sequence[RecordedWindow]) -> None:
        """Add a level; one that can't be written is left out.

        Args:
            mode: ``concurrency`` or ``request_rate``.
            windows: Windows that the figures of the level come from.

        Raises:
            OSError: The level cannot be written.
        """
        begin = self._file.tell()
        try:
            self._write("," if self._levels else '{"experiments":[')
            experiment = json.dumps({"mode": mode, "value": value}, separators=(",", ":"))
            self._write(f'{{"experiment":{experiment},"requests":[')
            separator = ""
            for piece in _pieces(chain.from_iterable(requests_of(window, self._epoch_ns) for window in windows)):
                self._write(separator + piece)
                separator = ","
            edges = [edge + self._epoch_ns for window in windows for edge in (window.start_ns, window.stop_ns)]
            self._write(f'],"window_boundaries":{json.dumps(edges, separators=(",", ":"))}}}')
        except OSError:
            self._file.truncate(begin)
            self._file.seek(begin)
            raise
        self._levels += 1

    def close(self) -> None:
        """End the file and move it to its path. Calling it again has no effect.

        Raises:
            OSError: The file cannot be written; what there is of it keeps its temporary name.
        """
        if self._file.closed:
            return
        with self._file:
            opening = "" if self._levels else '{"experiments":['
            self._write(opening + '],"version":"","service_kind":"triton","endpoint":""}')
        self._part.replace(self._path)

    def _write(self, text: str) -> None:
        left = memoryview(text.encode())
        while left:
            left = left[self._file.write(left) :]


def _pieces(items: Iterator[str]) -> Iterator[str]:
    while piece := list(islice(items, _PIECE)):
        yield ",".join(piece)
