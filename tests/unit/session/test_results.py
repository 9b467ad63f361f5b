from __future__ import annotations

from io import StringIO

import pytest
from _pytest.terminal import TerminalReporter

from pytest_gpuperf.model import Comparison, Verdict
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.report.terminal.section import TerminalEntry
from pytest_gpuperf.session.phase_result import PhaseResult
from pytest_gpuperf.session.reports import Published
from pytest_gpuperf.session.results import Results
from tests.unit.factories import record

OUTCOME = TestOutcome(record(), Comparison(Verdict.UNCHANGED))
EARLY = TestOutcome(record(), Comparison(Verdict.NO_BASELINE), error="OSError: it does not stop")


def errors(*phases: tuple[str, TestOutcome | None]) -> list[str]:
    results = Results()
    for phase, outcome in phases:
        results.add("test", phase, PhaseResult(outcome=outcome))
    return [outcome.error for outcome in results.outcomes.values()]


def test_an_error_of_the_teardown_is_added_to_what_the_call_measured() -> None:
    assert errors(("setup", None), ("call", OUTCOME), ("teardown", EARLY)) == [EARLY.error]
    results = Results()
    results.add("test", "call", PhaseResult(outcome=OUTCOME))
    results.add("test", "teardown", PhaseResult(outcome=EARLY))
    assert results.outcomes["test"].comparison == OUTCOME.comparison


def test_the_first_error_counts() -> None:
    first = TestOutcome(record(), Comparison(Verdict.NO_BASELINE), error="ValueError")
    assert errors(("call", first), ("teardown", EARLY)) == ["ValueError"]


def test_a_further_try_of_a_test_replaces_the_earlier_one() -> None:
    assert errors(("call", EARLY), ("teardown", None), ("setup", None), ("call", OUTCOME)) == [""]
    assert errors(("call", EARLY), ("setup", None), ("call", None)) == []


def written(results: Results, pytester: pytest.Pytester, *arguments: str) -> str:
    config, file = pytester.parseconfig(*arguments), StringIO()
    results.write(TerminalReporter(config, file), config.getoption("verbose"))
    return file.getvalue()


def test_nothing_is_written_of_nothing(pytester: pytest.Pytester) -> None:
    assert written(Results(), pytester) == ""


def test_a_smoke_run_says_that_it_measured_nothing(pytester: pytest.Pytester) -> None:
    assert "targets answered at 1 load point; nothing was measured" in written(Results(smoked_points=1), pytester)
    assert "targets answered at 2 load points; nothing" in written(Results(smoked_points=2), pytester)


def test_reports_and_problems_stand_below_the_tests(pytester: pytest.Pytester) -> None:
    entry = TerminalEntry("test_it", "regressed", "REGRESSED: 3 runs", brief=["  12% slower"])
    published = Published(["report: r.md"], ["r.json can't be written"], ["::error title=slow::"])
    results = Results([entry], problems=["clocks of GPU 0 are still locked"], published=published)
    text = written(results, pytester)
    lines = ["test_it", "report: r.md", "gpuperf: r.json can't", "gpuperf: clocks of GPU 0", "::error title=slow::"]
    places = [text.index(line) for line in lines]
    assert places == sorted(places)
    quiet = written(results, pytester, "-q")
    assert "report: r.md" not in quiet
    assert "::error title=slow::" in quiet
