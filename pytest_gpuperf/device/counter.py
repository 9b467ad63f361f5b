"""Energy counters and power readings: how they move, and the energy of an interval. No clocks, no threads.

An energy counter moves in ticks (10 to 100 ms on GPUs, 2 s at Triton's metrics). A window's energy is read between two
of its ticks: both instants are known to within the readings around them, so the uncertainty is not a share of a tick
but a fraction of a millisecond. The two ticks are the last ones before each edge, so that they are equally far from
their edges when the window is a whole number of ticks.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Time between readings of a counter while its next tick is awaited; a tick's instant is known to half of it.
CATCH_NS = 1_000_000
#: Faster ticks are not all awaited, since each costs a few readings.
GRID_NS = 100_000_000
#: Most readings before an expected tick, however often ticks came early.
_MARGIN = 6
#: Share of the time between two ticks by which a window may be shorter than requested.
_NEARLY = 0.05
#: Share of a window's energy that may be uncertain because of its edges.
EDGE_SHARE = 0.01


@dataclass(frozen=True)
class Tick:
    """A movement of a counter.

    Attributes:
        at_ns: Middle between the readings before and after.
        slack_ns: Half of the time between these readings.
        energy_j: Value of the counter after the movement.
    """

    at_ns: int
    slack_ns: int
    energy_j: float


@dataclass(frozen=True)
class Span:
    """Energy of an interval that is as close to the requested one as ticks allow.

    Attributes:
        error_j: Bound of the error at its edges.
    """

    start_ns: int
    stop_ns: int
    energy_j: float
    error_j: float

    @property
    def power_w(self) -> float:
        return self.energy_j / ((self.stop_ns - self.start_ns) / 1e9)


def between(ticks: Sequence[Tick], start_ns: int, stop_ns: int) -> Span | None:
    """Return the energy between the last ticks before both edges; None if they span less than half of the interval.

    Args:
        ticks: Ticks in order. Without one before the start, the first tick after it counts.
    """
    before = [index for index, tick in enumerate(ticks) if tick.at_ns <= start_ns]
    begin = before[-1] if before else 0
    ends = [index for index, tick in enumerate(ticks) if tick.at_ns <= stop_ns]
    if not ends or ends[-1] <= begin:
        return None
    first, last = ticks[begin], ticks[ends[-1]]
    if last.at_ns - first.at_ns < (stop_ns - start_ns) / 2:
        return None
    inside = ticks[begin : ends[-1] + 1]
    seconds = (last.at_ns - first.at_ns) / 1e9
    energy_j = last.energy_j - first.energy_j
    powers = [(b.energy_j - a.energy_j) / ((b.at_ns - a.at_ns) / 1e9) for a, b in pairwise(inside)]
    edges_s = (first.slack_ns + last.slack_ns) / 1e9
    # Where the interval and the window differ, the power may have differed by as much as it ever did.
    apart_s = (abs(start_ns - first.at_ns) + abs(stop_ns - last.at_ns)) / 1e9
    error_j = energy_j / seconds * edges_s + (max(powers) - min(powers)) / 2 * apart_s
    return Span(first.at_ns, last.at_ns, energy_j, error_j)


@dataclass(frozen=True)
class Rhythm:
    """Rhythm of a counter's ticks.

    Attributes:
        tick_ns: Time between ticks; 0 for a counter that moves continuously.
        slack_ns: Uncertainty of a tick's instant.
    """

    tick_ns: int
    slack_ns: int

    @property
    def grid_ns(self) -> int:
        """Time between two ticks that are awaited: a whole number of ticks."""
        if not self.tick_ns:
            return GRID_NS
        return self.tick_ns * max(1, round(GRID_NS / self.tick_ns))

    def window_s(self, wanted_s: float, most_s: float) -> float:
        """Return the shortest window from about ``wanted_s`` on that is whole ticks long and keeps ``EDGE_SHARE``.

        It is never above ``most_s``, unless ``wanted_s`` is.
        """
        grid_s = self.grid_ns / 1e9
        # Measured rhythms of equal counters differ slightly; their windows should not differ by a whole grid.
        least_s = max(wanted_s - _NEARLY * grid_s, 2 * self.slack_ns / 1e9 / EDGE_SHARE)
        rounded_s = grid_s * max(1, math.ceil(least_s / grid_s))
        if rounded_s <= most_s:
            return rounded_s
        return max(wanted_s, int(most_s / grid_s) * grid_s)


def rhythm_of(ticks: Sequence[Tick]) -> Rhythm | None:
    """Return the rhythm of ticks that were all awaited; None for fewer than three."""
    if len(ticks) < 3:
        return None
    usual = statistics.median(b.at_ns - a.at_ns for a, b in pairwise(ticks))
    # All gaps together are more exact than one; missed ticks are counted.
    count = sum(max(1, round((b.at_ns - a.at_ns) / usual)) for a, b in pairwise(ticks))
    tick_ns = (ticks[-1].at_ns - ticks[0].at_ns) // count
    return Rhythm(tick_ns, int(statistics.median(tick.slack_ns for tick in ticks)))


class Follower:
    """Reads a counter when its next tick is due.

    Args:
        read: Reads the counter in joules.
        catch_ns: Time between readings while a tick is awaited.

    Attributes:
        ticks: Ticks since ``forget``.
        due_ns: Time of the next reading.
        rhythm: Rhythm of the counter; None until it is known.
        reset_ns: Times at which the counter had gone back.
    """

    def __init__(self, read: Callable[[], float], catch_ns: int = CATCH_NS, rhythm: Rhythm | None = None) -> None:
        self._read, self._catch_ns, self.rhythm = read, catch_ns, rhythm
        self.ticks: list[Tick] = []
        self.due_ns = 0
        self.reset_ns: list[int] = []
        self._last: tuple[int, float] | None = None
        self._highest_j = -math.inf
        self._margin_ns = catch_ns

    def forget(self) -> None:
        """Forget all ticks; the next reading is due at once."""
        self.ticks, self.reset_ns, self._last, self.due_ns = [], [], None, 0
        self._highest_j = -math.inf

    def poll(self, clock_ns: Callable[[], int]) -> None:
        """Read the counter once and set the time of the next reading.

        Raises:
            NvmlError: ``read`` raised it.
        """
        begin_ns = clock_ns()
        energy_j = self._read()
        end_ns = clock_ns()
        last, self._last = self._last, (begin_ns, energy_j)
        self.due_ns = end_ns + self._catch_ns
        if energy_j < self._highest_j:
            self.reset_ns.append(end_ns)
            self.ticks.clear()
            self._highest_j = energy_j
            return
        self._highest_j = energy_j
        if self.rhythm is not None and not self.rhythm.tick_ns:
            self.ticks.append(Tick((begin_ns + end_ns) // 2, (end_ns - begin_ns) // 2 + self.rhythm.slack_ns, energy_j))
            self.due_ns = end_ns + self.rhythm.grid_ns
            return
        if last is None or energy_j == last[1]:
            return
        gap_ns = end_ns - last[0]
        if self.rhythm is not None and gap_ns > max(self.rhythm.tick_ns // 2, 4 * self._catch_ns):
            # The tick came before it was awaited, so its instant is unknown. Begin earlier at the next one.
            self._margin_ns = min(self._margin_ns + self._catch_ns, _MARGIN * self._catch_ns)
            if self.ticks:
                self._last = None
                self.due_ns = self._next_ns(self.ticks[-1].at_ns, end_ns + self._margin_ns, self.rhythm.tick_ns)
            return
        self.ticks.append(Tick((last[0] + end_ns) // 2, gap_ns // 2, energy_j))
        if self.rhythm is not None:
            self._margin_ns = max(self._margin_ns - self._catch_ns // 8, self._catch_ns)
            self.due_ns = self._next_ns(self.ticks[-1].at_ns, end_ns + self._margin_ns, self.rhythm.grid_ns)
            if self.rhythm.grid_ns > self.rhythm.tick_ns:
                self._last = None  # ticks until then are not seen

    def _next_ns(self, tick_ns: int, now_ns: int, step_ns: int) -> int:
        """Return when to await the first tick after now, counted from a tick whose instant is known."""
        return tick_ns + (max(now_ns - tick_ns, 0) // step_ns + 1) * step_ns - self._margin_ns


def integrated(samples: Sequence[tuple[int, float]], start_ns: int, stop_ns: int, tick_ns: int = 0) -> Span | None:
    """Integrate power readings over an interval by the trapezoidal rule; None if they cover less than half of it.

    Args:
        samples: Time and watts, in order.
        tick_ns: Time between movements of the sensor. Readings in between repeat the last one and are ignored.
    """
    points: list[tuple[int, float]] = []
    for at_ns, watts in samples:
        if not points or watts != points[-1][1] or at_ns - points[-1][0] >= tick_ns:
            points.append((at_ns, watts))
    if samples and points[-1] != samples[-1]:
        points.append(samples[-1])
    if len(points) < 2:
        return None
    begin, end = max(start_ns, points[0][0]), min(stop_ns, points[-1][0])
    if end - begin < (stop_ns - start_ns) / 2:
        return None
    energy_j = error_j = 0.0
    for (a_ns, a_w), (b_ns, b_w) in pairwise(points):
        low, high = max(a_ns, begin), min(b_ns, end)
        if low < high:
            slope = (b_w - a_w) / (b_ns - a_ns)
            seconds = (high - low) / 1e9
            energy_j += (a_w + slope * ((low + high) / 2 - a_ns)) * seconds
            error_j += abs(b_w - a_w) / 2 * seconds
    return Span(begin, end, energy_j, error_j)
