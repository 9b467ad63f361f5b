"""The reports of an invocation."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ET

import pytest

from tests.e2e.invocations import GPUPERF, Run, Start, record_files

SUITE = """
    import os
    import time

    DELAY_S = 0.004 * float(os.environ.get("SLOWER", "1"))

    def test_slow(gpuperf):
        gpuperf.sweep(lambda: time.sleep(DELAY_S), name="sleep", window_s=0.05)
"""


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(test_suite=SUITE)


def test_reports_are_written_when_tests_fail_and_agree_with_the_command(run: Run, pytester: pytest.Pytester) -> None:
    quiet = run("-q")
    assert "gpuperf" not in quiet.stdout.str()
    quiet.stdout.fnmatch_lines(["1 new test, nothing to compare with yet"])
    summary = pytester.path / "summary.md"
    result = run(
        "-v",
        "--gpuperf-report=out/comment.md",
        "--gpuperf-report",
        "r.json",
        "--gpuperf-report=r.csv",
        "--junitxml=junit.xml",
        SLOWER="8",
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(summary),
        GITHUB_WORKSPACE=str(pytester.path.parent),
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*conc  p50 ms*change*verdict*", "*stored as*", "1 test: 1 regressed", "report: out/comment.md"]
    )
    comment = (pytester.path / "out" / "comment.md").read_text()
    assert "## ❌ gpuperf: 1 test regressed" in comment
    assert summary.read_text() == comment
    (annotation,) = [line for line in result.outlines if line.startswith("::error ")]
    assert f"file={pytester.path.name}/test_suite.py,line=6,title=gpuperf%3A test_suite.py%3A%3Atest_slow" in annotation
    (ours,) = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert ours["verdict"] == "regressed"
    assert (pytester.path / "r.csv").read_text().startswith("Concurrency,")
    names = {element.attrib["name"] for element in ET.parse(pytester.path / "junit.xml").getroot().iter("property")}
    load = "gpuperf sleep concurrency=1 batch=1"
    assert {"gpuperf_verdict", "gpuperf_worst", f"{load} p99_ns", f"{load} too_few_requests_for"} <= names
    report = pytester.run(*GPUPERF, "report", "--format", "json")
    (theirs,) = json.loads(report.stdout.str())["tests"]
    # The command gives the same verdict later.
    for name in ("record", "verdict", "rows", "baseline", "changes", "curves", "budgets"):
        assert ours[name] == theirs[name]


FAILING = """
import time

import pytest


@pytest.fixture
def model():
    raise RuntimeError("no such bucket: s3://models")


def test_fine(gpuperf):
    gpuperf.sweep(lambda: time.sleep(0.002), name="sleep", window_s=0.05)


def test_engine(gpuperf):
    raise ValueError("the engine can't be built")


def test_setup(gpuperf, model):
    pass


@pytest.mark.gpuperf(nonsense=1)
def test_marker(gpuperf):
    pass


@pytest.fixture
def server():
    yield
    raise OSError("it does not stop")


def test_twice(gpuperf, server):
    raise ValueError


def test_end(gpuperf, server):
    gpuperf.sweep(lambda: time.sleep(0.002), name="sleep", window_s=0.05)


@pytest.mark.xfail(reason="what is known to fail is no failure in reports either")
def test_known(gpuperf):
    raise ValueError


def test_other():
    raise ValueError
"""


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["", "xdist"])
def test_tests_that_fail_before_measuring_are_in_the_reports(
    run: Run, pytester: pytest.Pytester, options: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_suite=FAILING)
    result = run(*options, "--gpuperf-report=c.md", "--gpuperf-report=r.json", "--gpuperf-report=r.html")
    result.assert_outcomes(passed=2, failed=3, errors=4, xfailed=1)
    report = json.loads((pytester.path / "r.json").read_text())
    errors = {test["test"].rpartition("::")[2]: test["error"].partition(":")[0] for test in report["tests"]}
    assert errors == {
        "test_fine": "",
        "test_engine": "ValueError",
        "test_setup": "RuntimeError",
        "test_marker": "OptionError",
        "test_twice": "ValueError",
        "test_end": "OSError",
    }
    assert report["failed"] == 5
    assert len(report["tests"]) == 6
    assert "## ❌ gpuperf: 5 of 6 tests failed, nothing regressed" in (pytester.path / "c.md").read_text()
    assert "5 of 6 tests failed; nothing regressed" in (pytester.path / "r.html").read_text()
    # Tests that measured nothing have no record.
    assert len(record_files(pytester.path)) == 2


def test_an_unreadable_calibration_fails_gated_tests_only(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE + "\n    def test_other():\n        pass\n")
    run().assert_outcomes(passed=2)
    (device,) = (path for path in (pytester.path / ".gpuperf").glob("[!.]*") if path.is_dir())
    priors = device.with_name(f"{device.name}.priors")
    priors.mkdir()
    (priors / "20260101T000000000Z-00000000.prior").write_text('{"gpuperf": 99}')
    result = run("--gpuperf-report=r.json")
    result.assert_outcomes(passed=1, errors=1)
    (test,) = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert test["error"]


def test_a_report_shows_that_an_inconclusive_test_failed(run: Run, pytester: pytest.Pytester) -> None:
    run().assert_outcomes(passed=1)
    result = run("--gpuperf-on-inconclusive=fail", "--gpuperf-report=r.json", "--gpuperf-report=c.md")
    result.assert_outcomes(failed=1)
    report = json.loads((pytester.path / "r.json").read_text())
    assert (report["failed"], report["tests"][0]["gate"]) == (1, "passed")
    assert "is inconclusive" in report["tests"][0]["error"]
    assert "## ❌ gpuperf: 1 test failed, nothing regressed" in (pytester.path / "c.md").read_text()


def test_the_controller_of_xdist_writes_once(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import time

        def test_one(gpuperf):
            gpuperf.sweep(lambda: time.sleep(0.001), name="sleep", window_s=0.05)

        def test_two(gpuperf):
            gpuperf.sweep(lambda: time.sleep(0.001), name="sleep", window_s=0.05)
        """
    )
    result = run("-n", "2", "--gpuperf-report=r.json")
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("report: r.json") == 1
    document = json.loads((pytester.path / "r.json").read_text())
    assert sorted(test["test"] for test in document["tests"]) == [
        "test_suite.py::test_one",
        "test_suite.py::test_two",
    ]
    assert {(test["file"], test["line"]) for test in document["tests"]} == {("test_suite.py", 3), ("test_suite.py", 6)}


COUNTED_READS = """
from pytest_gpuperf.store import Store

read_record = Store.read


def pytest_configure(config):
    process = getattr(config, "workerinput", {}).get("workerid", "controller")

    def read(self, entry):
        with open(f"reads-{process}.txt", "a") as file:
            file.write(entry.id + "\\n")
        return read_record(self, entry)

    Store.read = read
"""


def test_no_record_is_read_twice_in_an_invocation_of_xdist(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE, test_second=SUITE)
    pytester.makeconftest(COUNTED_READS)
    run("-n", "2").assert_outcomes(passed=2)
    for reads_of_process in pytester.path.glob("reads-*.txt"):  # the first invocation makes the pool of its records
        reads_of_process.unlink()
    stored = sorted(path.stem.rpartition("-")[2] for path in record_files(pytester.path))
    result = run("-n", "2", "--gpuperf-report=c.md", "--gpuperf-report=r.json", "--gpuperf-report=r.html")
    result.assert_outcomes(passed=2)
    tests = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert sorted(record for test in tests for record in test["baseline"]) == stored
    assert not (pytester.path / "reads-controller.txt").exists()
    reads = [line for path in pytester.path.glob("reads-gw*.txt") for line in path.read_text().splitlines()]
    assert sorted(reads) == stored


def test_control_c_leaves_a_report(start: Start, pytester: pytest.Pytester) -> None:
    started = start("-k", "slow", "--gpuperf-report=r.md")
    started.wait_for("run 1 of 2 done")
    started.send(signal.SIGINT)
    assert started.wait() == pytest.ExitCode.INTERRUPTED
    assert "measurement cut short" in (pytester.path / "r.md").read_text()


def test_an_exceeded_budget_is_written_and_drawn(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import time

        def test_budget(gpuperf):
            curve = gpuperf.sweep(lambda: time.sleep(0.005), name="sleep", window_s=0.1)
            assert curve.require(p90_ms=1).throughput > 0
        """
    )
    run("--gpuperf-report=r.json").assert_outcomes(failed=1)
    (test,) = json.loads((pytester.path / "r.json").read_text())["tests"]
    assert test["error"].startswith("BudgetMissed: sleep has no load point with p90 <= 1 ms")
    assert test["budgets"] == [{"metric": "p90", "limit_ms": 1.0}]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--gpuperf-report=r.txt"], "--gpuperf-report r.txt: write a file that ends in .md, .html, .json, .csv"),
        (["--gpuperf-report=r.xml"], "--junitxml"),
        (["--gpuperf-report=folder.md"], "is a directory"),
        (["-o", "gpuperf_report=r.doc"], "gpuperf_report = r.doc"),
    ],
)
def test_an_impossible_report_is_refused_before_any_test(
    run: Run, pytester: pytest.Pytester, arguments: list[str], hint: str
) -> None:
    (pytester.path / "folder.md").mkdir()
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert hint in result.stderr.str()
    assert not (pytester.path / ".gpuperf").exists()


def test_pytest_benchmark_s_results_know_the_device(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # in workers it measures nothing
    pytester.makepyfile(test_suite="import time\n\ndef test_theirs(benchmark):\n    benchmark(time.sleep, 0.001)\n")
    arguments = ("--gpuperf", "--gpuperf-device=cpu", "--benchmark-max-time=0.1", "--benchmark-json")
    for number in range(2):
        pytester.runpytest_subprocess(*arguments, f"{number}.json").assert_outcomes(passed=1)
    machine = json.loads((pytester.path / "0.json").read_text())["machine_info"]
    assert machine["gpuperf"]["device"].startswith("CPU ")
    imported = pytester.run(*GPUPERF, "import", "0.json", "1.json")
    imported.stdout.fnmatch_lines(["test_suite.py::test_theirs: NO BASELINE with this key: 2 runs, *"])
    shown = pytester.run(*GPUPERF, "report")
    shown.stdout.fnmatch_lines(["test_suite.py::test_theirs", "*p50 ms*"])
