"""A metric over all records of a key, as text for a terminal of 80 columns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_gpuperf.report.figures import change, figure, plural

WIDTH, HEIGHT = 80, 12
#: How a record is drawn, by what became of it. What comes later here is drawn over what comes first.
SYMBOLS = {"": "*", "failed": "x", "accepted": "A", "pinned": "P"}
_LEVEL = "-"
#: Columns between two records, where there is room.
_APART = 3


@dataclass(frozen=True)
class HistoryPoint:
    """One record.

    Attributes:
        value: ns, inferences per second, joules or bytes.
        state: ``accepted``, ``pinned``, ``failed`` (never part of the baseline), or empty.
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
        """Change points are looked for among these; what failed the gate was somebody's attempt."""
        return self.state != "failed"


@dataclass(frozen=True)
class Shift:
    """A change of the level.

    Attributes:
        index: of the first record at the new level.
        before, after: the levels, as ``HistoryPoint.value``.
    """

    index: int
    before: float
    after: float
    p_value: float


@dataclass(frozen=True)
class History:
    """One metric of one load point over the records of one key.

    Attributes:
        key: its digest.
        point: the load point's label, or that of all of them together.
        points: oldest first.
        shifts: in order.
        left_out: records that didn't measure this.
    """

    test: str
    device: str
    key: str
    sweep: str
    point: str
    metric: str
    points: tuple[HistoryPoint, ...]
    shifts: tuple[Shift, ...] = ()
    left_out: int = 0

    @property
    def title(self) -> str:
        """What is plotted."""
        return f"{self.metric} of {self.sweep}, {self.point}"

    def levels(self) -> list[tuple[int, int, float]]:
        """Stretches of one level: first record, one after the last, and the level."""
        edges = [0, *(shift.index for shift in self.shifts), len(self.points)]
        values = [moment.value if moment.searched else None for moment in self.points]
        found = []
        for start, stop in pairwise(edges):
            known = [value for value in values[start:stop] if value is not None]
            if known:
                found.append((start, stop, statistics.median(known)))
        return found


def plot(history: History, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Lines of a plot, with its legend and its changes."""
    points = history.points
    values = [moment.value for moment in points]
    low, high = min(values), max(values)
    # A series that hardly moves is drawn as one: at least 2% of the value from bottom to top.
    margin = max(0.01 * high - (high - low) / 2, 0.0)
    low, high = low - margin, high + margin
    labels = [figure(history.metric, high - (high - low) * row / (height - 1)) for row in range(height)]
    gutter = max(map(len, labels))
    room = width - gutter - 2
    columns = min(len(points) * _APART, room)

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
    shown = {0, height // 2, height - 1}
    lines = [
        f"{labels[row] if row in shown else '':>{gutter}} |{''.join(line)}".rstrip() for row, line in enumerate(cells)
    ]
    lines.append(f"{'':>{gutter}} +{_axis_line(history, columns, column_of)}")
    first, last = points[0].day, points[-1].day
    gap = max(columns - len(first) - len(last), 1)
    lines.append(
        f"{'':>{gutter}}  {first}{' ' * gap}{last if last != first or columns > len(first) * 2 else ''}".rstrip()
    )
    return [*lines, *_legend(history), *_shift_lines(history)]


def _by_column(points: Sequence[HistoryPoint], state: str, column_of: Callable[[int], int]) -> list[tuple[int, float]]:
    """Column and value of the records of one state: the middle one where several share a column."""
    columns: dict[int, list[float]] = {}
    for index, moment in enumerate(points):
        if moment.state == state:
            columns.setdefault(column_of(index), []).append(moment.value)
    return [(column, statistics.median(found)) for column, found in columns.items()]


def _axis_line(history: History, columns: int, column_of: Callable[[int], int]) -> str:
    """The axis, with a digit below every change."""
    cells = ["-"] * columns
    for number, shift in enumerate(history.shifts, start=1):
        cells[column_of(shift.index)] = str(number % 10)
    return "".join(cells)


def _legend(history: History) -> list[str]:
    names = {"": "record", "failed": "failed the gate", "accepted": "accepted by hand", "pinned": "pinned"}
    states = [state for state in SYMBOLS if any(moment.state == state for moment in history.points)]
    text = ", ".join(f"{SYMBOLS[state]} {names[state]}" for state in states)
    lines = [f"  {text}, {_LEVEL} level between changes"]
    if history.left_out:
        lines.append(f"  left out: {plural(history.left_out, 'record')} without these load points")
    return lines


def _shift_lines(history: History) -> list[str]:
    if not history.shifts:
        return ["  no change of level"]
    lines = []
    for number, shift in enumerate(history.shifts, start=1):
        moment = history.points[shift.index]
        which = f"commit {moment.commit[:8]}" if moment.commit else f"record {moment.record}"
        lines.append(
            f"  {number}: {moment.day} {which}: {change(shift.after / shift.before)} "
            f"({figure(history.metric, shift.before)} -> {figure(history.metric, shift.after)})"
        )
    levels = history.levels()
    if len(history.shifts) > 1 and len(levels) > 1:
        lines.append(f"  overall: {change(levels[-1][2] / levels[0][2])}")
    return lines
