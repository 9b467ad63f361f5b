"""What all tests of an invocation changed by together, in words: it is said once, not in every test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_gpuperf.model import CommonMode, ReportedTest, Verdict
from pytest_gpuperf.report.figures import confidences, plural, short_interval

_CAUSES = "The machine, its driver or its clocks changed, or a change of the code hits every test."
_RELATIVE = "The tests are judged relative to this."


def common_of(reported: Iterable[ReportedTest]) -> tuple[CommonMode, ...]:
    """Return what the tests of a report changed by together; each invocation and metric once."""
    return tuple(dict.fromkeys(mode for test in reported for mode in test.comparison.common))


def common_failure(modes: Sequence[CommonMode]) -> str:
    """Return why what all tests changed by together fails the invocation; empty if it doesn't."""
    regressed = [mode for mode in modes if mode.verdict is Verdict.REGRESSED]
    if not regressed:
        return ""
    return f"all tests together regressed: {_figures(regressed)}. {_CAUSES} {_RELATIVE}"


def common_note(modes: Sequence[CommonMode]) -> str:
    """Return a line on what all tests changed by together; empty if that is shown to be nothing, or is a failure."""
    if any(mode.verdict is Verdict.REGRESSED for mode in modes):
        return ""
    changed = [mode for mode in modes if mode.verdict is not Verdict.UNCHANGED]
    return f"all tests together: {_figures(changed, with_verdict=True)}" if changed else ""


def _figures(modes: Sequence[CommonMode], *, with_verdict: bool = False) -> str:
    figures = [f"{mode.metric} {short_interval(mode)}{f' {mode.verdict}' if with_verdict else ''}" for mode in modes]
    tests, invocations = max(mode.tests for mode in modes), max(mode.invocations for mode in modes)
    against = plural(invocations, "earlier invocation")
    return f"{', '.join(figures)} ({confidences(modes)} intervals; {plural(tests, 'test')} compared with {against})"
