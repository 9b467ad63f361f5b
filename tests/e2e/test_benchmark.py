"""A suite of pytest-benchmark that adds ``--gpuperf`` to its command line, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nvml import MockNvml

#: A suite that does not know this plugin. It sleeps, which repeats well on a busy machine.
SUITE = """
    import os
    import time

    import pytest

    DELAY_S = 0.002 * float(os.environ.get("SLOWER", "1"))

    @pytest.mark.benchmark(group="sleep")
    @pytest.mark.parametrize("times", [1, 2])
    def test_sleeps(benchmark, times):
        benchmark.extra_info["times"] = times
        benchmark.pedantic(time.sleep, args=(times * DELAY_S,), rounds=60)

    def test_same(benchmark):
        benchmark(time.sleep, 0.002)

    def test_other():
        pass
"""

GATED = ("--gpuperf", "--gpuperf-device=cpu", "--benchmark-max-time=0.2")


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # in workers, pytest-benchmark disables itself
    pytester.makepyfile(test_suite=SUITE)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess(*GATED, *arguments)


def test_a_slower_benchmark_fails_and_the_others_pass(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        run(pytester, "--benchmark-autosave").assert_outcomes(passed=4)
    unchanged = run(pytester)
    unchanged.assert_outcomes(passed=4)
    unchanged.stdout.fnmatch_lines(["*1 run compared with 3 baseline records"])
    # On a quiet machine a factor of 1.5 is red as well; this one is so beside other work, too.
    monkeypatch.setenv("SLOWER", "8")
    slower = run(
        pytester, "--gpuperf-report=r.md", "--gpuperf-report=r.html", "--benchmark-autosave", "--junitxml=r.xml"
    )
    slower.assert_outcomes(passed=2, failed=2)
    slower.stdout.fnmatch_lines(
        [
            "test_suite.py::test_sleeps?1? regressed compared with 4 baseline records",
            "  concurrency 1 * ms * 1?.* ms  x* [[]x*, x*[]] *",
            "  gpuperf baseline accept * --reason *",
            "*benchmark 'sleep': 2 tests*",  # its own table, with its groups
        ]
    )
    assert "2 regressed" in (pytester.path / "r.md").read_text()
    assert "test_sleeps[1]" in (pytester.path / "r.html").read_text()
    assert "gpuperf pytest-benchmark concurrency=1 batch=1 p50_ns" in (pytester.path / "r.xml").read_text()
    # pytest-benchmark's files are written and compared as before, also for tests that the gate failed.
    saved = sorted((pytester.path / ".benchmarks").rglob("*.json"))
    names = [{entry["name"] for entry in json.loads(path.read_bytes())["benchmarks"]} for path in saved]
    assert names == [{"test_sleeps[1]", "test_sleeps[2]", "test_same"}] * 4
    command = [sys.executable, "-m", "pytest_benchmark", "compare", "--csv=out", *map(str, saved[::3])]
    subprocess.run(command, cwd=pytester.path, check=True, capture_output=True)
    assert len((pytester.path / "out.csv").read_text().splitlines()) == 7


def test_workers_of_xdist_say_that_nothing_was_measured(pytester: pytest.Pytester) -> None:
    result = run(pytester, "-n", "2", "--gpuperf-require-baseline")
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines(["*NOT MEASURED: pytest-benchmark disables itself under pytest-xdist; *without -n*"])
    assert not list((pytester.path / ".gpuperf").rglob("*Z-*.json"))


def test_beside_a_gpu_its_guard_watches_the_rounds(
    pytester: pytest.Pytester, mock_nvml: MockNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in mock_nvml.environment(TICK_S=0.02, REASONS=0x40, PROCESSES=f"self:{128 << 20}").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    result = pytester.runpytest_subprocess("--gpuperf", "-k", "sleeps and 2")
    result.assert_outcomes(passed=1, deselected=3)
    result.stdout.fnmatch_lines(["*disturbed: thermal throttling (hw_thermal) in 1 of 1 window*"])
    (file,) = (pytester.path / ".gpuperf").rglob("*Z-*.json")
    record = json.loads(file.read_bytes())["record"]
    (window,) = record["runs"][0]["windows"]
    assert (record["device_kind"], record["key"]["device"]) == ("gpu", "NVIDIA Mock 80GB")
    assert (window["requests"], window["memory"]["target_bytes"]) == (60, 128 << 20)
    assert window["energy"] == []  # a counter can't tell the rounds from what lies between them


def test_without_gpuperf_it_is_a_suite_like_any_other(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--benchmark-max-time=0.1", "--benchmark-json=out.json")
    result.assert_outcomes(passed=4)
    assert not re.search("gpuperf:|= gpuperf =", result.stdout.str())
    assert "gpuperf" not in json.loads(Path(pytester.path, "out.json").read_bytes())["machine_info"]
