"""Failures that pytest reports outside of the call phase, or not at all: reports are red, no record is a baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.invocations import Run

MEASURE = "gpuperf.sweep(lambda: time.sleep(0.002), window_s=0.05, name='s')"
FINE = f"import time\ndef test_fine(gpuperf):\n    {MEASURE}\n"


def reported(path: Path) -> dict[str, str]:
    """Return the errors of a JSON report, by test; empty for a test that did not fail."""
    report = json.loads(path.read_text())
    return {test["test"]: test["error"] for test in report["tests"]}


def gates(path: Path) -> dict[str, str]:
    records = [json.loads(file.read_text())["record"] for file in (path / ".gpuperf").rglob("*Z-*.json")]
    return {record["test"].rpartition("::")[2]: record["gate"] for record in records}


def test_whatever_fails_a_test_rejects_its_record(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite=f"""
        import time, unittest, pytest

        class TestCase(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def _take(self, gpuperf):
                self.gpuperf = gpuperf

            def test_unittest(self):
                self.{MEASURE}
                self.assertLess(2, 1)

            def test_unittest_subtest(self):
                self.{MEASURE}
                with self.subTest(number=1):
                    self.fail("in a subtest")

        @pytest.fixture
        def broken():
            yield
            raise OSError("does not stop")

        def test_teardown(gpuperf, broken):
            {MEASURE}

        @pytest.mark.xfail(strict=True, reason="slow")
        def test_unexpected_pass(gpuperf):
            {MEASURE}

        @pytest.mark.xfail(reason="slow")
        def test_expected_failure(gpuperf):
            {MEASURE}
            assert 0

        def test_skipped_later(gpuperf):
            {MEASURE}
            pytest.skip("int8 needs a newer GPU")
        """
    )
    result = run("--gpuperf-report=r.json", "--gpuperf-report=r.md")
    assert result.ret == 1
    expected = dict.fromkeys(
        ("test_unittest", "test_unittest_subtest", "test_teardown", "test_unexpected_pass"), "failed"
    )
    assert gates(pytester.path) == {**expected, "test_expected_failure": "open", "test_skipped_later": "open"}
    errors = {test.rpartition("::")[2]: bool(error) for test, error in reported(pytester.path / "r.json").items()}
    assert errors == {name: name in expected for name in gates(pytester.path)}
    assert "4 of 6 tests failed" in (pytester.path / "r.md").read_text()


def test_a_crash_in_a_worker_a_file_that_is_not_collected_and_a_test_that_is_not_run_are_named(
    run: Run, pytester: pytest.Pytester
) -> None:
    (pytester.path / "test_a.py").write_text(FINE)
    (pytester.path / "test_b.py").write_text("import os\ndef test_crash(gpuperf):\n    os._exit(9)\n")
    crashed = run("-n", "1", "--gpuperf-report=r.json", "--gpuperf-report=r.md")
    assert crashed.ret == 1
    errors = reported(pytester.path / "r.json")
    assert errors["test_a.py::test_fine"] == ""
    assert "crashed while running 'test_b.py::test_crash'" in errors["test_b.py::test_crash"]
    assert "\u274c" in (pytester.path / "r.md").read_text()
    (pytester.path / "test_b.py").write_text("import nothing_like_this\n")
    assert run("--gpuperf-report=r.json").ret == 2
    errors = reported(pytester.path / "r.json")
    assert errors["test_b.py"] == "not collected: ModuleNotFoundError: No module named 'nothing_like_this'"
    assert errors["test_a.py::test_fine"] == "not run: 1 error during collection"
    (pytester.path / "test_b.py").unlink()
    (pytester.path / "test_0.py").write_text("def test_first():\n    assert 0\n")
    assert run("-x", "--gpuperf-report=r.json").ret == 1
    assert reported(pytester.path / "r.json") == {"test_a.py::test_fine": "not run: stopping after 1 failures"}


def test_a_killed_pytest_leaves_a_red_report(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite="import os\ndef test_stuck(gpuperf):\n    os._exit(1)\n")
    (pytester.path / "r.json").write_text('{"tests": []}')
    assert run("--gpuperf-report=r.json", "-p", "no:faulthandler").ret == 1
    error = "pytest ended while this test or a later one ran, and wrote no report"
    assert reported(pytester.path / "r.json") == {"test_suite.py::test_stuck": error}
    (pytester.path / "file").touch()
    refused = run("--gpuperf-report=file/r.json")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR


def stored(path: Path) -> list[str]:
    return sorted(file.parts[-5] for file in (path / ".gpuperf").glob("*/*/*/*/*Z-*.json"))


def test_a_kill_in_a_teardown_loses_no_record_and_makes_no_baseline(run: Run, pytester: pytest.Pytester) -> None:
    suite = f"""
        import os, time, pytest
        from pathlib import Path

        @pytest.fixture
        def server():
            yield
            if os.environ.get("KILL"):
                os.kill(os.getpid(), 9)

        def test_fine(gpuperf, server):
            {MEASURE}

        def test_other(gpuperf):
            {MEASURE}
    """
    pytester.makepyfile(test_suite=suite)
    killed = run("-p", "no:faulthandler", KILL="1")
    assert killed.ret == -9
    assert len(stored(pytester.path)) == 0
    later = run("-k", "test_other")
    assert later.ret == 0
    later.stdout.fnmatch_lines(["*killed while test_suite.py::test_fine was torn down. Its record is stored, and*"])
    assert gates(pytester.path) == {"test_fine": "failed", "test_other": "open"}
    assert len(stored(pytester.path)) == 2
    assert not (pytester.path / ".gpuperf" / ".unfinished").exists()
    crashed = run("-n", "1", "-k", "test_fine", KILL="1")
    assert crashed.ret == 1
    crashed.stdout.fnmatch_lines(["*killed while test_suite.py::test_fine was torn down.*"])
    assert len(stored(pytester.path)) == 3


def test_skipped_and_dropped_tests_fail_if_a_baseline_is_required(run: Run, pytester: pytest.Pytester) -> None:
    strict = ("--gpuperf-require-baseline", "--gpuperf-report=r.json")
    suite = FINE + f"def test_later_renamed(gpuperf):\n    {MEASURE}\n"
    (pytester.path / "test_suite.py").write_text(suite)
    run()
    (pytester.path / "test_suite.py").write_text(suite.replace("test_later_renamed", "helper"))
    told = run()
    assert told.ret == 0
    told.stdout.fnmatch_lines(["*NOT MEASURED: measured with the newest baseline, and not collected now*"])
    (pytester.path / "test_suite.py").write_text(f"import pytest\npytestmark = pytest.mark.skip('no GPU')\n{FINE}")
    assert run().ret == 0
    assert run(*strict).ret == 1
    assert reported(pytester.path / "r.json")["test_suite.py::test_fine"] == "skipped: no GPU"
