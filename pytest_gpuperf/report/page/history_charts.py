"""The charts over time: of a test's records in a report, and of ``gpuperf history``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_gpuperf.model import Histogram, LoadPoint, Record, Verdict
from pytest_gpuperf.report.figures import change, figure, plural, time_unit
from pytest_gpuperf.report.history import History
from pytest_gpuperf.report.page.chart import Chart, ChartAxis, ReferenceLine, Series, View
from pytest_gpuperf.report.page.latency_charts import by_point
from pytest_gpuperf.report.page.sweep_charts import SweepView

#: At least so much of the value from bottom to top: a series that hardly moves is drawn as one.
_LEAST_SPAN = 0.04
#: Of a sweep of many load points.
_POINTS = 6
_CHANGED = (Verdict.REGRESSED, Verdict.IMPROVED)
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_STATES = {
    "": ("records", "base"),
    "failed": ("failed the gate", "bad"),
    "accepted": ("accepted by hand", "good"),
    "pinned": ("pinned", "good"),
    "newest": ("this record", "head"),
}


def records_chart(sweep: SweepView, most: int) -> Chart | None:
    """p90 and throughput of each load point over the records of the test's key.

    Args:
        most: records that are shown, the newest.
    """
    records = sweep.reported.history[-most:]
    if len(records) < 2:
        return None
    known = [_figures(record, sweep.curve.name) for record in records]
    suspect = sweep.suspect()
    views: list[View] = []
    chosen = 0
    states = [_state(record, sweep.reported.record) for record in records]
    days = [record.created_utc[:10] for record in records]
    for place, metric in enumerate(("p90", "throughput")):
        for point in _points(sweep):
            values = [one[point][place] if point in one else None for one in known]
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
        labels=tuple(_label(one.created_utc, one.id, one.commit) for one in records),
        sides=sweep.sides,
        chosen=chosen,
        asks="metric and load point",
    )


def _points(sweep: SweepView) -> list[LoadPoint]:
    """The load points whose history is shown: what changed, and the ends of the curve, in its order."""
    own = [one.load for one in sweep.curve]
    changed = [point for point in own if any(row.verdict in _CHANGED for row in sweep.rows(point))]
    suspect = sweep.suspect()
    kept = dict.fromkeys([*([suspect] if suspect else []), *own[:1], *own[-1:], *changed])
    return sorted(list(kept)[:_POINTS], key=own.index)


def _figures(record: Record, sweep: str) -> dict[LoadPoint, tuple[float | None, float]]:
    """p90 in ns and inferences per second of each load point, as the curves have them."""
    by_load = by_point(record.runs, sweep)
    return {point: (_p90(figures.latency), figures.throughput) for point, figures in by_load.items()}


def _p90(latency: Histogram) -> float | None:
    return latency.quantile_ns(0.9) if latency.total else None


def _state(record: Record, newest: Record) -> str:
    if record.id == newest.id:
        return "newest"
    return "" if record.may_be_baseline else "failed"


def history_chart(history: History) -> Chart:
    """A history with its levels and their changes."""
    points = history.points
    states = [moment.state for moment in points]
    days = [moment.day for moment in points]
    count = f"{plural(len(points), 'record')}, {plural(len(history.shifts), 'change')} of level"
    out = f"; left out: {plural(history.left_out, 'record')} without these load points" if history.left_out else ""
    view = _view(
        history.title,
        history.metric,
        [moment.value for moment in points],
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
        labels=tuple(_label(one.utc, one.record, one.commit) for one in points),
    )


def _label(utc: str, record: str, commit: str) -> str:
    return f"{utc[:16].replace('T', ' ')} {f'commit {commit[:8]}, ' if commit else ''}record {record}"


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
    scale, unit = _unit(metric, max(known))
    high, low = max(known) / scale, min(known) / scale
    room = max(high - low, _LEAST_SPAN * high) * 0.6
    middle = (high + low) / 2
    series = []
    stretches = list(levels)
    if stretches:
        # One line of three positions for each level: its ends, and a gap behind it.
        ends = [(at, value) for start, stop, level in stretches for at, value in _stretch(start, stop, level / scale)]
        series.append(
            Series(
                "level", "", "level", tuple(at for at, _ in ends), tuple(value for _, value in ends), "plain", "level"
            )
        )
    for state, (legend, color) in _STATES.items():
        # The line between records passes through all that were not stopped by their gate.
        members = [index for index, one in enumerate(states) if one == state or (state == "" and one != "failed")]
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
    """A tick at the first record of each day."""
    return tuple((float(index), day) for index, day in enumerate(days) if index == 0 or day != days[index - 1])


def _unit(metric: str, highest: float) -> tuple[float, str]:
    """Length of the unit in which the metric's values are written, and its name."""
    if metric == "throughput":
        return 1.0, "inf/s"
    if metric == "energy":
        return (1.0, "J") if highest >= 1 else (1e-3, "mJ")
    if metric in ("memory", "host_memory"):
        return next(((float(scale), unit) for scale, unit in _BYTES if highest >= scale), (1.0, "B"))
    return time_unit(highest)


def shift_rows(history: History) -> list[tuple[str, ...]]:
    """The changes of the level, a row each."""
    rows: list[tuple[str, ...]] = []
    for number, shift in enumerate(history.shifts, start=1):
        moment = history.points[shift.index]
        rows.append(
            (
                str(number),
                moment.utc[:16].replace("T", " "),
                moment.commit[:8],
                moment.record,
                change(shift.after / shift.before),
                f"{figure(history.metric, shift.before)} to {figure(history.metric, shift.after)}",
                f"p {shift.p_value:.2g}",
            )
        )
    return rows
