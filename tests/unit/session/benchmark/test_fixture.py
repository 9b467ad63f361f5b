"""Tests that use pytest-benchmark's fixture, with its real plugin."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_gpuperf.analysis.window import rounds_window
from pytest_gpuperf.model import ROUNDS, Record, Verdict
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.gate import GateDecision, conclude, gate
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.store import Store
from tests.unit.session.contexts import TEST, context_of

COMMON = ("--gpuperf", "--gpuperf-device=cpu", "--benchmark-max-time=0.05", "--benchmark-quiet")


@pytest.fixture(autouse=True)
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks of devices that no other process on this machine takes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("PYTEST_XDIST_WORKER", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


def records(pytester: pytest.Pytester) -> dict[str, Record]:
    """Return the newest record of each test, by the test's name."""
    store = Store(str(pytester.path / ".gpuperf"))
    stored = sorted(
        (store.read(entry) for folder in store.folders() for entry in store.newest(folder)),
        key=lambda record: record.created_utc,
    )
    return {record.test.rpartition("::")[2]: record for record in stored}


def test_every_use_of_the_fixture_is_a_record(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import time, unittest
        import pytest

        def test_calibrated(benchmark):
            benchmark(lambda: None)

        @pytest.mark.parametrize("rounds", [60, 2])
        def test_pedantic(benchmark, rounds):
            benchmark.pedantic(time.sleep, args=(1e-4,), rounds=rounds, iterations=3, warmup_rounds=1)

        def test_set_up(benchmark):
            benchmark.pedantic(lambda x: x, setup=lambda: ((1,), {}), rounds=5)
            benchmark.extra_info["answer"] = 42

        def test_dynamic(request):
            request.getfixturevalue("benchmark")(lambda: None)

        class TestCase(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def use(self, benchmark):
                self.benchmark = benchmark

            def test_method(self):
                self.benchmark(lambda: None)

        @pytest.mark.benchmark(timer=time.process_time, group="cpu", disable_gc=True)
        def test_clock(benchmark):
            benchmark.pedantic(lambda: sum(range(1_000)), rounds=5, iterations=100)

        def test_both(benchmark, gpuperf):
            gpuperf.sweep(lambda: time.sleep(1e-3), name="sleep", window_s=0.03)
            benchmark(lambda: None)

        @pytest.mark.gpuperf(benchmark=False)
        def test_out(benchmark):
            benchmark(lambda: None)

        def test_other():
            pass
        """
    )
    result = pytester.runpytest_inprocess(*COMMON, "--gpuperf-runs=2", "-v")
    result.assert_outcomes(passed=10)
    result.stdout.fnmatch_lines(["  2 rounds measured by pytest-benchmark, too few for p50 (10) and p90 (50)"])
    stored = records(pytester)
    assert sorted(stored) == sorted(
        [
            "test_calibrated",
            "test_pedantic[60]",
            "test_pedantic[2]",
            "test_set_up",
            "test_dynamic",
            "test_method",
            "test_clock",
            "test_both",
        ]
    )
    assert {(record.status, record.gate) for record in stored.values()} == {("complete", "open")}
    assert {record.rule.tests for record in stored.values() if record.rule} == {7}  # a fixture used late isn't foreseen
    (run,) = stored["test_pedantic[60]"].runs
    (window,) = run.windows
    assert (run.sweep, window.requests, run.complete) == (ROUNDS, 60, True)
    assert 1e5 < window.latency.quantile_ns(0.5) < 1e7
    assert window.window_s == pytest.approx(3 * 60 * window.latency_mean_ns / 1e9)
    assert window.throughput == pytest.approx(1e9 / window.latency_mean_ns)
    assert window.others_cpu_share is not None
    assert window.caller_wait_share is not None
    facts = stored["test_pedantic[60]"].under_test[ROUNDS]
    assert (facts["iterations"], facts["disable_gc"]) == (3, False)
    # Figures of another clock are not compared with those of the usual one.
    assert list(stored["test_clock"].under_test) == [f"{ROUNDS}, time.process_time"]
    assert [run.sweep for run in stored["test_both"].runs] == ["sleep", "sleep", ROUNDS]


def test_a_failure_is_no_baseline_and_loses_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        CALLS = []

        def broken():
            CALLS.append(1)
            if len(CALLS) > 3:
                raise ValueError("broken")

        def test_breaks(benchmark):
            benchmark.pedantic(broken, rounds=9)

        def test_stops(benchmark):
            benchmark.pedantic(lambda: CALLS.append(1) or len(CALLS) < 9 or pytest.fail("enough"), rounds=20)

        def test_fails_later(benchmark):
            benchmark.pedantic(lambda: None, rounds=9, iterations=9)
            pytest.fail("wrong answer")

        @pytest.mark.benchmark(timer=lambda: 5.0)
        def test_clock_stands_still(benchmark):
            benchmark.pedantic(lambda: None, rounds=9)

        @pytest.mark.gpuperf(benchmark="no")
        def test_wrong_marker(benchmark):
            benchmark(lambda: None)
        """
    )
    # A benchmark that is never begun warns, which is an error in these tests.
    result = pytester.runpytest_inprocess(*COMMON, "-Wignore")
    result.assert_outcomes(failed=4, errors=1)
    result.stdout.fnmatch_lines_random(
        [
            "*test_clock_stands_still took 0 s in 9 of its 9 rounds: it is shorter than the clock's resolution.*",
            "Nothing was measured: its clock is test_a_failure_is_no_baseline_and_loses_nothing.<lambda>.",
            "*benchmark='no'): write True or False.",
        ]
    )
    found = {name: (record.status, record.gate, len(record.runs)) for name, record in records(pytester).items()}
    assert found == {
        "test_breaks": ("incomplete", "failed", 1),
        "test_stops": ("incomplete", "failed", 1),
        "test_fails_later": ("complete", "failed", 1),
    }


@pytest.mark.parametrize("options", [(), ("--gpuperf-require-baseline",)])
def test_a_disabled_benchmark_is_not_silently_green(pytester: pytest.Pytester, options: Sequence[str]) -> None:
    pytester.makepyfile("def test_disabled(benchmark):\n    benchmark(lambda: None)")
    result = pytester.runpytest_inprocess(*COMMON, "--benchmark-disable", *options)
    result.assert_outcomes(**{"failed" if options else "passed": 1})
    result.stdout.fnmatch_lines(["  NOT MEASURED: pytest-benchmark is disabled (--benchmark-disable); add *-enable *"])
    assert not records(pytester)


@pytest.mark.parametrize("options", [("--benchmark-skip",), ("--benchmark-only",)])
def test_its_own_selection_still_selects(pytester: pytest.Pytester, options: Sequence[str]) -> None:
    pytester.makepyfile("def test_theirs(benchmark):\n    benchmark(lambda: None)\ndef test_other(): pass")
    pytester.runpytest_inprocess(*COMMON, *options).assert_outcomes(passed=1, skipped=1)
    assert list(records(pytester)) == (["test_theirs"] if options == ("--benchmark-only",) else [])


@pytest.mark.parametrize(
    "options", [("--gpuperf-device=cpu",), ("--gpuperf", "--gpuperf-device=cpu", "-pno:benchmark")]
)
def test_without_gpuperf_or_without_the_plugin_nothing_changes(
    pytester: pytest.Pytester, options: Sequence[str]
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def benchmark():
            return lambda call: call()

        def test_it(benchmark):
            benchmark(lambda: None)
        """
        if "-pno:benchmark" in options
        else "def test_it(benchmark):\n    benchmark(lambda: None)"
    )
    pytester.runpytest_inprocess(*options).assert_outcomes(passed=1)
    assert not (pytester.path / ".gpuperf").exists()


# The gate


def benchmarked(context: Context, factor: float, seed: int) -> MeasuredTest:
    """Return a test with rounds of about 2 ms times a factor; invocations differ by 2%, rounds by 5%."""
    chance = random.Random(seed)
    level = 2e-3 * factor * chance.lognormvariate(0, 0.02)
    test = MeasuredTest(context, TEST, Marker())
    rounds_s = [level * chance.lognormvariate(0, 0.05) for _ in range(200)]
    test.add_window(rounds_window(ROUNDS, rounds_s), {"iterations": 1}, complete=True)
    return test


def test_a_benchmark_that_takes_half_as_long_again_fails_and_an_unchanged_one_passes(
    pytester: pytest.Pytester,
) -> None:
    context = context_of(pytester)

    def decided(factor: float, seed: int) -> GateDecision:
        decision = gate(context, benchmarked(context, factor, seed), None)
        assert decision is not None
        conclude(context, decision, "")
        return decision

    for seed in range(4):
        decided(1.0, seed)
    unchanged, slower = decided(1.0, 9), decided(1.5, 9)
    assert not unchanged.failure
    assert unchanged.comparison.verdict is not Verdict.REGRESSED
    assert "p50" in slower.failure
    assert "regressed compared with 5 baseline records" in slower.failure
