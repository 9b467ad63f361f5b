"""One test's results as lines: the terminal section, and the message of a failed gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import Change, Comparison, Curve, CurvePoint, Record, Row, Verdict, worst
from pytest_gpuperf.report.comparison_table import row_table, short_load, short_metric, worst_first
from pytest_gpuperf.report.figures import fact, plural, rate, short_interval, three_digits, time_unit
from pytest_gpuperf.report.notes import (
    comparison_notes,
    curve_notes,
    endpoint_table,
    interference_notes,
    left_out_notes,
    reliability_notes,
)
from pytest_gpuperf.report.table import Table

_SHOWN_CHANGES = 6
_SHOWN_ROWS = 12
_NOTHING_SHARED = "NOT COMPARED: candidate and reference measured nothing in common"


@dataclass(frozen=True)
class RecordLocation:
    """Where a record was stored, as people type it.

    Attributes:
        path: file or URL of the record; empty where it could not be stored.
        option: the ``gpuperf`` command's option for its store; empty for the default store.
    """

    path: str
    option: str = ""

    @property
    def line(self) -> str:
        return f"  stored as {self.path}" if self.path else "  not stored"


def curve_table(curve: Curve, rows: Sequence[Row]) -> Table:
    """Load points with their latencies, throughput and, where there is a baseline, the change that decides."""
    batches = any(point.batch_size != 1 for point in curve)
    scale, unit = time_unit(max((point.p50_ns for point in curve), default=1e6))
    table = []
    for point in curve:
        own = [r for r in rows if r.sweep == curve.name and r.point == point.load]
        cells = (short_load(point, batch=batches), *_figures(point, scale))
        table.append(cells + (_verdict_cells(own) if rows else ()))
    whole = [row for row in rows if row.sweep == curve.name and row.point is None]
    if whole:
        blank = ("",) * (len(table[0]) - 3)
        table.append(("all", *blank, *_verdict_cells(whole)))
    kind = "conc" if all(point.concurrency for point in curve) else "load"
    titles = (f">{kind} x b" if batches else f">{kind}", f">p50 {unit}", ">p90", ">p99", ">inf/s")
    return Table(titles + (("change [95%]", "verdict") if rows else ()), tuple(table))


def _figures(point: CurvePoint, scale: float) -> tuple[str, ...]:
    def quantile(name: str) -> str:
        text = three_digits(getattr(point, f"{name}_ns") / scale)
        return text if name in point.supported else f"~{text}"

    return quantile("p50"), quantile("p90"), quantile("p99"), rate(point.throughput)


def _verdict_cells(rows: Sequence[Row]) -> tuple[str, str]:
    """The row that decides: of the worst verdict, the one with the largest change."""
    if not rows:
        return "", str(Verdict.NO_BASELINE)
    verdict = worst([row.verdict for row in rows])
    row = max((row for row in rows if row.verdict is verdict), key=lambda row: abs(row.worsening))
    return f"{short_metric(row.metric)} {short_interval(row)}", str(verdict)


def record_lines(
    record: Record, curves: Sequence[Curve], comparison: Comparison, location: RecordLocation
) -> list[str]:
    """The test's part of the terminal section, without its headline."""
    lines = []
    for curve in curves:
        if len(curves) > 1:
            lines.append(f"  {curve.name}")
        lines += curve_table(curve, comparison.rows).as_text("  ")
        lines += warnings(reliability_notes(curve))
        lines += indented(curve_notes(curve))
        table = endpoint_table(curve)
        lines += table.as_text("  ") if table else []
    if any(len(point.supported) < 4 for curve in curves for point in curve):
        lines.append("  ~ too few requests for this percentile")
    lines += warnings(interference_notes(record))
    lines += indented([*comparison_notes(comparison), *left_out_notes(comparison)])
    lines.append(location.line)
    return lines


def indented(notes: Sequence[str]) -> list[str]:
    """Notes as lines below a test's headline."""
    return [f"  {note}" for note in notes]


def warnings(notes: Sequence[str]) -> list[str]:
    """The same for what a reader must not miss."""
    return [f"  ! {note}" for note in notes]


def headline(record: Record, comparison: Comparison) -> str:
    """What happened, in one line."""
    duet = comparison.mode == "duet"
    count = plural(max((run.index + 1 for run in record.runs), default=0), "block" if duet else "run")
    if not record.runs:
        return "nothing was measured"
    if record.status == "incomplete":
        return f"measurement cut short after {count}; stored, but never used as a baseline"
    nothing = comparison.verdict in (Verdict.NOT_COMPARABLE, Verdict.NO_BASELINE)
    if duet:
        different = comparison.verdict is Verdict.NOT_COMPARABLE
        why = "NOT COMPARABLE: candidate and reference have different keys" if different else _NOTHING_SHARED
        return why if nothing else f"{comparison.verdict}: candidate against reference in {count}"
    if nothing:
        other = comparison.verdict is Verdict.NOT_COMPARABLE or comparison.differing is not None
        return f"NO BASELINE {'with this key' if other else 'yet'}: {count}, nothing to compare with"
    baseline = plural(len(comparison.baseline), "baseline record")
    return f"{comparison.verdict}: {count} compared with {baseline}"


def failure_message(
    record: Record, comparison: Comparison, location: RecordLocation, baseline: Sequence[Record]
) -> str:
    """Which points regressed, by how much, against what, and what to do."""
    regressed = worst_first(comparison.of(Verdict.REGRESSED))
    shown = regressed or worst_first(comparison.of(Verdict.INCONCLUSIVE))
    what = "regressed" if regressed else "is inconclusive"
    option = "" if regressed else " (--gpuperf-on-inconclusive fail)"
    duet = comparison.mode == "duet"
    table = row_table(shown[:_SHOWN_ROWS], ("point", "metric", "before", "now", "change", "p"), duet=duet)
    against = "its reference" if duet else plural(len(baseline), "baseline record")
    lines = [f"{record.test} {what} compared with {against}{option}", *table.as_text("  ")]
    if len(shown) > _SHOWN_ROWS:
        lines.append(f"  and {len(shown) - _SHOWN_ROWS} more rows")
    if duet:
        return "\n".join([*lines, *_change_lines(comparison.changes, "differs"), f"this record: {location.path}"])
    newest = baseline[0]
    commit = f", commit {newest.commit[:8]}" if newest.commit else ""
    lines.append(f"newest baseline record: {newest.id} of {newest.created_utc[:16].replace('T', ' ')} UTC{commit}")
    lines += _change_lines(comparison.changes)
    lines.append(f"this record: {location.path}")
    if regressed:
        lines.append("if this change is intended, accept it as the new baseline:")
        lines.append(f'  gpuperf baseline accept {record.id}{location.option} --reason "..."')
    else:
        lines.append("this record joins the baseline; run the test again, since more records detect smaller changes")
    return "\n".join(lines)


def _change_lines(changes: Sequence[Change], what: str = "changed") -> list[str]:
    if not changes:
        return [f"what else {what}: nothing that is recorded"]
    lines = [f"what else {what}:"]
    lines += [
        f"  {one.where}: {one.name} {fact(one.before, 32)} -> {fact(one.after, 32)}" for one in changes[:_SHOWN_CHANGES]
    ]
    if len(changes) > _SHOWN_CHANGES:
        lines.append(f"  and {len(changes) - _SHOWN_CHANGES} more")
    return lines
