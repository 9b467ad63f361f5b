"""The history of a metric over the records of a key, drawn as text for a terminal of 80 columns."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_gpuperf.model import is_share
from pytest_gpuperf.report.figures import change_of, figure, plural

WIDTH, HEIGHT = 80, 12
#: Symbol of a record by its state; later symbols are drawn over earlier ones.
SYMBOLS = {"": "*", "failed": "x", "suspect": "?", "inherited": "i", "accepted": "A", "pinned": "P"}
_LEVEL = "-"
#: Columns between two records if there is room.
_SPACING = 3


@dataclass(frozen=True)
class HistoryPoint:
    """The value of a record.

    Attributes:
        value: Figure in the unit of the metric.
        state: ``accepted``, ``pinned``, ``failed`` (never part of a baseline), or empty.
    """

    utc: str
    value: float
    record: str
    commit: str = ""
    state: str = ""

    @property
    def day(self) -> str:
        return self.utc[:10]

    @property
    def searched(self) -> bool:
        """Whether changes are searched for in this record; one that failed its gate was never merged."""
        return is_searched(self.state)


def is_searched(state: str) -> bool:
    """Return whether changes are searched for in records of a state (``HistoryPoint.state``)."""
    return state not in ("failed", "suspect", "inherited")


@dataclass(frozen=True)
class Shift:
    """A change of level.

    Attributes:
        index: Index of the first record at the new level.
        before, after: Levels in the unit of ``HistoryPoint.value``.
    """

    index: int
    before: float
    after: float
    p_value: float
    metric: str = ""

    @property
    def change(self) -> str:
        """The change as text."""
        return _change(self.metric, self.before, self.after)


def _change(metric: str, before: float, after: float) -> str:
    return change_of(metric, 1 + after - before if is_share(metric) else after / before)


@dataclass(frozen=True)
class History:
    """A metric of a load point over the records of a key.

    Attributes:
        key: Digest of the key.
        point_label: Label of the load point, or of all load points together.
        points: Values, oldest first.
        shifts: Changes of level, oldest first.
        left_out: Number of records that did not measure this.
        devices: Number of devices of which the effects were estimated; the values are those of the newest record's.
    """

    test: str
    device: str
    key: str
    sweep: str
    point_label: str
    metric: str
    points: tuple[HistoryPoint, ...]
    shifts: tuple[Shift, ...] = ()
    left_out: int = 0
    devices: int = 1

    @property
    def title(self) -> str:
        """Metric, sweep and load point."""
        return f"{self.metric} of {self.sweep}, {self.point_label}"

    @property
    def devices_note(self) -> str:
        """What was done about devices that differ; empty with a single device."""
        if self.devices < 2:
            return ""
        return f"{self.devices} devices: values are shown as on the newest record's, without what the devices differ by"

    def levels(self) -> list[tuple[int, int, float]]:
        """Return the stretches of constant level: start index, stop index and level."""
        edges = [0, *(shift.index for shift in self.shifts), len(self.points)]
        levels = []
        for start, stop in pairwise(edges):
            known = [point.value for point in self.points[start:stop] if point.searched]
            if known:
                levels.append((start, stop, statistics.median(known)))
        return levels


def plot(history: History, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Return the lines of a plot with its legend and its changes."""
    points = history.points
    values = [point.value for point in points]
    low, high = min(values), max(values)
    # The plot spans at least 2% of the value, so that noise does not fill it.
    margin = max(0.01 * high - (high - low) / 2, 0.0)
    low, high = low - margin, high + margin
    labels = [figure(history.metric, high - (high - low) * row / (height - 1)) for row in range(height)]
    gutter = max(map(len, labels))
    room = width - gutter - 2
    columns = min(len(points) * _SPACING, room)

    def row_of(value: float) -> int:
        return round((high - value) / (high - low) * (height - 1)) if high > low else height // 2

    def column_of(index: int) -> int:
        return index * columns // len(points)

    cells = [[" "] * columns for _ in range(height)]
    for start, stop, level in history.levels():
        for column in range(column_of(start), column_of(stop - 1) + 1):
            cells[row_of(level)][column] = _LEVEL
    for state, symbol in SYMBOLS.items():
        for column, value in _by_column(points, state, column_of):
            cells[row_of(value)][column] = symbol
    labelled = {row: labels[row] for row in (0, height // 2, height - 1)}
    lines = [f"{labelled.get(row, ''):>{gutter}} |{''.join(line)}".rstrip() for row, line in enumerate(cells)]
    axis = ["-"] * columns
    for number, shift in enumerate(history.shifts, start=1):
        axis[column_of(shift.index)] = str(number % 10)
    first, last = points[0].day, points[-1].day
    gap = " " * max(columns - len(first) - len(last), 1)
    days = f"{first}{gap}{last}" if last != first or columns > len(first) * 2 else first
    lines += [f"{'':>{gutter}} +{''.join(axis)}", f"{'':>{gutter}}  {days}"]
    return [*lines, *_legend(history), *_shift_lines(history)]


def _by_column(points: Sequence[HistoryPoint], state: str, column_of: Callable[[int], int]) -> list[tuple[int, float]]:
    """Return column and value of the records of a state, the median where several share a column."""
    columns: dict[int, list[float]] = {}
    for index, point in enumerate(points):
        if point.state == state:
            columns.setdefault(column_of(index), []).append(point.value)
    return [(column, statistics.median(values)) for column, values in columns.items()]


def _legend(history: History) -> list[str]:
    names = {
        "": "record",
        "failed": "failed the gate",
        "suspect": "suspect, waits",
        "inherited": "inherited",
        "accepted": "accepted by hand",
        "pinned": "pinned",
    }
    states = {point.state for point in history.points}
    text = ", ".join(f"{symbol} {names[state]}" for state, symbol in SYMBOLS.items() if state in states)
    lines = [f"  {text}, {_LEVEL} level between changes"]
    if history.left_out:
        lines.append(f"  left out: {plural(history.left_out, 'record')} without these load points")
    if history.devices_note:
        lines += [f"  {line}" for line in textwrap.wrap(history.devices_note, WIDTH - 2)]
    return lines


def _shift_lines(history: History) -> list[str]:
    if not history.shifts:
        return ["  no change of level"]
    lines = []
    for number, shift in enumerate(history.shifts, start=1):
        point = history.points[shift.index]
        which = f"commit {point.commit[:8]}" if point.commit else f"record {point.record}"
        lines.append(
            f"  {number}: {point.day} {which}: {shift.change} "
            f"({figure(history.metric, shift.before)} -> {figure(history.metric, shift.after)})"
        )
    levels = history.levels()
    if len(history.shifts) > 1 and len(levels) > 1:
        lines.append(f"  overall: {_change(history.metric, levels[0][2], levels[-1][2])}")
    return lines
