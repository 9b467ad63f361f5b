"""After a test: build its record, compare it, store it, say what follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_gpuperf.analysis.compare import compare
from pytest_gpuperf.analysis.guard import error_report
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import Comparison, Curve, Record, Verdict
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.commands import store_option
from pytest_gpuperf.report.comparison_table import changed_or_undecided, point_label
from pytest_gpuperf.report.figures import interval
from pytest_gpuperf.report.summary import RecordLocation, failure_message, headline
from pytest_gpuperf.report.terminal.section import TerminalEntry, terminal_entry
from pytest_gpuperf.session.duet_comparison import REFERENCE, compared, joined, own_reference
from pytest_gpuperf.session.judge import rule_of
from pytest_gpuperf.session.measurement import Measurement

if TYPE_CHECKING:
    from pytest_gpuperf.session.duet_side import SideResult
    from pytest_gpuperf.session.state import State

#: What a load point takes, where that can be had.
_TAKEN = ("gpu_energy_j", "cpu_energy_j", "target_memory_bytes", "device_memory_bytes", "host_memory_bytes")
_ABSENT = (Verdict.NO_BASELINE, Verdict.NOT_COMPARABLE)


@dataclass(frozen=True)
class GateDecision:
    """What the gate has to say about one test.

    Attributes:
        failure: why the test fails; empty when it doesn't.
        shown: the test's part of the terminal section.
        properties: for JUnit and other reports, name and value.
        carried: for reports at the end; None where nothing was compared.
    """

    failure: str
    shown: TerminalEntry
    properties: tuple[tuple[str, str], ...]
    carried: TestOutcome | None = None


def conclude(state: State, measured: Measurement, *, error: str = "") -> GateDecision:
    """Compare and store what a test measured.

    Args:
        error: why the test failed by itself, so that its record can't become a baseline unasked; empty when it didn't.
    """
    record = measured.record()
    if measured.duet:
        reference = own_reference(record, measured)
        facts = {f"{sweep.name}{REFERENCE}": sweep.reference_under_test for sweep in measured.sweeps}
        record = replace(record, under_test={**record.under_test, **facts})
        comparison = _NOT_COMPARED
        if record.status == "complete":
            comparison = compared(state, measured, record, reference)
        return _outcome(state, measured, record, comparison, error=error)
    found = measured.baseline
    assert found is not None
    comparison = _NOT_COMPARED
    if record.status == "complete":
        rule = rule_of(state, measured.marker, measured.look_share)
        comparison = compare(record, found.records, rule, pinned=found.pinned, differing=found.differing)
    return _outcome(state, measured, record, comparison, error=error)


def conclude_head(state: State, measured: Measurement, other: SideResult, *, error: str = "") -> GateDecision:
    """The same for the head of ``gpuperf duet``, whose reference was measured by another process.

    Args:
        other: what that one has.
    """
    record = measured.record()
    if other.record is None or not record.runs:
        # Alone it says nothing, and as a record of its own it would be one of very short windows.
        why = other.why or "there is nothing that both sides measured"
        return GateDecision(
            failure=_absent(state, f"{measured.test} was not compared: {why}"),
            shown=TerminalEntry(measured.test, str(Verdict.NOT_COMPARABLE), f"NOT COMPARED: {why}"),
            properties=(("gpuperf_verdict", str(Verdict.NOT_COMPARABLE)),),
        )
    record = joined(record, other.record)
    comparison = _NOT_COMPARED
    if record.status == "complete":
        comparison = compared(state, measured, record, other.record)
    return _outcome(state, measured, record, comparison, error=error)


_NOT_COMPARED = Comparison(Verdict.NO_BASELINE)


def _outcome(
    state: State, measured: Measurement, record: Record, comparison: Comparison, *, error: str
) -> GateDecision:
    assert measured.baseline is not None
    duet = comparison.mode == "duet"
    baseline = () if duet else (*measured.baseline.records, *measured.baseline.pinned)
    stops = [Verdict.REGRESSED] + ([Verdict.INCONCLUSIVE] if state.settings.fail_on_inconclusive else [])
    gate_failed = comparison.verdict in stops
    errors = error_report((*record.runs, *record.reference))
    # An undecided record joins the baseline even where it fails its test: only more records can decide.
    kept_out = bool(error) or bool(errors) or comparison.verdict is Verdict.REGRESSED
    gate = "failed" if kept_out else "open" if comparison.verdict in _ABSENT else "passed"
    record = replace(record, gate=gate)
    failure = ""
    try:
        path = state.store.describe(state.store.write(record))
    except StoreError as problem:
        # The numbers are still shown: what was measured is not lost with the place to put it.
        path, failure = "", str(problem)
    location = RecordLocation(path, "" if state.settings.default_store else store_option(state.settings.store))
    if errors and not failure:
        failure = f"{record.test}: too many requests failed\n{errors}\nthis record: {path}"
    elif gate_failed and not failure:
        failure = failure_message(record, comparison, location, baseline)
    elif record.status == "complete" and comparison.verdict in _ABSENT and not failure:
        failure = _absent(state, f"{record.test}: {headline(record, comparison)}")
    why = error or ("" if comparison.verdict is Verdict.REGRESSED and not errors else failure)
    shown = terminal_entry(record, _curves(measured), comparison, location)
    warnings = [f"  ! unreadable, left out of the baseline: {one}" for one in measured.baseline.unreadable]
    return GateDecision(
        failure=failure,
        shown=replace(shown, full=[*shown.full, *warnings], notes=[*shown.notes, *warnings]),
        properties=tuple(_properties(record, comparison, measured)),
        carried=TestOutcome(record, comparison, path, location.option, why.partition("\n")[0]),
    )


def _absent(state: State, what: str) -> str:
    """The failure of a test that has nothing to be compared with; empty where that is allowed."""
    if not state.settings.require_baseline:
        return ""
    return f"{what}\nThis fails the test because of --gpuperf-require-baseline."


def _curves(measured: Measurement) -> list[Curve]:
    return [sweep.curve for sweep in measured.sweeps if sweep.runs]


def _properties(record: Record, comparison: Comparison, measured: Measurement) -> list[tuple[str, str]]:
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
    for curve in _curves(measured):
        for point in curve:
            load = f"concurrency={point.concurrency}" if point.concurrency else f"rate={point.rate:g}"
            label = f"gpuperf {curve.name} {load} batch={point.batch_size}"
            told = {"p50": point.p50_ns, "p90": point.p90_ns, "p99": point.p99_ns}
            properties += [(f"{label} {name}_ns", f"{one:.0f}") for name, one in told.items()]
            properties.append((f"{label} throughput", f"{point.throughput:.3f}"))
            if rough := [name for name in told if name not in point.supported]:
                properties.append((f"{label} too_few_requests_for", " ".join(rough)))
            taken = {name: getattr(point, name) for name in _TAKEN}
            properties += [(f"{label} {name}", f"{one:.10g}") for name, one in taken.items() if one is not None]
    return properties
