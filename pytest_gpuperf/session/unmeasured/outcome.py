"""Outcome of a test without figures. A report that leaves such a test out looks green."""

from __future__ import annotations

from pytest_gpuperf.model import Comparison, Record, Verdict
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.terminal.section import unmeasured_entry
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.ids.test_id import file_of
from pytest_gpuperf.session.phase_result import PhaseResult
from pytest_gpuperf.store.provenance import utc_now


def unmeasured_result(
    context: Context, test: str, reason: str, *, file: str = "", line: int = 0, failed: bool = True
) -> PhaseResult:
    """Return the result of a test that has no figures.

    Args:
        test: Node id of the test, or of the file that could not be collected.
        reason: Why it has none, in one line.
        failed: Whether pytest counts it as failed.
    """
    device = context.devices.of(test)[0]
    record = Record(
        id="",
        invocation=context.invocation,
        test=test,
        created_utc=utc_now(),
        key={**device.key, "test": test},
        status="incomplete",
        gate="failed" if failed else "open",
        runs=(),
        commit=context.checkout.commit,
        environment=device.environment,
        device_kind=device.kind,
    )
    outcome = TestOutcome(
        record, Comparison(Verdict.NO_BASELINE), error=reason if failed else "", file=file or file_of(test), line=line
    )
    return PhaseResult(unmeasured_entry(test, reason), outcome)
