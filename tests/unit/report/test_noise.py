from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_gpuperf.model import Finding, ReportedTest
from pytest_gpuperf.model.finding import THROTTLED, THROTTLING
from pytest_gpuperf.report.markdown.comment import comment
from pytest_gpuperf.report.noise import diagnose_tests
from pytest_gpuperf.report.page import page
from pytest_gpuperf.report.summary import RecordLocation
from pytest_gpuperf.report.terminal.section import TerminalEntry, full_lines, section, terminal_entry
from tests.unit.reports import reported

TITLE = "too noisy to decide: 7 of 8 compared tests"


def suite(undecided: int, decided: int, cpu: float | None = 0.86, **kind: Any) -> list[ReportedTest]:
    """Return undecided tests, on a machine whose CPU others use, and tests that did not change."""
    unsure = reported(4.2, **{"spread": (0.8, 1.0, 1.3), "baseline": 5, **kind})
    windows = [run.windows for run in unsure.record.runs]
    busy = tuple(
        replace(run, windows=tuple(replace(window, others_cpu_share=cpu) for window in measured))
        for run, measured in zip(unsure.record.runs, windows, strict=True)
    )
    unsure = replace(unsure, record=replace(unsure.record, runs=busy))
    tests = [*[unsure] * undecided, *[reported(4.0)] * decided]
    return [replace(test, record=replace(test.record, test=f"t.py::test_{n}")) for n, test in enumerate(tests)]


def entries(tests: list[ReportedTest]) -> list[TerminalEntry]:
    return [terminal_entry(t.record, t.curves, t.comparison, RecordLocation(t.path)) for t in tests]


def terminal(tests: list[ReportedTest], verbosity: int = 0) -> str:
    return "\n".join(line for line, _ in section(entries(tests), verbosity))


@pytest.mark.parametrize(("undecided", "decided"), [(3, 0), (5, 5), (0, 8)])
def test_a_minority_or_a_few_undecided_tests_are_shown_by_themselves(undecided: int, decided: int) -> None:
    tests = suite(undecided, decided)
    assert diagnose_tests(tests) is None
    assert terminal(tests).count("could have detected") == undecided


def test_the_diagnosis_says_what_disturbed_what_was_detectable_and_what_helps() -> None:
    diagnosis = diagnose_tests(suite(7, 1))
    assert diagnosis is not None
    assert diagnosis.title == TITLE
    assert diagnosis.causes == ("other processes took 86% of the CPU", "runs of the same test differ by 24%")
    assert diagnosis.detectable.startswith("no regression below ")
    assert diagnosis.remedies == ("gpuperf duet --base main", "a machine without other work")


def test_throttling_is_remedied_by_locked_clocks() -> None:
    hot = Finding(THROTTLING, THROTTLED, names=("hw_thermal",))
    diagnosis = diagnose_tests(suite(4, 0, cpu=None, findings=(hot,)))
    assert diagnosis is not None
    assert diagnosis.causes[0] == "the GPU was throttled in 100% of the windows"
    assert "locked clocks (--gpuperf-lock-clocks)" in diagnosis.remedies


def test_a_short_history_is_not_called_noise() -> None:
    undecided = replace(suite(1, 0)[0].comparison, baseline=("a",))
    short = [replace(reported(4.2), comparison=undecided)] * 4
    diagnosis = diagnose_tests(short)
    assert diagnosis is not None
    assert diagnosis.title == "undecided: 4 of 4 compared tests"
    assert diagnosis.causes == ("the baselines have only 1 record",)
    assert "main's next records" in diagnosis.remedies


@pytest.mark.parametrize("surface", ["terminal", "comment", "page"])
def test_each_surface_says_it_once_with_a_line_for_each_test(surface: str) -> None:
    tests = suite(7, 1)
    text = {
        "terminal": lambda: terminal(tests),
        "comment": lambda: comment(tests).partition("Measure again")[0],
        "page": lambda: page(tests, generated_utc="2026-01-05T00:00:00Z"),
    }[surface]()
    assert text.lower().count(TITLE) == 1
    assert text.count("other processes took 86% of the CPU") == 1
    if surface != "page":
        for number in range(7):
            assert text.count(f"test_{number}") == 1
        assert text.count("could have detected") == 0
        assert text.count("disturbed: ") == 0


def test_a_hundred_undecided_tests_fit_on_a_screen_and_details_are_kept() -> None:
    tests = suite(90, 10)
    assert len(terminal(tests).splitlines()) < 30
    assert "and 70 more" in terminal(tests)
    detailed = terminal(tests, 1)
    assert TITLE.replace("7 of 8", "90 of 100") in detailed
    assert detailed.count("could have detected") == 90
    assert full_lines(tests)[0] == TITLE.replace("7 of 8", "90 of 100")
    assert len(comment(tests).partition("Measure again")[0].splitlines()) < 60


def test_suspects_regressions_and_failed_tests_are_not_summarized() -> None:
    tests = suite(7, 1)
    tests[0] = replace(tests[0], comparison=replace(tests[0].comparison, suspect=True))
    tests[1] = replace(tests[1], record=replace(tests[1].record, gate="failed"))
    text = terminal([*tests, reported(8.0)])
    assert text.count("could have detected") == 2
    assert "\nt.py::test_1\n" in text
    assert "the test failed, so this record is not used as a baseline" in text
    assert "tests/test_serving.py::test_resnet50[fp16]\n  regressed" in text
