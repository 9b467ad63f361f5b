"""The gate: after a test, compare its record with the baseline, decide whether the test fails, and store the record.

``hooks`` calls ``gate`` when the test's call ends, and fails the test with the message that it returns. It calls
``conclude`` when pytest has reported all phases of the test, since a record of a failed test is no baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from pytest_gpuperf.analysis.guard import unusable_report
from pytest_gpuperf.analysis.values import point_name
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import Comparison, Curve, Record, Verdict
from pytest_gpuperf.publish.comparison import UNCOMPARED, RecordToJudge, to_judge, with_verdict
from pytest_gpuperf.publish.judged_test import JudgedTest, without_runs
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.comparison_table import changed_or_undecided, point_label
from pytest_gpuperf.report.figures import interval_with_level
from pytest_gpuperf.report.summary import NOT_MEASURED, NOTHING_IN_COMMON, RecordLocation, failure_message, headline
from pytest_gpuperf.report.terminal.section import TerminalEntry, terminal_entry
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.duet.comparison import compare_sides, joined, reference_record
from pytest_gpuperf.session.duet.side import DuetSide, SideResult
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.store.unfinished import drop_copy, keep_copy

#: Resources that a load point uses, each where it can be measured.
_RESOURCES = ("gpu_energy_j", "cpu_energy_j", "target_memory_bytes", "device_memory_bytes", "host_memory_bytes")
_NOT_COMPARED = Comparison(Verdict.NO_BASELINE)


@dataclass(frozen=True)
class GateDecision:
    """Decision of the gate about a test, before its record is stored.

    Attributes:
        failure: Message with which the test fails; empty if it passes.
        properties: Names and values for JUnit and similar reports.
        record: What was measured; None if nothing was, or if it can't be compared.
        baseline: Records that it was compared with.
        reason: The failure in one line; empty for a regression, which the reports show themselves. Without a record:
            why nothing was measured.
        curves: Curves of the record.
        notes: Lines that the terminal shows whatever the verdict is.
        entry: The test's part of the terminal section, where a record of one side can't be compared.
        copy: Path of a copy of the record in the store, until the record is stored; empty without a copy.
        to_judge: What judges the record again at the end of the invocation; None for a duet, or a record cut short.
    """

    failure: str
    properties: tuple[tuple[str, str], ...] = ()
    record: Record | None = None
    comparison: Comparison = _NOT_COMPARED
    baseline: tuple[Record, ...] = ()
    reason: str = ""
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()
    entry: TerminalEntry | None = None
    copy: str = ""
    to_judge: RecordToJudge | None = None


@dataclass(frozen=True)
class Conclusion:
    """Result of a test after pytest has reported all of its phases.

    Attributes:
        entry: The test's part of the terminal section.
        outcome: What the reports at the end show; None where nothing was compared.
        problem: Why the record could not be stored; empty if it was.
        judged: What judges the test again at the end of the invocation.
    """

    entry: TerminalEntry
    outcome: TestOutcome | None = None
    problem: str = ""
    judged: JudgedTest | None = None


def gate(context: Context, measured_test: MeasuredTest, error: BaseException | None) -> GateDecision | None:
    """Compare what a test measured; None where there is nothing to decide.

    Args:
        error: Exception that ended the test's call.
    """
    record = measured_test.record() if measured_test.has_runs else None
    if context.duet_side is not None:
        return _gate_side(context, context.duet_side, measured_test, record, error)
    if record is None:
        return _nothing_measured(context, measured_test) if error is None and measured_test.enabled else None
    if measured_test.is_duet:
        return _decide(context, measured_test, record, reference=reference_record(record))
    return _decide(context, measured_test, record)


def conclude(context: Context, decision: GateDecision, error: str, expected_failure: str = "") -> Conclusion:
    """Store the record of a decision, and return what the terminal and the reports show.

    Args:
        error: Why pytest counts the test as failed, in one line; empty if it doesn't, or if the gate failed it.
        expected_failure: Why the failure was expected (pytest's xfail); empty if it was not.
    """
    if decision.record is None:
        assert decision.entry is not None
        return Conclusion(decision.entry)
    record = replace(decision.record, gate="failed") if error else decision.record
    location, problem = _store(context, record, decision.copy)
    entry = entry_of(record, decision.curves, decision.comparison, location, decision.notes)
    outcome = TestOutcome(
        record,
        decision.comparison,
        decision.baseline,
        location.path,
        location.option,
        "" if expected_failure else error or problem.partition("\n")[0] or decision.reason,
        expected_failure=expected_failure,
    )
    judged = None
    if decision.to_judge is not None:
        judged = JudgedTest(decision.to_judge, without_runs(decision.baseline), decision.notes)
    return Conclusion(entry, outcome, problem, judged)


def entry_of(
    record: Record, curves: Sequence[Curve], comparison: Comparison, location: RecordLocation, notes: Sequence[str]
) -> TerminalEntry:
    """Return a test's part of the terminal section.

    Args:
        notes: Lines that are shown whatever the verdict is.
    """
    entry = terminal_entry(record, curves, comparison, location)
    return replace(entry, full=[*entry.full, *notes], notes=[*entry.notes, *notes])


def summary_line(error: BaseException | None) -> str:
    """Return an exception in one line; empty for None."""
    return f"{type(error).__name__}: {error}".partition("\n")[0] if error is not None else ""


def _gate_side(
    context: Context, side: DuetSide, measured_test: MeasuredTest, record: Record | None, error: BaseException | None
) -> GateDecision | None:
    """Gate one side of ``gpuperf duet``: base gives its record to head, and head compares the two."""
    if isinstance(error, KeyboardInterrupt | pytest.exit.Exception):
        return None  # the user, or the command, ends this process
    result = side.exchange_records(measured_test.test, record, summary_line(error))
    if not side.is_head or (error is not None and record is None):
        return None
    if result.record is None or record is None:
        return _not_compared(context, side, measured_test.test, result)
    record = joined(record, result.record)
    return _decide(context, measured_test, record, reference=result.record)


def _not_compared(context: Context, side: DuetSide, test: str, result: SideResult) -> GateDecision:
    """Return the decision about one side alone: its windows are too short for a record of its own."""
    reason = result.reason or NOTHING_IN_COMMON
    side.notes.append(f"not compared: {test}: {reason}")
    return GateDecision(
        failure=_absent(context, f"{test} was not compared: {reason}"),
        properties=(("gpuperf_verdict", str(Verdict.NOT_COMPARABLE)),),
        entry=TerminalEntry(test, str(Verdict.NOT_COMPARABLE), f"NOT COMPARED: {reason}"),
    )


def _nothing_measured(context: Context, measured_test: MeasuredTest) -> GateDecision:
    """Return the decision about a test that used the fixture, did not fail, and measured nothing."""
    why = measured_test.unmeasured_reason or "it uses a measuring fixture, and called none of its methods"
    if measured_test.begun:
        names = ", ".join(measured_test.begun)
        why = f"the measurement of {names} ended before its first run, and the test ignored the error"
    return GateDecision(
        failure=_absent(context, f"{measured_test.test} measured nothing: {why}"),
        properties=(("gpuperf_verdict", NOT_MEASURED),),
        reason=why,
    )


def _decide(
    context: Context, measured_test: MeasuredTest, record: Record, *, reference: Record | None = None
) -> GateDecision:
    """Compare a record, and say what follows.

    Args:
        reference: Reference of a duet, as a record of its own.
    """
    baseline = measured_test.baseline
    assert baseline is not None
    comparison, judging = _NOT_COMPARED, None
    if record.status == "complete":
        rule = measured_test.rule(record)
        if reference is not None:
            comparison = compare_sides(record, reference, baseline, rule)
        else:
            judging = to_judge(record, baseline, rule)
            comparison = context.judge(record, judging)
            context.judged[record.test] = judging
    baseline_records = () if comparison.mode == "duet" else (*baseline.records, *baseline.pinned)
    record = context.store.dated(record)
    unusable = unusable_report((*record.runs, *record.reference))
    regressed = comparison.verdict is Verdict.REGRESSED
    # An undecided record joins the baseline even where it fails its test: only further records can decide.
    record = with_verdict(record, comparison, usable=not unusable)
    location = _location(context, context.store.path(record))
    failure = unusable and f"{record.test}: {unusable}\nthis record: {location.path}"
    failure = failure or failure_of(context, record, comparison, location, baseline_records)
    curves = tuple(sweep.curve for sweep in measured_test.sweeps if sweep.runs)
    return GateDecision(
        failure=failure,
        properties=tuple(_properties(record, comparison, curves)),
        record=record,
        comparison=comparison,
        baseline=baseline_records,
        reason="" if regressed and not unusable else failure.partition("\n")[0],
        curves=curves,
        notes=(
            *(f"  {note}" for note in measured_test.notes),
            *(f"  ! unreadable, left out of the baseline: {file_error}" for file_error in baseline.unreadable),
        ),
        copy=keep_copy(context.store, record),
        to_judge=judging,
    )


def failure_of(
    context: Context,
    record: Record,
    comparison: Comparison,
    location: RecordLocation,
    baseline_records: tuple[Record, ...],
) -> str:
    """Return the message with which a test fails whose figures can be used; empty if it passes."""
    inconclusive_fails = context.settings.fail_on_inconclusive and comparison.verdict is Verdict.INCONCLUSIVE
    if inconclusive_fails or comparison.verdict is Verdict.REGRESSED:
        return failure_message(record, comparison, location, baseline_records)
    if record.status != "complete":
        return _absent(context, f"{record.test}: the measurement was cut short, and the test ignored the error")
    if comparison.verdict in UNCOMPARED:
        return _absent(context, f"{record.test}: {headline(record, comparison)}")
    if dropped := dropped_points(record, baseline_records):
        names = "\n".join(f"  {name}" for name in dropped)
        return _absent(context, f"{record.test} no longer measures what its newest baseline record has:\n{names}")
    return ""


def dropped_points(record: Record, baseline: Sequence[Record]) -> list[str]:
    """Return the names of the load points that the newest baseline record keeps and this one lacks."""
    if not baseline or record.reference:
        return []
    newest, measured = baseline[0], record.load_points
    return [point_name(sweep, point) for sweep, point in newest.load_points_to_keep if (sweep, point) not in measured]


def _store(context: Context, record: Record, copy: str) -> tuple[RecordLocation, str]:
    """Store a record, and delete its copy; return where the record is, and why it can't be stored.

    The figures are shown all the same: a full disk doesn't lose what was measured.
    """
    try:
        location, problem = _location(context, context.store.write(record)), ""
    except StoreError as error:
        location, problem = RecordLocation("", context.settings.store_option), str(error)
    if copy:
        with suppress(StoreError):  # the next invocation deletes it
            drop_copy(context.store, copy)
    return location, problem


def _location(context: Context, path: str) -> RecordLocation:
    return RecordLocation(context.store.describe(path), context.settings.store_option)


def _absent(context: Context, statement: str) -> str:
    """Return the failure of a test that has nothing to be compared with; empty where that is allowed."""
    if not context.settings.require_baseline:
        return ""
    return f"{statement}\nThis fails the test because of --gpuperf-require-baseline."


def _properties(record: Record, comparison: Comparison, curves: Sequence[Curve]) -> list[tuple[str, str]]:
    properties = [
        ("gpuperf_verdict", str(comparison.verdict)),
        ("gpuperf_record", record.id),
        ("gpuperf_device", str(record.key.get("device", ""))),
    ]
    if comparison.inherited_from:
        properties.append(("gpuperf_inherited_since", comparison.inherited_since))
    changed = changed_or_undecided(comparison.rows)
    if changed:
        worst_row = changed[0]
        where = f"{worst_row.sweep}: {point_label(worst_row)}, {worst_row.metric}"
        properties.append(("gpuperf_worst", f"{where}, {interval_with_level(worst_row)}, {worst_row.verdict}"))
    for curve in curves:
        for point in curve:
            load = f"concurrency={point.concurrency}" if point.concurrency else f"rate={point.rate:g}"
            label = f"gpuperf {curve.name} {load} batch={point.batch_size}"
            quantiles = {"p50": point.p50_ns, "p90": point.p90_ns, "p99": point.p99_ns}
            properties += [(f"{label} {name}_ns", f"{latency_ns:.0f}") for name, latency_ns in quantiles.items()]
            properties.append((f"{label} throughput", f"{point.throughput:.3f}"))
            if rough := [name for name in quantiles if name not in point.supported]:
                properties.append((f"{label} too_few_requests_for", " ".join(rough)))
            resources = {name: getattr(point, name) for name in _RESOURCES}
            properties += [(f"{label} {name}", f"{used:.10g}") for name, used in resources.items() if used is not None]
    return properties
