"""The charts over time: the records of a test in a report, and ``gpuperf history``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_gpuperf.model import Histogram, LoadPoint, Record, Verdict
from pytest_gpuperf.report.figures import change, figure, metric_unit, minute, plural
from pytest_gpuperf.report.history import History
from pytest_gpuperf.report.page.chart import Chart, ChartAxis, ReferenceLine, Series, View
from pytest_gpuperf.report.page.latency_charts import sweep_figures
from pytest_gpuperf.report.page.sweep_charts import SweepView

#: Smallest span of the y axis as a share of the value, so that noise does not fill the chart.
_MIN_SPAN = 0.04
#: Largest number of load points of a sweep with a history.
_MAX_POINTS = 6
_CHANGED = (Verdict.REGRESSED, Verdict.IMPROVED)
_STATES = {
    "": ("records", "base"),
    "failed": ("failed the gate", "bad"),
    "accepted": ("accepted by hand", "good"),
    "pinned": ("pinned", "good"),
    "newest": ("this record", "head"),
}


def records_chart(sweep: SweepView, limit: int) -> Chart | None:
    """Chart p90 and throughput of each load point over the records of the test's key.

    Args:
        limit: Largest number of records to show; the newest are shown.
    """
    records = sweep.reported.history[-limit:]
    if len(records) < 2:
        return None
    known = [_figures(record, sweep.curve.name) for record in records]
    suspect = sweep.suspect()
    views: list[View] = []
    chosen = 0
    states = [_state(record, sweep.reported.record) for record in records]
    days = [record.created_utc[:10] for record in records]
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
    return Chart(
        "history",
        "History",
        tuple(views),
        labels=tuple(_label(record.created_utc, record.id, record.commit) for record in records),
        sides=sweep.sides,
        chosen=chosen,
        choice_label="metric and load point",
    )


def _points(sweep: SweepView) -> list[LoadPoint]:
    """Return the load points whose history is shown: changed points and the ends of the curve, in its order."""
    points = [point.load for point in sweep.curve]
    changed = [point for point in points if any(row.verdict in _CHANGED for row in sweep.rows(point))]
    suspect = sweep.suspect()
    kept = dict.fromkeys([*([suspect] if suspect else []), *points[:1], *points[-1:], *changed])
    return sorted(list(kept)[:_MAX_POINTS], key=points.index)


def _figures(record: Record, sweep: str) -> dict[LoadPoint, tuple[float | None, float]]:
    """Return p90 in ns and inferences per second of each load point."""
    by_load = sweep_figures(record.runs, sweep)
    return {point: (_p90(figures.latency), figures.throughput) for point, figures in by_load.items()}


def _p90(latency: Histogram) -> float | None:
    return latency.quantile_ns(0.9) if latency.total else None


def _state(record: Record, newest: Record) -> str:
    if record.id == newest.id:
        return "newest"
    return "" if record.may_be_baseline else "failed"


def history_chart(history: History) -> Chart:
    """Chart a history with its levels and their changes."""
    points = history.points
    states = [point.state for point in points]
    days = [point.day for point in points]
    count = f"{plural(len(points), 'record')}, {plural(len(history.shifts), 'change')} of level"
    out = f"; left out: {plural(history.left_out, 'record')} without these load points" if history.left_out else ""
    view = _view(
        history.title,
        history.metric,
        [point.value for point in points],
        states,
        days,
        levels=history.levels(),
        shifts=[
            (shift.index - 0.5, f"{number}: {change(shift.after / shift.before)}")
            for number, shift in enumerate(history.shifts, start=1)
        ],
        note=f"{count}{out}.",
    )
    return Chart(
        "history",
        history.title,
        (view,),
        labels=tuple(_label(point.utc, point.record, point.commit) for point in points),
    )


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
    room = max(high - low, _MIN_SPAN * high) * 0.6
    middle = (high + low) / 2
    series = []
    stretches = list(levels)
    if stretches:
        # Each level has three vertices: its two ends, and a gap behind it.
        ends = [(at, value) for start, stop, level in stretches for at, value in _stretch(start, stop, level / scale)]
        series.append(
            Series(
                "level", "", "level", tuple(at for at, _ in ends), tuple(value for _, value in ends), "plain", "level"
            )
        )
    for state, (legend, color) in _STATES.items():
        # The line between records passes through all that did not fail their gate.
        members = [index for index, known in enumerate(states) if known == state or (state == "" and known != "failed")]
        if members:
            series.append(
                Series(
                    metric,
                    "",
                    color,
                    tuple(float(index) for index in members),
                    tuple(_scaled(values[index], scale) for index in members),
                    draw="dots" if state else "trace",
                    legend=legend,
                    labels=tuple(members),
                )
            )
    x = ChartAxis("record", ticks=_days(days), from_zero=False, span=(-0.7, len(values) - 0.3))
    y = ChartAxis(
        f"{metric} ({unit})", unit, from_zero=False, span=(max(min(low, middle - room), 0.0), max(high, middle + room))
    )
    rules = tuple(ReferenceLine(text, "shift", x=at, short=text) for at, text in shifts)
    return View(name, x, y, tuple(series), rules, note=note)


def _stretch(start: int, stop: int, level: float) -> tuple[tuple[float, float | None], ...]:
    return (start - 0.3, level), (stop - 0.7, level), (stop - 0.6, None)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value / scale


def _days(days: Sequence[str]) -> tuple[tuple[float, str], ...]:
    """Return a tick at the first record of each day."""
    return tuple((float(index), day) for index, day in enumerate(days) if index == 0 or day != days[index - 1])


def shift_rows(history: History) -> list[tuple[str, ...]]:
    """Return the changes of level, a row each."""
    rows: list[tuple[str, ...]] = []
    for number, shift in enumerate(history.shifts, start=1):
        point = history.points[shift.index]
        rows.append(
            (
                str(number),
                minute(point.utc),
                point.commit[:8],
                point.record,
                change(shift.after / shift.before),
                f"{figure(history.metric, shift.before)} to {figure(history.metric, shift.after)}",
                f"p {shift.p_value:.2g}",
            )
        )
    return rows
