"""The charts over time: the records of a test in a report, and ``gpuperf history``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_gpuperf.model import Histogram, LoadPoint, Record
from pytest_gpuperf.report.figures import figure, metric_unit, minute, plural
from pytest_gpuperf.report.history import History
from pytest_gpuperf.report.page.chart import Chart, ChartAxis, ReferenceLine, Series, View
from pytest_gpuperf.report.page.latency_charts import sweep_figures
from pytest_gpuperf.report.page.sweep_charts import CHANGED, SweepView

#: Smallest span of the y axis as a share of the value, so that noise does not fill the chart.
_MIN_SPAN = 0.04
#: Largest number of load points of a sweep with a history.
_MAX_POINTS = 6
_STATES = {
    "": ("records", "base"),
    "failed": ("failed the gate", "bad"),
    "suspect": ("suspect, waits", "bad"),
    "inherited": ("inherited regression", "bad"),
    "accepted": ("accepted by hand", "good"),
    "pinned": ("pinned", "good"),
    "newest": ("this record", "head"),
}
#: States of records that show no level, so that the line between records does not pass through them.
_APART = ("failed", "suspect", "inherited")


def records_chart(sweep: SweepView, limit: int) -> Chart | None:
    """Chart p90 and throughput of each load point over the newest records of the test's key, up to a limit."""
    records = sweep.reported.history[-limit:]
    if len(records) < 2:
        return None
    known = [_figures(record, sweep.curve.name) for record in records]
    states = [_state(record, sweep.reported.record) for record in records]
    days = [record.created_utc[:10] for record in records]
    suspect = sweep.suspect()
    views: list[View] = []
    chosen = 0
    for index, metric in enumerate(("p90", "throughput")):
        for point in _points(sweep):
            values = [figures[point][index] if point in figures else None for figures in known]
            if sum(value is not None for value in values) < 2:
                continue
            if point == suspect and metric == "p90":
                chosen = len(views)
            views.append(_view(f"{metric}, {point.label}", metric, values, states, days))
    if not views:
        return None
    labels = tuple(_label(record.created_utc, record.id, record.commit) for record in records)
    choice = "metric and load point"
    return Chart("history", "History", tuple(views), labels, sides=sweep.sides, chosen=chosen, choice_label=choice)


def _points(sweep: SweepView) -> list[LoadPoint]:
    """Return the load points whose history is shown: changed points and the ends of the curve, in its order."""
    points = [point.load for point in sweep.curve]
    changed = [point for point in points if any(row.verdict in CHANGED for row in sweep.rows(point))]
    suspect = sweep.suspect()
    kept = dict.fromkeys([*([suspect] if suspect else []), *points[:1], *points[-1:], *changed])
    return sorted(list(kept)[:_MAX_POINTS], key=points.index)


def _figures(record: Record, sweep: str) -> dict[LoadPoint, tuple[float | None, float]]:
    by_load = sweep_figures(record.runs, sweep)
    return {point: (_p90(figures.latency), figures.throughput) for point, figures in by_load.items()}


def _p90(latency: Histogram) -> float | None:
    return latency.quantile_ns(0.9) if latency.total else None


def _state(record: Record, newest: Record) -> str:
    if record.id == newest.id:
        return "newest"
    return "" if record.may_be_baseline else record.gate


def history_chart(history: History) -> Chart:
    """Chart a history with its levels and their changes."""
    points = history.points
    count = f"{plural(len(points), 'record')}, {plural(len(history.shifts), 'change')} of level"
    out = f"; left out: {plural(history.left_out, 'record')} without these load points" if history.left_out else ""
    devices = f"; {history.devices_note}" if history.devices_note else ""
    view = _view(
        history.title,
        history.metric,
        [point.value for point in points],
        [point.state for point in points],
        [point.day for point in points],
        levels=history.levels(),
        shifts=[(shift.index - 0.5, f"{number}: {shift.change}") for number, shift in enumerate(history.shifts, 1)],
        note=f"{count}{out}{devices}.",
    )
    labels = tuple(_label(point.utc, point.record, point.commit) for point in points)
    return Chart("history", history.title, (view,), labels)


def _label(utc: str, record: str, commit: str) -> str:
    return f"{minute(utc)} {f'commit {commit[:8]}, ' if commit else ''}record {record}"


def _view(
    name: str,
    metric: str,
    values: Sequence[float | None],
    states: Sequence[str],
    days: Sequence[str],
    *,
    levels: Iterable[tuple[int, int, float]] = (),
    shifts: Iterable[tuple[float, str]] = (),
    note: str = "",
) -> View:
    known = [value for value in values if value is not None]
    scale, unit = metric_unit(metric, max(known))
    high, low = max(known) / scale, min(known) / scale
    room = (max(high - low, _MIN_SPAN * high) or 1.0) * 0.6  # a share may be 0 everywhere
    middle = (high + low) / 2
    series = []
    level_x: list[float] = []
    level_y: list[float | None] = []
    for start, stop, level in levels:
        # The two ends of the level, and a gap behind it.
        level_x += (start - 0.3, stop - 0.7, stop - 0.6)
        level_y += (level / scale, level / scale, None)
    if level_x:
        series.append(Series("level", "", "level", tuple(level_x), tuple(level_y), "plain", "level"))
    scaled = [None if value is None else value / scale for value in values]
    for state, (legend, color) in _STATES.items():
        # The line between records passes through all that did not fail their gate.
        members = [
            index for index, known in enumerate(states) if known == state or (state == "" and known not in _APART)
        ]
        if members:
            x, y = tuple(map(float, members)), tuple(scaled[index] for index in members)
            draw = "dots" if state else "trace"
            series.append(Series(metric, "", color, x, y, draw, legend, labels=tuple(members)))
    first_of_day = [index for index, day in enumerate(days) if index == 0 or day != days[index - 1]]
    ticks = tuple((float(index), days[index]) for index in first_of_day)
    x_axis = ChartAxis("record", ticks=ticks, from_zero=False, span=(-0.7, len(values) - 0.3))
    span = max(min(low, middle - room), 0.0), max(high, middle + room)
    y_axis = ChartAxis(f"{metric} ({unit})", unit, from_zero=False, span=span)
    rules = tuple(ReferenceLine(text, "shift", x=at, short=text) for at, text in shifts)
    return View(name, x_axis, y_axis, tuple(series), rules, note=note)


def shift_rows(history: History) -> list[tuple[str, ...]]:
    """Return the changes of level, a row each."""
    rows: list[tuple[str, ...]] = []
    for number, shift in enumerate(history.shifts, start=1):
        point = history.points[shift.index]
        levels = f"{figure(history.metric, shift.before)} to {figure(history.metric, shift.after)}"
        moment, commit = minute(point.utc), point.commit[:8]
        rows.append((str(number), moment, commit, point.record, shift.change, levels, f"p {shift.p_value:.2g}"))
    return rows
