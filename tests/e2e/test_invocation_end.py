"""Verdicts at the end of the invocation. What all tests together show is replaced, and everything else is real."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.invocations import GPUPERF, Run

_CONFTEST = """
    import os
    from dataclasses import replace

    from pytest_gpuperf.model import CommonMode, Verdict
    from pytest_gpuperf.publish.comparison import compare_invocation
    from pytest_gpuperf.session.refinement import invocation_end
    from pytest_gpuperf.store import Store

    def judged(comparison, verdict):
        rows = tuple(replace(row, verdict=verdict) for row in comparison.rows)
        return replace(comparison, verdict=verdict, suspect=False, rows=rows)

    def at_the_end(records, pools):
        result = compare_invocation(records, pools)
        common = (CommonMode(
            metric="p50", ratio=1.06, low=1.03, high=1.09, p_value=0.001, verdict=Verdict(os.environ["COMMON"]),
            tests=2, invocations=9, min_detectable=0.02,
        ),)
        comparisons = []
        for each, comparison in zip(records, result.comparisons, strict=True):
            comparison = replace(judged(comparison, Verdict.INCONCLUSIVE), common=common)
            if os.environ.get("REGRESSED", "-") in each.test:
                comparison = judged(comparison, Verdict.REGRESSED)
            comparisons.append(replace(comparison, suspect=os.environ.get("SUSPECT", "-") in each.test))
        return replace(result, comparisons=tuple(comparisons), common=common)

    invocation_end.compare_invocation = at_the_end

    reads = []
    read = Store.read

    def counting(store, file):
        reads.append(file.name)
        return read(store, file)

    Store.read = counting

    def pytest_terminal_summary(terminalreporter):
        terminalreporter.write_line(f"records read: {len(reads)}")
"""
_SUITE = """
    import os
    import time

    def test_a(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.002), window_s=0.05)
        assert "FAIL" not in os.environ

    def test_b(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.002), window_s=0.05)
"""


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makeconftest(_CONFTEST)
    pytester.makepyfile(test_suite=_SUITE)
    run(COMMON="unchanged").assert_outcomes(passed=2)


def _cases(path: Path) -> dict[str, list[str]]:
    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    cases = [(str(case.get("name")), [child.tag for child in case]) for case in suite.iter("testcase")]
    assert suite.get("tests") == str(len(cases)) == str(len(dict(cases)))
    return {name: [tag for tag in tags if tag != "properties"] for name, tags in cases}


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_test_that_is_regressed_with_all_tests_known_is_an_error(
    run: Run, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    result = run(*workers, "--junitxml=junit.xml", "--gpuperf-report=r.md", COMMON="unchanged", REGRESSED="test_b")
    result.assert_outcomes(passed=2, errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*test_b regressed compared with 1 baseline record*", "*passed when it ended*"])
    assert _cases(pytester.path / "junit.xml") == {"test_a": [], "test_b": ["error"]}
    assert "1 of 2 tests regressed" in (pytester.path / "r.md").read_text()
    if workers:  # what judges them comes from the workers
        result.stdout.fnmatch_lines(["records read: 0"])
    # It joins no baseline, and --lf selects it.
    again = run("--lf", COMMON="unchanged")
    again.assert_outcomes(passed=1)
    again.stdout.fnmatch_lines(["*test_b*", "*compared with 1 baseline record*"])


def test_a_failure_stays_and_stops_pytest_and_the_others_are_judged_again(run: Run, pytester: pytest.Pytester) -> None:
    result = run("-x", "--junitxml=junit.xml", COMMON="unchanged", REGRESSED="test_a", FAIL="1")
    result.assert_outcomes(failed=1)
    assert _cases(pytester.path / "junit.xml") == {"test_a": ["failure"]}
    result = run("-x", COMMON="unchanged", REGRESSED="test_")
    result.assert_outcomes(passed=2, errors=2)


def test_what_all_tests_changed_by_together_fails_the_invocation_once(run: Run, pytester: pytest.Pytester) -> None:
    arguments = ("--junitxml=junit.xml", "--gpuperf-report=r.md", "--gpuperf-report=r.html", "--gpuperf-report=r.json")
    result = run(*arguments, COMMON="regressed", SUSPECT="test_b")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = "all tests together regressed: p50 +6.0%"
    result.stdout.fnmatch_lines([f"*gpuperf: {text}*"])
    assert _cases(pytester.path / "junit.xml") == {"test_a": [], "test_b": [], "all tests together": ["error"]}
    for name in ("r.md", "r.html"):
        assert text[1:] in (pytester.path / name).read_text()
    # The suspect record is told with its command, and waits until that.
    record = next(path for path in pytester.path.rglob("*.judged.suspect.json")).name.rpartition("-")[2][:12]
    result.stdout.fnmatch_lines([f"*gpuperf baseline accept {record}*"])
    assert "suspect, waits" in pytester.run(*GPUPERF, "baseline", "list").stdout.str()
    quiet = run(COMMON="unchanged", SUSPECT="test_b")
    quiet.stdout.fnmatch_lines(["*test_b*", "*compared with 1 baseline record*"])
    assert pytester.run(*GPUPERF, "baseline", "accept", record, "--reason", "known").ret == 0
    run("-k", "test_b", COMMON="unchanged").stdout.fnmatch_lines(["*compared with 1 baseline record*"])
