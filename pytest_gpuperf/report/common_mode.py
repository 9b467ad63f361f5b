"""What all tests of an invocation changed by together, in words: it is said once, not in every test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_gpuperf.model import CommonMode, ReportedTest, Verdict
from pytest_gpuperf.report.figures import change_of, plural

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
    verdicts = " and ".join(dict.fromkeys(str(mode.verdict) for mode in changed))
    return f"all tests together are {verdicts}: {_figures(changed)}. {_RELATIVE}" if changed else ""


def _figures(modes: Sequence[CommonMode]) -> str:
    figures = []
    for mode in modes:
        middle, low, high = (change_of(mode.metric, ratio) for ratio in (mode.ratio, mode.low, mode.high))
        figures.append(f"{mode.metric} {middle} [{low}, {high}]")
    tests, invocations = max(mode.tests for mode in modes), max(mode.invocations for mode in modes)
    return f"{', '.join(figures)} in {plural(tests, 'test')}, compared with {plural(invocations, 'earlier invocation')}"
