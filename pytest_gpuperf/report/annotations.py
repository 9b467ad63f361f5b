"""Annotations of GitHub Actions: output lines of a job that GitHub shows at the lines of a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.model import ReportedTest, Verdict
from pytest_gpuperf.report.common_mode import common_failure, common_of
from pytest_gpuperf.report.comparison_table import point_label, worst_first
from pytest_gpuperf.report.figures import figure, interval_with_level, plural
from pytest_gpuperf.report.inherited import inherited_notes

#: Number of errors that GitHub shows for one step.
MAX_ANNOTATIONS = 10
#: Largest summary of one step that GitHub accepts.
MAX_SUMMARY_BYTES = 1 << 20


def error_lines(reported: Sequence[ReportedTest], prefix: str = "") -> list[str]:
    """Return an error annotation for each regressed test, the worst first.

    Args:
        prefix: Directory of the tests' files, relative to the root of the repository.

    Source: GitHub's documentation of workflow commands.
    """
    regressed = [test for test in reported if test.regressed]
    regressed.sort(key=lambda test: -max((row.worsening for row in test.comparison.of(Verdict.REGRESSED)), default=0.0))
    together = common_failure(common_of(reported))
    first = [f"::error title=gpuperf%3A all tests together regressed::{_data(together)}"] if together else []
    lines = [_annotation(test, prefix, _message(test)) for test in regressed[:MAX_ANNOTATIONS]]
    if len(regressed) > MAX_ANNOTATIONS:
        last, hidden = regressed[MAX_ANNOTATIONS - 1], len(regressed) - MAX_ANNOTATIONS
        lines[-1] = _annotation(last, prefix, f"{_message(last)}\nand {plural(hidden, 'more test')} regressed")
    return [*first, *lines]


def inherited_lines(reported: Sequence[ReportedTest], prefix: str = "") -> list[str]:
    """Return a warning annotation for each test that has inherited a regression, with arguments as ``error_lines``."""
    inherited = [test for test in reported if test.comparison.verdict is Verdict.INHERITED]
    return [
        _annotation(
            test,
            prefix,
            "\n".join(map(str.strip, inherited_notes(test.comparison))),
            "warning",
            "inherited a regression",
        )
        for test in inherited[:MAX_ANNOTATIONS]
    ]


def error_line(title: str, message: str) -> str:
    """Return an error annotation without a place."""
    return f"::error title={_property(title)}::{_data(message)}"


def _annotation(test: ReportedTest, prefix: str, message: str, kind: str = "error", what: str = "regressed") -> str:
    path = f"{prefix}/{test.file}" if prefix else test.file
    place = {"file": path, "line": str(max(test.line, 1))} if test.file else {}
    properties = {**place, "title": f"gpuperf: {test.record.test} {what}"}
    encoded = ",".join(f"{name}={_property(text)}" for name, text in properties.items())
    return f"::{kind} {encoded}::{_data(message)}"


def _message(test: ReportedTest) -> str:
    rows = worst_first(test.comparison.of(Verdict.REGRESSED))
    if not rows:
        return test.error or "regressed"
    row = rows[0]
    values = f"{figure(row.metric, row.baseline)} to {figure(row.metric, row.candidate)}"
    place = f"at {point_label(row)}" if row.point else "over the whole sweep"
    text = f"{row.metric} {interval_with_level(row)} {place}: {values}"
    return f"{text} ({plural(len(rows), 'row')} regressed)"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
