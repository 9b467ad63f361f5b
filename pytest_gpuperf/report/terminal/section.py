"""The terminal section at the end of pytest: short unless ``-v`` is given, and at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_gpuperf.model import Comparison, Curve, Record, ReportedTest, Verdict
from pytest_gpuperf.report.comparison_table import changed_or_undecided, row_table, tally
from pytest_gpuperf.report.figures import cut, dated, plural
from pytest_gpuperf.report.inherited import accept_lines
from pytest_gpuperf.report.noise import NoiseDiagnosis, NoiseSigns, diagnose, noise_signs, undecided_lines
from pytest_gpuperf.report.notes import (
    comparison_notes,
    few_requests_notes,
    interference_notes,
    interval_notes,
    reliability_notes,
    rounds_notes,
)
from pytest_gpuperf.report.summary import (
    NOT_MEASURED,
    RecordLocation,
    curve_table,
    headline,
    indented,
    record_lines,
    waiting_notes,
    warnings,
)

#: Up to this many tests, every test is shown; beyond it, only tests that need attention.
FEW = 3
_MAX_ROWS = 5
_MAX_FINDINGS = 3
_MAX_NAMES = 8
_COLUMNS = ("short point", "short metric", "before", "now", "short change", "verdict")
_COLOURS = {"regressed": "red", "improved": "green", "unchanged": "green"}
_PASSED = (str(Verdict.UNCHANGED),)
_UNCOMPARED = (str(Verdict.NO_BASELINE), str(Verdict.NOT_COMPARABLE), NOT_MEASURED)


@dataclass(frozen=True)
class TerminalEntry:
    """The lines of a test in the terminal section.

    Attributes:
        full: All lines, for ``-v``.
        brief: Lines on what changed or could not be decided.
        findings: Lines on what disturbed the measurement.
        notes: Lines that are shown in any case.
        footnotes: Lines below all tests, each once.
        noise: What the test shows of the noise of its invocation; None where nothing was compared.
    """

    test: str
    verdict: str
    headline: str
    full: list[str] = field(default_factory=list)
    brief: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    noise: NoiseSigns | None = None

    @property
    def colour(self) -> str:
        return _COLOURS.get(self.verdict, "yellow")

    @property
    def summary(self) -> str:
        """The largest change, if that is all to show of an undecided test where most tests are undecided."""
        return self.noise.summary if self.noise and not self.notes else ""

    @property
    def uncompared(self) -> bool:
        """Whether there was nothing to compare with."""
        return self.verdict in _UNCOMPARED


def terminal_entry(
    record: Record, curves: Sequence[Curve], comparison: Comparison, location: RecordLocation
) -> TerminalEntry:
    """Return the lines of a test."""
    verdict = str(comparison.verdict) if record.status == "complete" else "cut short"
    return TerminalEntry(
        record.test,
        verdict,
        headline(record, comparison),
        full=record_lines(record, curves, comparison, location),
        brief=_brief(record, curves, comparison, location),
        findings=_findings(record, curves),
        notes=_notes(record, comparison, location.option),
        footnotes=interval_notes(comparison),
        noise=noise_signs(record, comparison),
    )


def unmeasured_entry(test: str, reason: str) -> TerminalEntry:
    """Return the lines of a test that measured nothing."""
    return TerminalEntry(test, NOT_MEASURED, f"NOT MEASURED: {reason}")


def _brief(record: Record, curves: Sequence[Curve], comparison: Comparison, location: RecordLocation) -> list[str]:
    """Return what changed or could not be decided; without a baseline, the figures themselves."""
    rows = changed_or_undecided(comparison.rows)
    lines: list[str] = []
    for curve in curves:
        sweep_rows = [row for row in rows if row.sweep == curve.name]
        if len(curves) > 1 and (sweep_rows or not comparison.rows):
            lines.append(f"  {curve.name}")
        if not comparison.rows:
            lines += curve_table(curve, ()).as_text("  ")
        elif sweep_rows:
            lines += row_table(sweep_rows[:_MAX_ROWS], _COLUMNS, duet=comparison.mode == "duet").as_text("  ")
        if len(sweep_rows) > _MAX_ROWS:
            lines.append(f"  and {plural(len(sweep_rows) - _MAX_ROWS, 'more row')}, none worse")
    notes = comparison_notes(comparison, record, brief=True)
    lines += indented([*notes, *accept_lines(comparison, location.option)])
    if comparison.left_out:
        count = plural(len(comparison.left_out), "gated figure")
        lines.append(f"  {count} not compared: too few requests in a run, or no value (-v: which)")
    rounds = indented([note for curve in curves for note in rounds_notes(curve)])
    if comparison.rows:
        return [*lines, *rounds] if comparison.left_out else lines
    return [*lines, *rounds, *indented(few_requests_notes(point for curve in curves for point in curve)), location.line]


def _findings(record: Record, curves: Sequence[Curve]) -> list[str]:
    reliability = [note for curve in curves for note in reliability_notes(curve)]
    lines = warnings([*reliability, *interference_notes(record, by_load_point=False)])
    hidden = len(lines) - _MAX_FINDINGS
    if hidden > 0:
        lines = [*lines[:_MAX_FINDINGS], f"  ! and {plural(hidden, 'more finding')}"]
    return lines


def _notes(record: Record, comparison: Comparison, option: str) -> list[str]:
    lines = indented(waiting_notes(record, comparison, option))
    if comparison.verdict is Verdict.UNCHANGED:  # shows no brief lines, but a missing load point must be noticed
        lines += indented(comparison_notes(comparison, record, brief=True))
    return lines


def section(entries: Sequence[TerminalEntry], verbosity: int) -> list[tuple[str, str]]:
    """Return lines with their colours (empty, ``bold``, ``red``, ``green`` or ``yellow``).

    Args:
        verbosity: Verbosity of pytest: above 0 shows everything, 0 what a reader needs, below 0 a single line.
    """
    if verbosity < 0:
        return [(verdict_counts(entries), "")] if entries else []
    few, full = len(entries) <= FEW, verbosity > 0
    diagnosis = diagnose([entry.noise for entry in entries])
    summarized = [entry for entry in entries if diagnosis and entry.summary]
    lines = _diagnosis_lines(diagnosis, [] if full else summarized) if diagnosis else []
    shown = entries if full else [entry for entry in entries if entry not in summarized]
    for entry in shown:
        passed = entry.verdict in _PASSED
        notes = entry.notes if diagnosis and passed else [*entry.findings, *entry.notes]
        if not (full or few) and (entry.uncompared or passed) and not notes:
            continue
        # In a new store many tests lack a baseline; their figures would fill the screen.
        brief = [] if passed or (entry.uncompared and not few) else entry.brief
        lines += [(entry.test, "bold"), (f"  {entry.headline}", entry.colour)]
        lines += [(line, "") for line in (entry.full if full else [*brief, *notes])]
    if not (full or few):
        lines += _grouped_by_headline([e for e in entries if e.uncompared and not (e.findings or e.notes)])
    lines += [(line, "") for line in dict.fromkeys(line for entry in shown for line in entry.footnotes)]
    lines.append((verdict_counts(entries), "bold"))
    if not full:
        lines.append(("for all figures: gpuperf report, or pytest -v", ""))
    return lines


def _diagnosis_lines(diagnosis: NoiseDiagnosis, entries: Sequence[TerminalEntry]) -> list[tuple[str, str]]:
    texts = [*diagnosis.sentences, *undecided_lines({entry.test: entry.summary for entry in entries})]
    return [(diagnosis.title, "yellow"), *((f"  {text}", "") for text in texts)]


def _grouped_by_headline(uncompared: Sequence[TerminalEntry]) -> list[tuple[str, str]]:
    tests_by_headline: dict[str, list[str]] = {}
    for entry in uncompared:
        tests_by_headline.setdefault(entry.headline, []).append(entry.test)
    lines = []
    for text, tests in tests_by_headline.items():
        lines.append((f"{text} ({plural(len(tests), 'test')})", "yellow"))
        lines += [(f"  {line}", "") for line in cut(tests, _MAX_NAMES)]
    return lines


def verdict_counts(entries: Sequence[TerminalEntry]) -> str:
    """Return how often each verdict occurs."""
    return tally((entry.verdict for entry in entries), "test")


def full_lines(reported: Sequence[ReportedTest]) -> list[str]:
    """Return everything about stored records, as ``-v`` shows it."""
    if not reported:
        return ["nothing measured"]
    lines: list[str] = []
    entries = []
    for test in reported:
        record, location = test.record, RecordLocation(test.path, test.store_option)
        entry = terminal_entry(record, test.curves, test.comparison, location)
        entries.append(entry)
        lines += [entry.test, f"  {entry.headline}", *entry.full]
        lines.append(f"  record {record.id} of {dated(record.created_utc, record.commit)}")
    diagnosis = diagnose([entry.noise for entry in entries])
    above = [line for line, _ in _diagnosis_lines(diagnosis, [])] if diagnosis else []
    footnotes = dict.fromkeys(line for entry in entries for line in entry.footnotes)
    return [*above, *lines, *footnotes, verdict_counts(entries)]
