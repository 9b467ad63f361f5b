"""When a window starts and ends, agreed between the processes that make its load.

All of them see the same few numbers in shared memory. The first one leads: it alone decides, by a rule that looks at
what all have reported, and the others follow at the instants that it wrote down beforehand. A window of one process
goes the same way.
"""

from __future__ import annotations

import time

from pytest_gpuperf.load.generator import WindowSpec

_BEGIN, _START, _STOP, _CLOSED, _ABORTED, _SHARED = 0, 1, 2, 3, 4, 5
_ARRIVED, _READY, _SENT, _FOLLOWED, _OWN = 0, 1, 2, 3, 4
#: With several processes, an instant is written down so long before it comes that all have seen it by then.
_NOTICE_NS = 5_000_000
#: The least by which a window is lengthened.
_STEP_NS = 50_000_000
#: How long processes wait for each other before a window.
_MEET_S = 10.0


class Agreement:
    """One process' view of the agreement.

    Attributes:
        begin_ns, start_ns, stop_ns: the load's first instant and the window, 0 while not decided.
        closed: ``stop_ns`` will not change any more.
        aborted: one of the processes has given the window up.
    """

    def __init__(self, cells: memoryview, index: int = 0, count: int = 1) -> None:
        self._cells, self._index, self._count = cells, index, count
        self._own = _SHARED + _OWN * index
        self._notice_ns = _NOTICE_NS if count > 1 else 0

    @staticmethod
    def cells(count: int) -> int:
        """How many numbers ``count`` processes need."""
        return _SHARED + _OWN * count

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
        """This process is about to begin."""
        self._cells[self._own + _ARRIVED] = 1

    def meet(self, spec: WindowSpec) -> tuple[int, str]:
        """Wait for the other processes, so that all begin together; when that was, and what went wrong."""
        self.arrive()
        end_ns = time.monotonic_ns() + int(_MEET_S * 1e9)
        while not self.begin_ns:
            self.lead(time.monotonic_ns(), spec)
            if self.aborted or time.monotonic_ns() > end_ns:
                return time.monotonic_ns(), "not all workers came to the start of the window"
            if not self.begin_ns:
                time.sleep(0.0005)
        while (left_ns := self.begin_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        return self.begin_ns, ""

    def ready(self) -> None:
        """All connections of this process have been answered once."""
        self._cells[self._own + _READY] = 1

    def sent(self, count: int) -> None:
        """So many requests of this process were sent in the window."""
        self._cells[self._own + _SENT] = count

    def followed(self) -> None:
        """All of this process' requests that belong to the window are over."""
        self._cells[self._own + _FOLLOWED] = 1

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
                # The length is fixed here, before the window: an edge that waited for an event would favour that event.
                cells[_STOP] = now + self._notice_ns + int(spec.window_s * 1e9)
                cells[_START] = now + self._notice_ns
        elif not cells[_CLOSED] and now >= cells[_STOP]:
            sent = sum(cells[_SHARED + _OWN * index + _SENT] for index in range(self._count))
            if sent < spec.min_requests and cells[_STOP] - cells[_START] < spec.max_window_s * 1e9:
                # Always into the future: what a late leader finds done by now was in part done after the old stop.
                step_ns = max(int(spec.window_s * 5e8), _STEP_NS)
                cells[_STOP] += step_ns * (1 + (now + self._notice_ns - cells[_STOP]) // step_ns)
            else:
                cells[_CLOSED] = 1

    def _all(self, flag: int) -> bool:
        return all(self._cells[_SHARED + _OWN * index + flag] for index in range(self._count))
