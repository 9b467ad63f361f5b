"""Judges all tests of an invocation again at its end, when all of them are known.

A test that passed at its end and is found regressed now gets a further report of pytest: an error of its teardown, as
of a fixture that fails after the test passed. So pytest's exit status, its summary, ``--lf`` and the reports of other
plugins agree, and the outcome that was printed when the test ended stays true. A test that failed stays failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pluggy
import pytest

from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import Comparison, Record, Verdict, curves_of
from pytest_gpuperf.publish.comparison import compare_invocation, with_verdict
from pytest_gpuperf.publish.judged_test import JudgedTest
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.publish.pool import update_pool
from pytest_gpuperf.report.summary import RecordLocation
from pytest_gpuperf.safe_text import safe
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.gate import entry_of, failure_of
from pytest_gpuperf.session.phase_result import PhaseResult
from pytest_gpuperf.session.refinement.junit import REFINED
from pytest_gpuperf.session.results import Results

_REFINED = "The test passed when it ended; this is its verdict with all tests of the invocation known."


@contextmanager
def judged_again(context: Context, results: Results, hook: pluggy.HookRelay) -> Iterator[None]:
    """Judge all tests again when pytest's loop over them ends, unless the user or an error ends it.

    Args:
        hook: pytest's hooks, which report the tests that fail only now.
    """
    try:
        yield
    except (pytest.Session.Failed, pytest.Session.Interrupted):  # -x, --maxfail, --stepwise
        _report_again(context, results, hook)
        raise
    _report_again(context, results, hook)


def _report_again(context: Context, results: Results, hook: pluggy.HookRelay) -> None:
    if context.settings.measure and context.reports_here and context.duet_side is None:
        for report in judge_again(context, results):
            hook.pytest_runtest_logreport(report=report)
        _update_pool(context, results)


def _update_pool(context: Context, results: Results) -> None:
    """Let later invocations know what this one has read and measured."""
    tests = [(result.outcome, result.judged) for result in results.tests.values()]
    update_pool(
        context.store,
        [(outcome.record, judged.to_judge) for outcome, judged in tests if outcome is not None and judged is not None],
    )


def judge_again(context: Context, results: Results) -> list[pytest.TestReport]:
    """Judge all tests of an invocation again, and replace the results that differ now.

    Returns:
        A further report for each test that passed at its end and fails now.
    """
    tests = {
        key: (result, result.judged, result.outcome)
        for key, result in results.tests.items()
        if result.judged is not None and result.outcome is not None
    }
    if not tests:
        return []
    pools = context.pools.read(*(outcome.record.key for _, _, outcome in tests.values()))
    refined = compare_invocation([judged.to_judge for _, judged, _ in tests.values()], pools)
    results.common = refined.common
    reports: list[pytest.TestReport] = []
    for (key, (result, judged, before)), comparison in zip(tests.items(), refined.comparisons, strict=True):
        if comparison == before.comparison:
            continue
        report = results.reports[key]
        outcome, failure = _refined(context, judged, before, comparison, may_fail="xfail" not in report.keywords)
        if problem := _stored(context, before, outcome.record):
            results.problems.append(problem)
        location = RecordLocation(outcome.path, outcome.store_option)
        entry = entry_of(outcome.record, curves_of(outcome.record.runs), comparison, location, judged.notes)
        results.tests[key] = PhaseResult(entry, outcome, result.smoked_points, judged)
        if failure:
            reports.append(_error(report, failure, comparison))
    results.refined = len(reports)
    return reports


def _refined(
    context: Context, judged: JudgedTest, before: TestOutcome, comparison: Comparison, *, may_fail: bool
) -> tuple[TestOutcome, str]:
    """Return an outcome with another comparison, and why its test fails now; empty if it doesn't, or did before.

    Args:
        may_fail: Whether a failure of the test counts, which pytest's xfail prevents.
    """
    if before.record.gate == "failed" or before.error or before.expected_failure:
        error = before.error
        if not error and not before.expected_failure and comparison.verdict is not Verdict.REGRESSED:
            error = f"{before.comparison.verdict} when the test ended; {comparison.verdict} with all tests known"
        record = replace(before.record, verdict=str(comparison.verdict))
        return replace(before, record=record, comparison=comparison, error=error), ""
    record = with_verdict(before.record, comparison)
    location = RecordLocation(before.path, before.store_option)
    failure = failure_of(context, record, comparison, location, judged.baseline)
    outcome = replace(before, record=record, comparison=comparison)
    reason = failure.partition("\n")[0]
    if failure and not may_fail:
        return replace(outcome, expected_failure=reason), ""
    return replace(outcome, error="" if comparison.verdict is Verdict.REGRESSED else reason), failure


def _stored(context: Context, before: TestOutcome, judged: Record) -> str:
    """Write how a stored record is judged now; return why that is not possible."""
    if not before.path:
        return ""
    try:
        context.store.judge(before.record, judged.gate, judged.verdict)
    except StoreError as error:
        return f"the verdict of {judged.test} at the end of the invocation can't be stored: {error}"
    return ""


def _error(report: pytest.TestReport, failure: str, comparison: Comparison) -> pytest.TestReport:
    """Return the further report of a test.

    Args:
        report: The report of its last phase.
    """
    return pytest.TestReport(
        nodeid=report.nodeid,
        location=report.location,
        keywords=report.keywords,
        outcome="failed",
        longrepr=safe(f"{failure}\n{_REFINED}"),
        when="teardown",
        user_properties=[(REFINED, str(comparison.verdict))],
    )
