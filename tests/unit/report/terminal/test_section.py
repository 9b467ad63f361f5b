from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.model import Finding, ReportedTest
from pytest_gpuperf.model.finding import THROTTLED, THROTTLING
from pytest_gpuperf.report.summary import RecordLocation
from pytest_gpuperf.report.terminal.section import TerminalEntry, full_lines, section, terminal_entry, verdict_counts
from tests.unit.reports import reported
from tests.unit.snapshots import matches

COLUMNS = 80


def shown(test: ReportedTest) -> TerminalEntry:
    return terminal_entry(test.record, test.curves, test.comparison, RecordLocation(test.path, test.store_option))


def lines(tests: list[ReportedTest], verbosity: int = 0) -> list[str]:
    return [line for line, _ in section([shown(test) for test in tests], verbosity)]


def suite(count: int) -> list[ReportedTest]:
    """Of which the first regressed, the second has no baseline, the third is undecided and the rest is unchanged."""
    base = reported(4.0)
    unsure = reported(4.2, spread=(0.9, 1.0, 1.15), baseline=1, name="00000000000b")
    special = [reported(6.0, load_points=6), reported(before_ms=None), unsure, *[base] * (count - 3)]
    return [
        replace(test, record=replace(test.record, test=f"tests/test_serving.py::test_{number}"))
        for number, test in enumerate(special)
    ]


def test_few_tests_are_all_shown() -> None:
    assert matches("terminal_few.txt", "\n".join(lines(suite(3))) + "\n")


def test_of_many_tests_only_notable_ones_are_shown() -> None:
    text = "\n".join(lines(suite(50)))
    assert matches("terminal_many.txt", text + "\n")
    assert "test_3" not in text
    assert "50 tests: 1 regressed, 1 with no baseline, 1 inconclusive, 47 unchanged" in text


def test_the_documentation_shows_what_is_printed() -> None:
    slow, base = reported(6.0, load_points=6), reported(4.0)
    slow = replace(slow, record=replace(slow.record, test="tests/test_serving.py::test_resnet50"))
    text = "\n```\n" + "\n".join(lines([slow, *[base] * 49])) + "\n```\n"
    root = Path(__file__).parents[4]
    assert [page for page in ("README.md", "docs/comment.md") if text not in (root / page).read_text("utf-8")] == []


def test_many_tests_without_a_baseline_are_grouped() -> None:
    new = reported(before_ms=None)
    tests = [replace(new, record=replace(new.record, test=f"t.py::test_{number}")) for number in range(50)]
    actual = lines(tests)
    assert actual[0] == "NO BASELINE yet: 3 runs, nothing to compare with (50 tests)"
    assert len(actual) < 15
    assert "  and 42 more" in actual


def test_everything_is_shown_when_asked_for() -> None:
    assert matches("terminal_verbose.txt", "\n".join(lines(suite(4), 1)) + "\n")


def test_quiet_is_one_line() -> None:
    assert lines(suite(5), -1) == ["5 tests: 1 regressed, 1 with no baseline, 1 inconclusive, 2 unchanged"]
    assert lines([], -1) == []


@pytest.mark.parametrize("count", [3, 50])
def test_it_fits_80_columns_but_for_paths(count: int) -> None:
    assert [line for line in lines(suite(count)) if len(line) > COLUMNS and "stored as" not in line] == []


def test_a_warning_is_shown_though_nothing_changed() -> None:
    hot = reported(findings=(Finding(THROTTLING, THROTTLED, names=("hw_thermal",)),))
    text = "\n".join(lines([hot, *suite(10)]))
    assert "! disturbed: thermal throttling (hw_thermal) in " in text


def test_findings_are_counted_from_the_fourth_on() -> None:
    many = reported(findings=tuple(Finding(f"{letter}_was_odd") for letter in "abcdef"), load_points=1)
    actual = [line for line in lines([many]) if line.startswith("  !")]
    assert len(actual) == 4
    assert actual[-1] == "  ! and 3 more findings"


def test_the_table_format_is_the_verbose_section_of_stored_records() -> None:
    tests = suite(3)
    text = "\n".join(full_lines(tests))
    for test in tests:
        assert "\n".join(shown(test).full) in text
    assert text.endswith(verdict_counts([shown(test) for test in tests]))
    assert full_lines([]) == ["nothing measured"]


def test_tests_cut_short_are_counted() -> None:
    assert full_lines([reported(status="incomplete")])[-1] == "1 test: 1 cut short"


def test_figures_that_were_not_compared_are_counted() -> None:
    test = reported(6.0)
    lost = replace(test, comparison=replace(test.comparison, left_out=("serving: concurrency 1, p99",)))
    assert "  1 gated figure not compared: too few requests in a run, or no value (-v: which)" in lines([lost])
    left_out = "  not compared (too few requests in a run, or no value): serving: concurrency 1, p99"
    assert left_out in lines([lost], verbosity=1)


def test_a_missing_load_point_is_noted() -> None:
    test = reported()
    gone = replace(test, comparison=replace(test.comparison, missing_points=("serving: concurrency 64",)))
    for tests in ([gone], [gone, *suite(20)]):
        assert "  in the baseline but not measured now: serving: concurrency 64" in lines(tests)
