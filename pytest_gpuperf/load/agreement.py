"""The agreement of a window's worker processes on when the window starts and ends.

All processes see the same few numbers in shared memory. The first process leads: it alone decides, from what all
processes have reported, and writes the instants down beforehand; the others keep to them. A single process follows the
same rules.
"""

from __future__ import annotations

from enum import Enum

from pytest_gpuperf.clock import time
from pytest_gpuperf.load.generator import MEET_S, WindowSpec

_BEGIN, _START, _STOP, _CLOSED, _ABORTED, _SHARED = 0, 1, 2, 3, 4, 5
_ARRIVED, _READY, _SENT, _FOLLOWED, _PER_WORKER = 0, 1, 2, 3, 4
#: With several processes, how long before an instant it is written down, so that all have read it by then.
_NOTICE_NS = 5_000_000
#: The smallest step by which a window is lengthened.
_STEP_NS = 50_000_000


class WindowPhase(Enum):
    """What a worker does in a window."""

    LEAD_IN = 1  # the load runs, nothing counts yet
    INSIDE = 2  # between start and stop
    FOLLOW = 3  # the load continues until every request of the window is done
    DRAIN = 4  # no request is sent


class Agreement:
    """The agreement, as a process sees it.

    Attributes:
        begin_ns, start_ns, stop_ns: First instant of the load, and the ends of the window; 0 while not decided.
        closed: Whether ``stop_ns`` is final.
        aborted: Whether a process has given the window up.
    """

    def __init__(self, cells: memoryview, index: int = 0, count: int = 1) -> None:
        self._cells, self._index, self._count = cells, index, count
        self._base = _SHARED + _PER_WORKER * index
        self._notice_ns = _NOTICE_NS if count > 1 else 0

    @staticmethod
    def cells(count: int) -> int:
        """Return how many numbers ``count`` processes need."""
        return _SHARED + _PER_WORKER * count

    @property
    def begin_ns(self) -> int:
        return int(self._cells[_BEGIN])

    @property
    def start_ns(self) -> int:
        return int(self._cells[_START])

    @property
    def stop_ns(self) -> int:
        return int(self._cells[_STOP])

    @property
    def closed(self) -> bool:
        return bool(self._cells[_CLOSED])

    @property
    def aborted(self) -> bool:
        return bool(self._cells[_ABORTED])

    @property
    def all_followed(self) -> bool:
        return self._all(_FOLLOWED)

    def arrive(self) -> None:
        """Report that this process is about to begin."""
        self._cells[self._base + _ARRIVED] = 1

    def meet(self, spec: WindowSpec) -> tuple[int, str]:
        """Wait until all processes begin together; return that instant, and what went wrong, if anything."""
        self.arrive()
        end_ns = time.monotonic_ns() + int(MEET_S * 1e9)
        while not self.begin_ns:
            self.lead(time.monotonic_ns(), spec)
            if self.aborted or time.monotonic_ns() > end_ns:
                return time.monotonic_ns(), "not all worker processes were ready when the window started"
            if not self.begin_ns:
                time.sleep(0.0005)
        while (left_ns := self.begin_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        return self.begin_ns, ""

    def ready(self) -> None:
        """Report that all connections of this process have been answered once."""
        self._cells[self._base + _READY] = 1

    def sent(self, count: int) -> None:
        """Report how many requests this process has sent in the window."""
        self._cells[self._base + _SENT] = count

    def followed(self) -> None:
        """Report that all requests of this process that belong to the window are over."""
        self._cells[self._base + _FOLLOWED] = 1

    def abort(self) -> None:
        self._cells[_ABORTED] = 1

    def lead(self, now: int, spec: WindowSpec) -> None:
        """Decide what can be decided now; only the first process does."""
        if self._index:
            return
        cells = self._cells
        if not cells[_BEGIN]:
            if self._all(_ARRIVED):
                cells[_BEGIN] = now + self._notice_ns
        elif not cells[_START]:
            if spec.start_ns:
                cells[_STOP] = spec.start_ns + int(spec.window_s * 1e9)
                cells[_CLOSED] = 1
                cells[_START] = spec.start_ns
            elif spec.once:
                cells[_STOP] = cells[_START] = cells[_BEGIN]
            elif now >= cells[_BEGIN] + spec.lead_in_s * 1e9 and self._all(_READY):
                # The length is fixed before the window: an edge that waited for an event would favour that event.
                cells[_STOP] = now + self._notice_ns + int(spec.window_s * 1e9)
                cells[_START] = now + self._notice_ns
        elif not cells[_CLOSED] and now >= cells[_STOP]:
            sent = sum(cells[_SHARED + _PER_WORKER * index + _SENT] for index in range(self._count))
            if sent < spec.min_requests and cells[_STOP] - cells[_START] < spec.max_window_s * 1e9:
                # Always into the future: a late leader also counts requests that were sent after the old stop.
                step_ns = max(int(spec.window_s * 5e8), _STEP_NS)
                cells[_STOP] += step_ns * (1 + (now + self._notice_ns - cells[_STOP]) // step_ns)
            else:
                cells[_CLOSED] = 1

    def _all(self, flag: int) -> bool:
        return all(self._cells[_SHARED + _PER_WORKER * index + flag] for index in range(self._count))
