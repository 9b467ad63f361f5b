"""Annotations of GitHub Actions: lines of a job's output that become notes at the lines of a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.model import ReportedTest, Verdict
from pytest_gpuperf.report.comparison_table import point_label, worst_first
from pytest_gpuperf.report.figures import interval, plural, row_value

#: GitHub shows so many errors of one step.
MAX_ANNOTATIONS = 10
#: What GitHub takes as the summary of one step.
MAX_SUMMARY_BYTES = 1 << 20


def error_lines(reported: Sequence[ReportedTest], prefix: str = "") -> list[str]:
    """One error for each test that regressed, the worst first.

    Args:
        prefix: the directory, seen from the repository's root, that the tests' files are in.

    Source: GitHub's documentation of workflow commands.
    """
    regressed = [one for one in reported if one.comparison.verdict is Verdict.REGRESSED]
    regressed.sort(key=lambda one: -max((row.worsening for row in one.comparison.of(Verdict.REGRESSED)), default=0.0))
    lines = [_annotation(one, prefix, _message(one)) for one in regressed[:MAX_ANNOTATIONS]]
    if len(regressed) > MAX_ANNOTATIONS:
        last, more = regressed[MAX_ANNOTATIONS - 1], len(regressed) - MAX_ANNOTATIONS
        lines[-1] = _annotation(last, prefix, f"{_message(last)}\nand {plural(more, 'more test')} regressed")
    return lines


def _annotation(one: ReportedTest, prefix: str, message: str) -> str:
    properties = {"title": f"gpuperf: {one.record.test} regressed"}
    if one.file:
        properties = {
            "file": f"{prefix}/{one.file}" if prefix else one.file,
            "line": str(max(one.line, 1)),
            **properties,
        }
    told = ",".join(f"{name}={_property(text)}" for name, text in properties.items())
    return f"::error {told}::{_data(message)}"


def _message(one: ReportedTest) -> str:
    rows = worst_first(one.comparison.of(Verdict.REGRESSED))
    if not rows:
        return one.error or "regressed"
    row = rows[0]
    values = f"{row_value(row, row.baseline)} to {row_value(row, row.candidate)}"
    text = f"{row.metric} {interval(row)} at {point_label(row)}: {values}"
    return f"{text} ({plural(len(rows), 'row')} regressed)"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
