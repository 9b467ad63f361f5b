"""The terminal's section at the end of pytest: short unless asked otherwise, and no wider than 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_gpuperf.model import Comparison, Curve, Record, ReportedTest, Verdict
from pytest_gpuperf.report.comparison_table import changed_or_undecided, row_table, tally
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.report.notes import comparison_notes, interference_notes, reliability_notes
from pytest_gpuperf.report.summary import RecordLocation, curve_table, headline, indented, record_lines, warnings

#: Up to so many tests somebody is at work on them, and wants a word about each; beyond that only what needs one.
FEW = 3
_ROWS = 5
_FINDINGS = 3
_NAMES = 8
_COLUMNS = ("short point", "short metric", "before", "now", "short change", "verdict")
_COLOURS = {"regressed": "red", "improved": "green", "unchanged": "green"}
_SILENT = (str(Verdict.UNCHANGED),)
_BARE = (str(Verdict.NO_BASELINE), str(Verdict.NOT_COMPARABLE))


@dataclass(frozen=True)
class TerminalEntry:
    """What the terminal says of one test.

    Attributes:
        full: all of it, for ``-v``.
        brief: what changed or could not be decided.
        notes: what has to be said in any case.
    """

    test: str
    verdict: str
    headline: str
    full: list[str] = field(default_factory=list)
    brief: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def colour(self) -> str:
        return _COLOURS.get(self.verdict, "yellow")

    @property
    def uncompared(self) -> bool:
        """There was nothing to compare with."""
        return self.verdict in _BARE


def terminal_entry(
    record: Record, curves: Sequence[Curve], comparison: Comparison, location: RecordLocation
) -> TerminalEntry:
    """What to say of a test."""
    return TerminalEntry(
        test=record.test,
        verdict=str(comparison.verdict) if record.status == "complete" else "cut short",
        headline=headline(record, comparison),
        full=record_lines(record, curves, comparison, location),
        brief=_brief(curves, comparison, location),
        notes=_notes(record, curves, comparison),
    )


def _brief(curves: Sequence[Curve], comparison: Comparison, location: RecordLocation) -> list[str]:
    """What changed or could not be decided; without a baseline that is the figures themselves."""
    rows = changed_or_undecided(comparison.rows)
    lines: list[str] = []
    for curve in curves:
        own = [row for row in rows if row.sweep == curve.name]
        if len(curves) > 1 and (own or not comparison.rows):
            lines.append(f"  {curve.name}")
        if not comparison.rows:
            lines += curve_table(curve, ()).as_text("  ")
        elif own:
            lines += row_table(own[:_ROWS], _COLUMNS, duet=comparison.mode == "duet").as_text("  ")
        if len(own) > _ROWS:
            lines.append(f"  and {len(own) - _ROWS} more rows, none worse")
    lines += indented(comparison_notes(comparison))
    if comparison.left_out:
        count = plural(len(comparison.left_out), "gated figure")
        lines.append(f"  {count} not compared: too few requests, or no value (see -v)")
    return lines if comparison.rows else [*lines, location.line]


def _notes(record: Record, curves: Sequence[Curve], comparison: Comparison) -> list[str]:
    found = warnings([*(note for curve in curves for note in reliability_notes(curve)), *interference_notes(record)])
    more = len(found) - _FINDINGS
    lines = found[:_FINDINGS] + ([f"  ! and {plural(more, 'more finding')}"] if more > 0 else [])
    # Nothing changed of what both have measured: a load point that is gone must not go unnoticed.
    return lines + (indented(comparison_notes(comparison)) if comparison.verdict is Verdict.UNCHANGED else [])


def section(shown: Sequence[TerminalEntry], verbosity: int) -> list[tuple[str, str]]:
    """Lines and their colour (empty, ``bold``, ``red``, ``green`` or ``yellow``).

    Args:
        verbosity: pytest's: above 0 everything, 0 what a reader needs, below 0 one line.
    """
    if verbosity < 0:
        return [(verdict_counts(shown), "")] if shown else []
    lines: list[tuple[str, str]] = []
    few, full = len(shown) <= FEW, verbosity > 0
    for one in shown:
        silent = one.verdict in _SILENT
        if not (full or few) and (one.uncompared or silent) and not one.notes:
            continue
        # PageCharts of tests without a baseline are many where the store is new.
        brief = [] if silent or (one.uncompared and not few) else one.brief
        lines += [(one.test, "bold"), (f"  {one.headline}", one.colour)]
        lines += [(line, "") for line in (one.full if full else [*brief, *one.notes])]
    if not (full or few):
        lines += _grouped_by_headline([one for one in shown if one.uncompared and not one.notes])
    lines.append((verdict_counts(shown), "bold"))
    if not full:
        lines.append(("for all figures: gpuperf report, or pytest -v", ""))
    return lines


def _grouped_by_headline(uncompared: Sequence[TerminalEntry]) -> list[tuple[str, str]]:
    """Many tests with nothing to compare with, by what is said of them."""
    said: dict[str, list[str]] = {}
    for one in uncompared:
        said.setdefault(one.headline, []).append(one.test)
    lines = []
    for text, tests in said.items():
        lines.append((f"{text} ({plural(len(tests), 'test')})", "yellow"))
        lines += [(f"  {test}", "") for test in tests[:_NAMES]]
        if len(tests) > _NAMES:
            lines.append((f"  and {len(tests) - _NAMES} more", ""))
    return lines


def verdict_counts(shown: Sequence[TerminalEntry]) -> str:
    """The counts of all verdicts."""
    return tally((one.verdict for one in shown), "test")


def full_lines(reported: Sequence[ReportedTest]) -> list[str]:
    """Everything about stored records, as ``-v`` shows it."""
    if not reported:
        return ["nothing measured"]
    lines: list[str] = []
    every = [
        terminal_entry(one.record, one.curves, one.comparison, RecordLocation(one.path, one.store_option))
        for one in reported
    ]
    for one, shown in zip(reported, every, strict=True):
        record = one.record
        commit = f", commit {record.commit[:8]}" if record.commit else ""
        lines += [shown.test, f"  {shown.headline}", *shown.full]
        lines.append(f"  record {record.id} of {record.created_utc[:16].replace('T', ' ')} UTC{commit}")
    return [*lines, verdict_counts(every)]
