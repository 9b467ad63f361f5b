"""The gate, from the command line."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.invocations import CALLABLES, GPUPERF, Run, record_files


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=CALLABLES)


def test_first_run_records_a_baseline_and_says_where(run: Run, pytester: pytest.Pytester) -> None:
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["*CPU*cores (no GPU)*", "*NO BASELINE yet: 2 runs, nothing to compare with*", "*stored as .gpuperf/cpu-*"]
    )
    assert len(record_files(pytester.path)) == 2


def test_nothing_changed_passes_and_says_what_it_compared_with(run: Run) -> None:
    run()
    result = run()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*2 runs compared with 1 baseline record*"])


def test_a_slower_target_fails_its_test_alone(run: Run) -> None:
    """Eight times as slow is detected on any machine; smaller factors are for test_compare."""
    run()
    result = run(SLOWER="8")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = result.stdout.str()
    assert re.search(r"FAILED test_suite.py::test_slow", text)
    assert "test_slow regressed compared with 1 baseline record" in text
    change = re.search(r"concurrency 1 +p50 +(\S+) ms +(\S+) ms +(?:\+(\d+)%|x([\d.]+)) \[\S+, \S+\]", text)
    assert change, text
    assert float(change[1]) == pytest.approx(4.2, rel=0.25)
    # On a busy machine the sleeps are slower, too; from tenfold on the change is written as a factor.
    assert change[4] or int(change[3]) == pytest.approx(680, abs=170)
    assert "throughput" in text
    # A record that failed does not join the baseline until it is accepted...
    assert run(SLOWER="8").ret == pytest.ExitCode.TESTS_FAILED
    assert run().ret == pytest.ExitCode.OK


def test_undecided_tests_get_up_to_max_runs(run: Run) -> None:
    arguments = ("-k", "slow", "--gpuperf-max-runs=3")
    run(*arguments).stdout.fnmatch_lines(["*2 runs, nothing to compare with*"])
    # One baseline record cannot show "unchanged", but it can show that eight times as slow is worse.
    run(*arguments).stdout.fnmatch_lines(["*inconclusive: 3 runs compared with 1 baseline record*"])
    run(*arguments, SLOWER="8").stdout.fnmatch_lines(["*regressed: 2 runs compared with*"])


def test_an_inconclusive_test_can_fail_and_joins_the_baseline(run: Run) -> None:
    strict = ("-k", "slow", "--gpuperf-on-inconclusive=fail")
    run(*strict).assert_outcomes(passed=1)
    # Few records cannot show "unchanged"; if inconclusive records did not join the baseline, they would stay few.
    for count in ("1 baseline record", "2 baseline records"):
        result = run(*strict)
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([f"*is inconclusive compared with {count} (--gpuperf-on-inconclusive fail)*"])
    assert "baseline accept" not in result.stdout.str()
    run("-k", "slow").stdout.fnmatch_lines(["*inconclusive: 2 runs compared with 3 baseline records*"])


def test_accepting_makes_the_new_level_the_baseline(run: Run, pytester: pytest.Pytester) -> None:
    run()
    failed = run(SLOWER="8").stdout.str()
    command = re.search(r"gpuperf baseline accept (\w+)", failed)
    assert command, failed
    before = {path: path.read_bytes() for path in record_files(pytester.path)}
    accepted = pytester.run(*GPUPERF, "baseline", "accept", command[1], "--reason", "a larger model")
    assert accepted.ret == 0
    accepted.stdout.fnmatch_lines(["*is the new baseline*a larger model*"])
    assert all(path.read_bytes() == content for path, content in before.items())
    run(SLOWER="8").assert_outcomes(passed=2)


def test_half_as_slow_again_is_never_unchanged(run: Run) -> None:
    run()
    result = run(SLOWER="1.5")
    slow = result.stdout.str().partition("test_suite.py::test_slow\n")[2].partition("::test_other")[0]
    assert "regressed" in slow or "inconclusive" in slow
    assert "unchanged" not in slow


def test_a_failing_assertion_is_reported_with_the_figures(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import time

        def test_budget(gpuperf):
            curve = gpuperf.sweep(lambda: time.sleep(0.005), name="sleep", window_s=0.1)
            assert curve.require(p90_ms=1).throughput > 0
        """
    )
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*BudgetMissed*no load point with p90 <= 1 ms*", "*stored as*"])
    (stored,) = record_files(pytester.path)
    assert json.loads(stored.read_text())["record"]["gate"] == "failed"


def test_a_damaged_baseline_is_named_and_is_not_a_missing_baseline(run: Run, pytester: pytest.Pytester) -> None:
    run("-k", "slow")
    (stored,) = record_files(pytester.path)
    content = stored.read_bytes()
    stored.write_bytes(content[: len(content) // 2])
    result = run("-k", "slow")
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert stored.name in text
    assert "is not complete JSON" in text
    assert "NO BASELINE" not in text
    assert "Traceback" not in text
    stored.write_bytes(content)
    run("-k", "slow").assert_outcomes(passed=1)
    stored.write_bytes(content.replace(b'"requests":', b'"requests": ', 1))  # other white space, the same content
    run("-k", "slow").assert_outcomes(passed=1)
    stored.write_bytes(re.sub(rb'"throughput":\d', b'"throughput":9', content, count=1))
    result = run("-k", "slow")  # other records can still be read
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"*unreadable*{stored.name}*", "*does not match its own checksum*"])


def test_failed_requests_fail_the_test(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import itertools
        import time

        def test_errors(gpuperf):
            number = itertools.count()

            def flaky():
                time.sleep(0.002)
                if next(number) % 5 == 0:
                    raise OSError("broken pipe to the accelerator")

            gpuperf.sweep(flaky, name="flaky", window_s=0.2)
        """
    )
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*too many requests failed*", "*requests failed (OSError x *"])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--gpuperf-runs=abc"], "--gpuperf-runs abc: write a whole number"),
        (["--gpuperf-runs=1"], "one start shows no spread"),
        (["--gpuperf-alpha=7"], "for example 5%"),
        (["--gpuperf-min-effect=-1%"], "for example 2%"),
        (["--gpuperf-on-inconclusive=explode"], "write warn or fail"),
        (["--gpuperf-store=gopher://hole"], "fsspec URL"),
        (["-o", "gpuperf_alpha=many"], "gpuperf_alpha = many"),
    ],
)
def test_a_wrong_option_says_what_to_write(run: Run, arguments: list[str], hint: str) -> None:
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert hint in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_a_wrong_device_says_what_is_there(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--gpuperf", "--gpuperf-device=GPU-123", "-p", "no:benchmark")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--gpuperf-device cpu" in result.stderr.str()


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        ("gpuperf.sweep(print, concurrency=0)", "concurrency=0: write a whole number of 1 or more"),
        ("gpuperf.sweep(print, concurrency=[1, 1])", "names the same value twice"),
        ("gpuperf.sweep(print, batch_size=8)", "has no parameter named batch_size"),
        ("gpuperf.sweep(42)", "42 can't be measured"),
        ("gpuperf.sweep(print, window_s=0)", "positive number of seconds"),
    ],
)
def test_a_wrong_argument_says_what_to_write(run: Run, pytester: pytest.Pytester, call: str, hint: str) -> None:
    pytester.makepyfile(test_suite=f"def test_wrong(gpuperf):\n    {call}\n")
    result = run()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert hint in text
    assert call in text  # the line of the user's code, and none of the plugin's
    assert "pytest_gpuperf/" not in text


def test_a_wrong_marker_says_what_to_write(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.gpuperf(min_efect=0.1)
        def test_wrong(gpuperf):
            pass
        """
    )
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*has no argument 'min_efect'; it has min_effect, version, runs*"])


def test_an_unwritable_store_ends_pytest_before_anything_is_measured(run: Run, pytester: pytest.Pytester) -> None:
    (pytester.path / "file").write_text("in the way")
    result = run("-k", "slow", "--gpuperf-store=file")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: The store *file can't be *", "*--gpuperf-store*"])
    assert "Traceback" not in result.stderr.str()
