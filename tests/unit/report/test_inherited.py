"""An inherited regression is shown by every report."""

from __future__ import annotations

import json
from dataclasses import replace

from pytest_gpuperf.model import MERGE_BASE, Comparison, Record, ReportedTest, Verdict
from pytest_gpuperf.publish.formats import HTML, JSON, MARKDOWN, TABLE, render
from pytest_gpuperf.report.annotations import error_lines, inherited_lines
from pytest_gpuperf.report.inherited import inherited_notes
from pytest_gpuperf.report.summary import RecordLocation, failure_message, headline
from pytest_gpuperf.report.terminal.section import section, terminal_entry
from tests.unit.reports import reported

SINCE = "808b9007" * 5
COMMAND = 'gpuperf baseline accept 2636ac038d71 --store s3://b --reason "..."'


def inherited(test: ReportedTest) -> ReportedTest:
    rows = tuple(replace(row, verdict=Verdict.INHERITED) for row in test.comparison.rows)
    comparison = replace(
        test.comparison,
        rows=rows,
        verdict=Verdict.INHERITED,
        inherited_from=("2636ac038d71",),
        inherited_since=SINCE,
    )
    return replace(test, comparison=comparison, record=with_gate(test.record), store_option=" --store s3://b")


def with_gate(record: Record) -> Record:
    return replace(record, gate="inherited", verdict="inherited")


TEST = inherited(reported(6.0))


def shown(name: str, *tests: ReportedTest) -> str:
    return render(name, tests or (TEST,), title="", generated_utc="2026-01-31T12:00:00.000+00:00")


def test_the_terminal_shows_it_and_how_to_accept_the_main_branch() -> None:
    location = RecordLocation("path", TEST.store_option)
    entries = [
        terminal_entry(replace(TEST.record, test=f"t{number}"), TEST.curves, TEST.comparison, location)
        for number in range(5)
    ]
    lines = section(entries, 0)
    assert ("  INHERITED since commit 808b9007: 3 runs regressed, and so has the merge base", "yellow") in lines
    assert lines.count((f"    {COMMAND}", "")) == len(entries)
    assert ("5 tests: 5 inherited", "bold") in lines
    assert max(len(line) for line, _ in lines) <= 80
    assert COMMAND in shown(TABLE)


def test_the_comment_is_a_warning() -> None:
    text = shown(MARKDOWN, TEST, reported(test="t.py::test_same"))
    assert "## ⚠️ gpuperf: 1 of 2 tests inherited" in text
    assert "has regressed, too; the regression holds since commit 808b9007" in text
    assert COMMAND in text


def test_the_page_says_that_nothing_new_regressed() -> None:
    text = shown(HTML, TEST, reported(test="t.py::test_same"))
    assert "No new regression; 1 of 2 tests inherited one from the main branch" in text
    assert 'class="chip v-inherited"' in text
    assert "1 inherited" in text


def test_programs_get_the_record_and_the_commit() -> None:
    document = json.loads(shown(JSON))
    assert document["verdict"] == "inherited"
    assert document["counts"] == {"inherited": 1}
    assert document["tests"][0]["inherited_from"] == ["2636ac038d71"]
    assert document["tests"][0]["inherited_since"] == SINCE
    assert document["tests"][0]["gate"] == "inherited"


def test_github_shows_a_warning_and_no_error() -> None:
    assert error_lines([TEST]) == []
    (line,) = inherited_lines([TEST, reported()])
    assert line.startswith("::warning file=tests/test_serving.py,line=12,title=gpuperf%3A ")
    assert "has regressed, too%0Athe regression holds since commit 808b9007" in line
    assert "inherited a regression::" in line


def test_a_regression_beyond_the_merge_base_states_its_part() -> None:
    test = reported(6.0)
    rows = tuple(replace(row, against=MERGE_BASE) for row in test.comparison.rows)
    comparison = replace(test.comparison, rows=rows, inherited_from=("2636ac038d71",), inherited_since=SINCE)
    message = failure_message(test.record, comparison, RecordLocation("path"), test.baseline)
    assert "against the merge base (record 2636ac038d71): the part of this change alone" in message
    assert "the main branch has regressed since commit 808b9007" in message
    assert message.count("  merge base") == min(len(rows), 12)
    assert headline(test.record, comparison).startswith("regressed: ")


def test_what_is_missing_is_named() -> None:
    comparison = Comparison(Verdict.REGRESSED, merge_base_problem="the clone is shallow")
    assert inherited_notes(comparison) == ["not compared with the merge base: the clone is shallow"]
    assert inherited_notes(Comparison(Verdict.REGRESSED)) == []
