from __future__ import annotations

import re
from io import StringIO

import pytest
from _pytest.terminal import TerminalReporter

from pytest_gpuperf.report.terminal.section import TerminalEntry
from pytest_gpuperf.session.phase_result import PhaseResult
from pytest_gpuperf.session.reports import Published
from pytest_gpuperf.session.results import Results

SMOKED = PhaseResult(smoked_points=1)


def phase(when: str, worker: str = "", test: str = "t.py::test") -> pytest.TestReport:
    report = pytest.TestReport(test, ("t.py", 1, "test"), {}, "passed", None, when)  # type: ignore[arg-type]
    if worker:
        vars(report)["worker_id"] = worker
    return report


def test_a_further_try_of_a_test_replaces_the_earlier_one() -> None:
    results = Results()
    for _ in range(2):
        results.add(phase("setup"), PhaseResult())
        results.add(phase("teardown"), SMOKED)
    assert results.smoked_points == 1
    results.add(phase("setup"), PhaseResult())
    assert results.tests == {}


def test_each_worker_of_xdist_runs_its_tests() -> None:
    results = Results.of([])
    for worker in ("gw0", "gw1"):
        results.add(phase("teardown", worker), SMOKED)
    assert results.smoked_points == 2


class _Screen(StringIO):
    def isatty(self) -> bool:
        return True


def written(results: Results, pytester: pytest.Pytester, *arguments: str, screen: bool = False) -> str:
    config, file = pytester.parseconfig(*arguments), _Screen() if screen else StringIO()
    results.write(TerminalReporter(config, file), config.getoption("verbose"))
    return file.getvalue()


def test_nothing_is_written_of_nothing(pytester: pytest.Pytester) -> None:
    assert written(Results(), pytester) == ""


def test_a_smoke_run_says_that_it_measured_nothing(pytester: pytest.Pytester) -> None:
    assert "targets answered at 1 load point; nothing was measured" in written(Results({("", "a"): SMOKED}), pytester)
    assert "targets answered at 2 load points; nothing" in written(
        Results({("", "a"): SMOKED, ("", "b"): SMOKED}), pytester
    )


def test_reports_and_problems_stand_below_the_tests(pytester: pytest.Pytester) -> None:
    entry = TerminalEntry("test_it", "regressed", "REGRESSED: 3 runs", brief=["  12% slower"])
    published = Published(["report: r.md"], ["r.json can't be written"], ["::error title=slow::"])
    results = Results(
        {("", "test_it"): PhaseResult(entry)}, problems=["clocks of GPU 0 are still locked"], published=published
    )
    text = written(results, pytester)
    lines = ["test_it", "report: r.md", "gpuperf: r.json can't", "gpuperf: clocks of GPU 0", "::error title=slow::"]
    places = [text.index(line) for line in lines]
    assert places == sorted(places)
    quiet = written(results, pytester, "-q")
    assert "report: r.md" not in quiet
    assert "::error title=slow::" in quiet


def test_a_terminal_gets_lines_of_its_width_and_a_log_unbroken_sentences(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = f"  ! the load generator waited for a CPU for 6 to 13% of the time in {'12 of 36 windows, ' * 4}and more"
    results = Results({("", "test_it"): PhaseResult(TerminalEntry("test_it", "regressed", "slower", brief=[sentence]))})
    monkeypatch.setenv("COLUMNS", "60")
    assert sentence in written(results, pytester).splitlines()
    text = re.sub(r"\x1b\[[0-9;]*m", "", written(results, pytester, screen=True))
    assert max(map(len, text.splitlines())) <= 60
    assert " ".join(sentence.split()) in " ".join(text.split())
