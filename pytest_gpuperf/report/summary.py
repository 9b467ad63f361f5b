"""The results of a test as lines: its part of the terminal section, and the message of a failed gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import MERGE_BASE, START, Change, Comparison, Curve, Record, Row, Verdict
from pytest_gpuperf.report.comparison_table import (
    change_title,
    deciding_row,
    row_table,
    short_load,
    short_metric,
    worst_first,
)
from pytest_gpuperf.report.figures import (
    cut,
    dated,
    fact,
    marked,
    metric_unit,
    plural,
    rate,
    short_interval,
    three_digits,
)
from pytest_gpuperf.report.inherited import accept_lines, inherited_notes, since_commit
from pytest_gpuperf.report.notes import (
    comparison_notes,
    curve_notes,
    endpoint_table,
    few_requests_notes,
    interference_notes,
    interval_notes,
    joins_baseline,
    reliability_notes,
)
from pytest_gpuperf.report.starts import start_notes
from pytest_gpuperf.report.table import Table

_QUANTILES = ("p50", "p90", "p99")
_MAX_CHANGES = 6
_MAX_ROWS = 12
#: In place of a verdict, for a test without figures.
NOT_MEASURED = "not measured"
REJECTED = "the test failed, so this record is not used as a baseline"
#: When a suspect record joins the baseline, up to how somebody may accept it.
WAITS = "The record joins the baseline after a later one that is unchanged or improved, or"
NOTHING_IN_COMMON = "candidate and reference measured nothing in common"


@dataclass(frozen=True)
class RecordLocation:
    """Place of a record in the store.

    Attributes:
        path: File or URL of the record; empty if it could not be stored.
        option: Option that selects the store in the ``gpuperf`` command; empty for the default store.
    """

    path: str
    option: str = ""

    @property
    def line(self) -> str:
        return f"  stored as {self.path}" if self.path else "  not stored"


def curve_table(curve: Curve, rows: Sequence[Row]) -> Table:
    """Return load points with latencies, throughput and, if there are rows, the change that decides the verdict."""
    batches = any(point.batch_size != 1 for point in curve)
    scale, unit = metric_unit("latency", max((point.p50_ns for point in curve), default=1e6))
    table = []
    for point in curve:
        point_rows = [row for row in rows if row.sweep == curve.name and row.point == point.load]
        figures = (marked(point, name, three_digits(getattr(point, f"{name}_ns") / scale)) for name in _QUANTILES)
        cells = (short_load(point, batch=batches), *figures, rate(point.throughput))
        table.append(cells + (_verdict_cells(point_rows) if rows else ()))
    for title, label in ((None, "all"), (START, START.label)):
        more_rows = [row for row in rows if row.sweep == curve.name and row.point == title]
        if more_rows:
            table.append((label, *("",) * (len(_QUANTILES) + 1), *_verdict_cells(more_rows)))
    kind = "conc" if all(point.concurrency for point in curve) else "load"
    titles = (f">{kind} x b" if batches else f">{kind}", f">p50 {unit}", ">p90", ">p99", ">inf/s")
    return Table(titles + ((change_title(rows), "verdict") if rows else ()), tuple(table))


def _verdict_cells(rows: Sequence[Row]) -> tuple[str, str]:
    row = deciding_row(rows)
    if row is None:
        return "", str(Verdict.NO_BASELINE)
    return f"{short_metric(row.metric)} {short_interval(row)}", str(row.verdict)


def record_lines(
    record: Record, curves: Sequence[Curve], comparison: Comparison, location: RecordLocation
) -> list[str]:
    """Return the part of the terminal section that belongs to a test, without its headline."""
    lines = []
    for curve in curves:
        if len(curves) > 1:
            lines.append(f"  {curve.name}")
        lines += curve_table(curve, comparison.rows).as_text("  ")
        lines += warnings(reliability_notes(curve))
        lines += indented([*start_notes(record.runs, curve.name), *curve_notes(curve)])
        table = endpoint_table(curve)
        lines += table.as_text("  ") if table else []
    lines += indented(few_requests_notes(point for curve in curves for point in curve))
    lines += warnings(interference_notes(record))
    lines += indented(comparison_notes(comparison, record))
    notes = [*waiting_notes(record, comparison, location.option), *accept_lines(comparison, location.option)]
    return [*lines, *indented(notes), location.line]


def indented(notes: Sequence[str]) -> list[str]:
    return [f"  {note}" for note in notes]


def warnings(notes: Sequence[str]) -> list[str]:
    return [f"  ! {note}" for note in notes]


def suspicion(comparison: Comparison) -> str:
    """Return why a record is suspect, as what follows its name."""
    if comparison.common and not any(row.p_value <= comparison.alpha for row in comparison.rows):
        return "belongs to an invocation in which all tests may have become slower"
    return "looks like a regression, but not with certainty"


def suspect_note(comparison: Comparison) -> str:
    """Return why a record is suspect, and what it waits for."""
    return f"suspect: this {suspicion(comparison)}. {WAITS} if you accept it"


def rejection_notes(record: Record, comparison: Comparison) -> list[str]:
    """Say that a record joins no baseline, unless its verdict says so."""
    if record.gate == "suspect" and record.status == "complete":
        return [suspect_note(comparison)]
    rejected = record.gate == "failed" and record.status == "complete"
    return [REJECTED] if rejected and comparison.verdict is not Verdict.REGRESSED else []


def waiting_notes(record: Record, comparison: Comparison, option: str) -> list[str]:
    """Say that a record joins no baseline, and for a suspect one with which command it does.

    Args:
        option: Option that selects the store in the ``gpuperf`` command.
    """
    command = [f'  gpuperf baseline accept {record.id}{option} --reason "..."'] if record.gate == "suspect" else []
    return [*rejection_notes(record, comparison), *command]


def headline(record: Record, comparison: Comparison) -> str:
    """Return what happened, in one line."""
    duet = comparison.mode == "duet"
    count = plural(max((run.index + 1 for run in record.runs), default=0), "block" if duet else "run")
    if not record.runs:
        return "nothing was measured"
    if record.status == "incomplete":
        return f"measurement cut short after {count}; stored, but never used as a baseline"
    nothing = comparison.verdict in (Verdict.NOT_COMPARABLE, Verdict.NO_BASELINE)
    if duet:
        different = comparison.verdict is Verdict.NOT_COMPARABLE
        keys = "NOT COMPARABLE: candidate and reference have different keys"
        why = keys if different else f"NOT COMPARED: {NOTHING_IN_COMMON}"
        return why if nothing else f"{comparison.verdict}: candidate against reference in {count}"
    if nothing:
        new_key = comparison.verdict is Verdict.NOT_COMPARABLE or comparison.differing is not None
        return f"NO BASELINE {'with this key' if new_key else 'yet'}: {count}, nothing to compare with"
    baseline = plural(len(comparison.baseline), "baseline record")
    if comparison.verdict is Verdict.INHERITED:
        return f"INHERITED{since_commit(comparison)}: {count} regressed, and so has the merge base"
    suspect = ", suspect" if record.gate == "suspect" else ""
    return f"{comparison.verdict}{suspect}: {count} compared with {baseline}"


def failure_message(
    record: Record, comparison: Comparison, location: RecordLocation, baseline: Sequence[Record]
) -> str:
    """Return which points regressed, by how much, compared with what, and what to do."""
    regressed = worst_first(comparison.of(Verdict.REGRESSED))
    shown = regressed or worst_first(comparison.of(Verdict.INCONCLUSIVE))
    what = "regressed" if regressed else "is inconclusive"
    option = "" if regressed else " (--gpuperf-on-inconclusive fail)"
    duet = comparison.mode == "duet"
    columns = ["point", "metric", "before", "now", "change", "p"]
    columns += ["against"] if MERGE_BASE in {row.against for row in shown} else []
    table = row_table(shown[:_MAX_ROWS], columns, duet=duet)
    against = "its reference" if duet else plural(len({each.id for each in baseline}), "baseline record")
    lines = [f"{record.test} {what} compared with {against}{option}", *table.as_text("  ")]
    if len(shown) > _MAX_ROWS:
        lines.append(f"  and {plural(len(shown) - _MAX_ROWS, 'more row')}")
    lines += interval_notes(comparison) + comparison_notes(comparison, record, brief=True)
    if duet:
        return "\n".join([*lines, *_change_lines(comparison.changes, "differs"), f"this record: {location.path}"])
    newest = baseline[0]
    lines.append(f"newest baseline record: {newest.id} of {dated(newest.created_utc, newest.commit)}")
    lines += inherited_notes(comparison)
    lines += _change_lines(comparison.changes)
    lines.append(f"this record: {location.path}")
    if regressed:
        lines.append("if this change is intended, accept it as the new baseline:")
        lines.append(f'  gpuperf baseline accept {record.id}{location.option} --reason "..."')
    elif joins_baseline(record, comparison):
        lines.append("this record joins the baseline; run the test again, since more records detect smaller changes")
    else:
        lines.append("this record does not join the baseline unless it is accepted")
    return "\n".join(lines)


def _change_lines(changes: Sequence[Change], what: str = "changed") -> list[str]:
    if not changes:
        return [f"what else {what}: nothing that is recorded"]
    lines = [
        f"  {change.where}: {change.name} {fact(change.before, 32)} -> {fact(change.after, 32)}" for change in changes
    ]
    return [f"what else {what}:", *cut(lines, _MAX_CHANGES, "  ")]
