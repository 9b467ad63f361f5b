"""The part of a comment that says why most tests are undecided."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.model import ReportedTest
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.noise import NoiseDiagnosis, summary_of, undecided_lines


def noise_text(diagnosis: NoiseDiagnosis, summarized: Sequence[ReportedTest]) -> str:
    """Say why most tests are undecided, with a line for each of them."""
    summaries = {escape.code(escape.shorten(test.record.test)): escape.text(summary_of(test)) for test in summarized}
    lines = [f"- {line}" for line in (*diagnosis.sentences, *undecided_lines(summaries))]
    return "\n".join([f"**{diagnosis.title.capitalize()}**", "", *lines])
