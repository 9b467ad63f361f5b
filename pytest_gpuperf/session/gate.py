"""The gate: after a test, compare its record with the baseline, store it, and decide whether the test fails.

``hooks`` calls ``gate``, and fails the test with the message that it returns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from pytest_gpuperf.analysis.guard import error_report
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import Comparison, Curve, Record, Verdict
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.commands import store_option
from pytest_gpuperf.report.comparison_table import changed_or_undecided, point_label
from pytest_gpuperf.report.figures import interval
from pytest_gpuperf.report.summary import NOTHING_IN_COMMON, RecordLocation, failure_message, headline
from pytest_gpuperf.report.terminal.section import TerminalEntry, terminal_entry
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.duet_comparison import compare_sides, joined, reference_record
from pytest_gpuperf.session.duet_side import DuetSide, SideResult
from pytest_gpuperf.session.measured_test import MeasuredTest

#: Resources that a load point uses, each where it can be measured.
_RESOURCES = ("gpu_energy_j", "cpu_energy_j", "target_memory_bytes", "device_memory_bytes", "host_memory_bytes")
_ABSENT = (Verdict.NO_BASELINE, Verdict.NOT_COMPARABLE)
_NOT_COMPARED = Comparison(Verdict.NO_BASELINE)


@dataclass(frozen=True)
class GateDecision:
    """Decision of the gate about a test.

    Attributes:
        failure: Message with which the test fails; empty if it passes.
        entry: The test's part of the terminal section.
        properties: Names and values for JUnit and similar reports.
        outcome: What the reports at the end show; None where nothing was compared.
    """

    failure: str
    entry: TerminalEntry
    properties: tuple[tuple[str, str], ...]
    outcome: TestOutcome | None = None


def gate(context: Context, measured_test: MeasuredTest, error: BaseException | None) -> GateDecision | None:
    """Compare and store what a test measured; None for a test that measured nothing.

    Args:
        error: Exception that ended the test; its record joins a baseline only if the user accepts it.
    """
    record = measured_test.record() if measured_test.has_runs else None
    if context.duet_side is not None:
        return _gate_side(context, context.duet_side, measured_test, record, error)
    if record is None:
        reason = measured_test.unmeasured_reason
        return _unmeasured(context, measured_test.test, reason) if reason and error is None else None
    if measured_test.is_duet:
        return _decide(context, measured_test, record, error, reference=reference_record(record))
    return _decide(context, measured_test, record, error)


def _unmeasured(context: Context, test: str, reason: str) -> GateDecision:
    """Return the decision about a test that passed without measuring."""
    return GateDecision(
        failure=_absent(context, f"{test} was not measured: {reason}"),
        entry=TerminalEntry(test, str(Verdict.NOT_COMPARABLE), f"NOT MEASURED: {reason}"),
        properties=(("gpuperf_verdict", str(Verdict.NOT_COMPARABLE)),),
    )


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
        return _not_compared(context, measured_test.test, result)
    record = joined(record, result.record)
    return _decide(context, measured_test, record, error, reference=result.record)


def _not_compared(context: Context, test: str, result: SideResult) -> GateDecision:
    """Return the decision about one side alone: its windows are too short for a record of its own."""
    reason = result.reason or NOTHING_IN_COMMON
    return GateDecision(
        failure=_absent(context, f"{test} was not compared: {reason}"),
        entry=TerminalEntry(test, str(Verdict.NOT_COMPARABLE), f"NOT COMPARED: {reason}"),
        properties=(("gpuperf_verdict", str(Verdict.NOT_COMPARABLE)),),
    )


def _decide(
    context: Context,
    measured_test: MeasuredTest,
    record: Record,
    error: BaseException | None,
    *,
    reference: Record | None = None,
) -> GateDecision:
    """Compare a record, store it with what the gate decided, and say what follows.

    Args:
        reference: Reference of a duet, as a record of its own.
    """
    baseline = measured_test.baseline
    assert baseline is not None
    comparison = _NOT_COMPARED
    if record.status == "complete":
        rule = measured_test.rule(record)
        if reference is not None:
            comparison = compare_sides(record, reference, baseline, rule)
        else:
            comparison = compare_record(record, baseline, rule)
    baseline_records = () if comparison.mode == "duet" else (*baseline.records, *baseline.pinned)
    record = context.store.dated(record)
    errors = error_report((*record.runs, *record.reference))
    # An undecided record joins the baseline even where it fails its test: only further records can decide.
    kept_out = error is not None or bool(errors) or comparison.verdict is Verdict.REGRESSED
    record = replace(record, gate="failed" if kept_out else "open" if comparison.verdict in _ABSENT else "passed")
    location, failure = _store(context, record)
    if not failure:
        failure = _failure(context, record, comparison, location, baseline_records)
    reason = summary_line(error) or ("" if comparison.verdict is Verdict.REGRESSED and not errors else failure)
    curves = [sweep.curve for sweep in measured_test.sweeps if sweep.runs]
    entry = terminal_entry(record, curves, comparison, location)
    warnings = [f"  ! unreadable, left out of the baseline: {file_error}" for file_error in baseline.unreadable]
    return GateDecision(
        failure=failure,
        entry=replace(entry, full=[*entry.full, *warnings], notes=[*entry.notes, *warnings]),
        properties=tuple(_properties(record, comparison, curves)),
        outcome=TestOutcome(
            record, comparison, baseline_records, location.path, location.option, reason.partition("\n")[0]
        ),
    )


def _failure(
    context: Context,
    record: Record,
    comparison: Comparison,
    location: RecordLocation,
    baseline_records: tuple[Record, ...],
) -> str:
    """Return the message with which a test fails; empty if it passes."""
    if errors := error_report((*record.runs, *record.reference)):
        return f"{record.test}: too many requests failed\n{errors}\nthis record: {location.path}"
    inconclusive_fails = context.settings.fail_on_inconclusive and comparison.verdict is Verdict.INCONCLUSIVE
    if inconclusive_fails or comparison.verdict is Verdict.REGRESSED:
        return failure_message(record, comparison, location, baseline_records)
    if record.status == "complete" and comparison.verdict in _ABSENT:
        return _absent(context, f"{record.test}: {headline(record, comparison)}")
    return ""


def _store(context: Context, record: Record) -> tuple[RecordLocation, str]:
    """Store a record; return where it is, and the failure if it can't be stored.

    The figures are shown all the same: a full disk doesn't lose what was measured.
    """
    option = "" if context.settings.default_store else store_option(context.settings.store)
    try:
        return RecordLocation(context.store.describe(context.store.write(record)), option), ""
    except StoreError as error:
        return RecordLocation("", option), str(error)


def _absent(context: Context, statement: str) -> str:
    """Return the failure of a test that has nothing to be compared with; empty where that is allowed."""
    if not context.settings.require_baseline:
        return ""
    return f"{statement}\nThis fails the test because of --gpuperf-require-baseline."


def _properties(record: Record, comparison: Comparison, curves: list[Curve]) -> list[tuple[str, str]]:
    properties = [
        ("gpuperf_verdict", str(comparison.verdict)),
        ("gpuperf_record", record.id),
        ("gpuperf_device", str(record.key.get("device", ""))),
    ]
    changed = changed_or_undecided(comparison.rows)
    if changed:
        worst_row = changed[0]
        where = f"{worst_row.sweep}: {point_label(worst_row)}, {worst_row.metric}"
        properties.append(("gpuperf_worst", f"{where}, {interval(worst_row)}, {worst_row.verdict}"))
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
