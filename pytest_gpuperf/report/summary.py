"""One test's results as lines: the terminal section, and the message of a failed gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import Change, Comparison, Curve, CurvePoint, LoadPoint, Row, Session, Verdict
from pytest_gpuperf.report.table import Table
from pytest_gpuperf.report.words import (
    change,
    duration,
    interval,
    plural,
    rate,
    short_interval,
    significant,
    time_unit,
    value,
)

_SHOWN_CHANGES = 6
_SHOWN_ROWS = 12


@dataclass(frozen=True)
class Place:
    """Where a session was stored, as people type it.

    Attributes:
        option: what makes the command line tool look there; empty for the default store.
    """

    path: str
    option: str = ""


def curve_table(curve: Curve, rows: Sequence[Row]) -> Table:
    """Load points with their latencies, throughput and, where there is a baseline, the change that decides."""
    batches = any(point.batch_size != 1 for point in curve)
    scale, unit = time_unit(max((point.p50_ns for point in curve), default=1e6))
    table = []
    for point in curve:
        own = [r for r in rows if r.sweep == curve.name and r.point == LoadPoint(point.concurrency, point.batch_size)]
        load = f"{point.concurrency} x {point.batch_size}" if batches else str(point.concurrency)
        cells = (load, *_figures(point, scale))
        table.append(cells + (_verdict_cells(own) if rows else ()))
    whole = [row for row in rows if row.sweep == curve.name and row.point is None]
    if whole:
        blank = ("",) * (len(table[0]) - 3)
        table.append(("all", *blank, *_verdict_cells(whole)))
    titles = (">conc x b" if batches else ">conc", f">p50 {unit}", ">p90", ">p99", ">inf/s")
    return Table(titles + (("change [95%]", "verdict") if rows else ()), tuple(table))


def _figures(point: CurvePoint, scale: float) -> tuple[str, ...]:
    def quantile(name: str) -> str:
        text = significant(getattr(point, f"{name}_ns") / scale)
        return text if name in point.supported else f"~{text}"

    return quantile("p50"), quantile("p90"), quantile("p99"), rate(point.throughput)


def _verdict_cells(rows: Sequence[Row]) -> tuple[str, str]:
    """The row that decides: of the worst verdict, the one with the largest change."""
    if not rows:
        return "", str(Verdict.NO_BASELINE)
    order = list(Verdict)
    verdict = min((row.verdict for row in rows), key=order.index)
    row = max((row for row in rows if row.verdict is verdict), key=lambda row: abs(row.worsening))
    return f"{_short(row.metric)} {short_interval(row)}", str(verdict)


def _short(metric: str) -> str:
    return "inf/s" if metric == "throughput" else metric


def session_lines(session: Session, curves: Sequence[Curve], comparison: Comparison, place: Place) -> list[str]:
    """The test's part of the terminal section, without its headline."""
    lines = []
    for curve in curves:
        if len(curves) > 1:
            lines.append(curve.name)
        table = curve_table(curve, comparison.rows)
        lines += table.as_text("  ")
        lines += _server_line(curve)
    if any(len(point.supported) < 4 for curve in curves for point in curve):
        lines.append("  ~ too few requests for this percentile")
    lines += _guard_lines(session)
    lines += _comparison_lines(comparison)
    lines.append(f"  stored as {place.path}")
    return lines


def headline(session: Session, comparison: Comparison) -> str:
    """What happened, in one line."""
    runs = plural(max((run.index + 1 for run in session.runs), default=0), "run")
    if session.status == "incomplete":
        return f"measurement cut short after {runs}; stored, but never part of a baseline"
    if comparison.verdict is Verdict.NO_BASELINE:
        if comparison.differing is not None:
            return f"NO BASELINE with this key; recorded one from {runs}"
        return f"NO BASELINE yet; recorded one from {runs}"
    return f"{comparison.verdict}: {runs} against {plural(len(comparison.baseline), 'baseline session')}"


def _server_line(curve: Curve) -> list[str]:
    """Where the time went at the highest load, as the server tells it."""
    point = max(curve, key=lambda point: (point.concurrency, point.batch_size), default=None)
    if point is None or point.server is None or not point.server.requests:
        return []
    server = point.server
    parts = {
        "queue": server.queue_ns,
        "input": server.compute_input_ns,
        "infer": server.compute_infer_ns,
        "output": server.compute_output_ns,
    }
    means = {name: total / server.requests for name, total in parts.items()}
    means["outside"] = max(point.mean_ns - sum(means.values()), 0.0)
    text = ", ".join(f"{name} {duration(mean)}" for name, mean in means.items())
    return [f"  server at {point.concurrency}: {text}"]


def _guard_lines(session: Session) -> list[str]:
    counts: dict[str, int] = {}
    for run in session.runs:
        if not run.warmed_up:
            text = f"run {run.index + 1} did not become steady while warming up"
            counts[text] = counts.get(text, 0) + 1
        for window in run.windows:
            for finding in window.findings:
                text = f"{window.point.label}: {finding}"
                counts[text] = counts.get(text, 0) + 1
    lines = [f"  ! {text}" for text in list(counts)[:_SHOWN_ROWS]]
    windows = [window for run in session.runs for window in run.windows]
    disturbed = [window.others_cpu_share or 0.0 for window in windows if not window.calm]
    if disturbed:
        lines.append(
            f"  ! other processes disturbed {len(disturbed)} of {plural(len(windows), 'window')}, "
            f"taking up to {max(disturbed):.0%} of the CPU"
        )
    return lines


def _comparison_lines(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.differing is not None:
        fields = ", ".join(
            f"{name} ({there} there, {here} here)" for name, (there, here) in comparison.differing.items()
        )
        lines.append(f"  the newest other session of this test is not comparable: {fields}")
    unsure = comparison.of(Verdict.INCONCLUSIVE)
    if unsure:
        lines += _inconclusive_lines(unsure)
    for label in comparison.new_points:
        lines.append(f"  not in the baseline: {label}")
    for label in comparison.missing_points:
        lines.append(f"  in the baseline but not measured now: {label}")
    return lines


def _inconclusive_lines(rows: Sequence[Row]) -> list[str]:
    least, most = (change(1 + pick(row.min_detectable for row in rows)) for pick in (min, max))
    sees = f"  inconclusive: smallest regression visible here {least}" + (f" to {most}" if most != least else "")
    needed = [row.sessions_to_decide for row in rows if row.sessions_to_decide is not None]
    if len(needed) < len(rows):
        more = "not every row is decided by more sessions; a quieter machine helps more"
    else:
        more = f"about {plural(max(needed), 'more session')} would decide: run it again"
    return [sees, f"    {more}"]


def failure_message(session: Session, comparison: Comparison, place: Place, baseline: Sequence[Session]) -> str:
    """Which points regressed, by how much, against what, and what to do."""
    regressed = sorted(comparison.of(Verdict.REGRESSED), key=lambda row: -row.worsening)
    shown = regressed or sorted(comparison.of(Verdict.INCONCLUSIVE), key=lambda row: -row.worsening)
    what = "regressed" if regressed else "is inconclusive (--gpuperf-on-inconclusive fail)"
    table = Table(
        ("load point", "metric", ">baseline", ">now", "change [95%]", ">p"),
        tuple(
            (
                row.point.label if row.point else "whole sweep",
                row.metric,
                value(row, row.baseline),
                value(row, row.candidate),
                interval(row),
                f"{row.p_value:.1g}",
            )
            for row in shown[:_SHOWN_ROWS]
        ),
    )
    lines = [f"{session.test} {what} against {plural(len(baseline), 'baseline session')}", *table.as_text("  ")]
    if len(shown) > _SHOWN_ROWS:
        lines.append(f"  and {len(shown) - _SHOWN_ROWS} more")
    newest = baseline[0]
    commit = f", commit {newest.commit[:8]}" if newest.commit else ""
    lines.append(f"newest baseline session: {newest.id} of {newest.created_utc[:16].replace('T', ' ')} UTC{commit}")
    lines += _change_lines(comparison.changes)
    lines.append(f"this session: {place.path}")
    lines.append("if the change is meant, accept it as the new baseline:")
    lines.append(f'  gpuperf baseline accept {session.id}{place.option} --reason "..."')
    return "\n".join(lines)


def _change_lines(changes: Sequence[Change]) -> list[str]:
    if not changes:
        return ["what else changed since: nothing that is recorded"]
    lines = ["what else changed since:"]
    lines += [
        f"  {one.where}: {one.name} {_brief(one.before)} -> {_brief(one.after)}" for one in changes[:_SHOWN_CHANGES]
    ]
    if len(changes) > _SHOWN_CHANGES:
        lines.append(f"  and {len(changes) - _SHOWN_CHANGES} more")
    return lines


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 32 else f"{text[:29]}..."
