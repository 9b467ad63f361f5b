"""The plugin together with other features and plugins of pytest."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from tests.e2e.invocations import CALLABLES, GPUPERF, Run, Start
from tests.processes import survivors


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=CALLABLES)


def test_without_the_option_it_is_a_smoke_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        CALLS = []

        def test_smoke(gpuperf):
            curve = gpuperf.sweep(lambda: CALLS.append(1), concurrency=[1, 4], name="calls")
            assert not curve.measured and not gpuperf.enabled
            assert curve.require(p90_ms=50).throughput > 400
            assert len(CALLS) == 5  # each concurrent caller once at each load point
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:benchmark")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["smoke run: targets answered at 2 load points; nothing was measured or stored*"])
    assert not (pytester.path / ".gpuperf").exists()


def test_a_smoke_run_in_workers_of_xdist_is_shown_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_smoke(gpuperf, number):
            gpuperf.sweep(lambda: None, concurrency=[1, 2])

        def test_without_gpuperf(): ...
        """
    )
    result = pytester.runpytest_subprocess("-n", "2", "-p", "no:benchmark")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["smoke run: targets answered at 6 load points; nothing was measured or stored*"])
    assert result.stdout.str().count("smoke run:") == 1


def test_a_broken_target_fails_the_smoke_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite="def test_smoke(gpuperf):\n    gpuperf.sweep(lambda: 1 / 0, name='broken')\n")
    result = pytester.runpytest_subprocess("-p", "no:benchmark")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*gives no correct answers*ZeroDivisionError*"])


@pytest.mark.parametrize("options", [(), ("--gpuperf", "--gpuperf-device=cpu")], ids=["smoke", "measured"])
def test_calls_that_return_before_the_work_fail(pytester: pytest.Pytester, options: tuple[str, ...]) -> None:
    pytester.makepyfile(
        test_suite="""
        async def infer(): ...

        def stream():
            yield 1

        def test_async(gpuperf):
            gpuperf.sweep(infer, concurrency=[2])

        def test_hidden(gpuperf):
            gpuperf.sweep(lambda: stream(), concurrency=[2], name="hidden")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:benchmark", *options)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "infer can't be measured: it returns a coroutine,*write lambda: asyncio.run(infer())*",
            "*gives no correct answers: not begun: the call returns a generator,*write lambda: list(stream()).*",
        ]
    )


def test_collect_only_measures_nothing(run: Run, pytester: pytest.Pytester) -> None:
    result = run("--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_slow*", "*test_other*"])
    assert not (pytester.path / ".gpuperf").exists()


def test_exit_first_select_and_last_failed(run: Run) -> None:
    run("-k", "slow")
    stopped = run("-x", SLOWER="8")
    stopped.assert_outcomes(failed=1)
    again = run("--lf", SLOWER="8")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*FAILED test_suite.py::test_slow*"])


def test_junit_has_the_failure_and_the_numbers(run: Run, pytester: pytest.Pytester) -> None:
    run("-k", "slow")
    run("-k", "slow", "--junitxml=report.xml", SLOWER="8")
    case = ET.parse(pytester.path / "report.xml").getroot().find(".//testcase")
    assert case is not None
    failure = case.find("failure")
    assert failure is not None
    assert "regressed compared with 1 baseline record" in failure.attrib["message"]
    properties = {element.attrib["name"]: element.attrib["value"] for element in case.iter("property")}
    assert properties["gpuperf_verdict"] == "regressed"
    assert float(properties["gpuperf sleep concurrency=1 batch=1 p50_ns"]) > 16e6
    assert float(properties["gpuperf sleep concurrency=1 batch=1 host_memory_bytes"]) > 1 << 20


def test_workers_of_xdist_take_turns_and_report_once(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import time
        import pytest

        @pytest.mark.parametrize("number", range(3))
        def test_turns(gpuperf, number, tmp_path_factory):
            times = []

            def call():
                times.append(time.monotonic())
                time.sleep(0.002)

            gpuperf.sweep(call, name="sleep", window_s=0.1)
            with open(tmp_path_factory.getbasetemp().parent / f"span-{number}", "w") as file:
                file.write(f"{times[0]} {times[-1]}")
        """
    )
    result = run("-n", "2", f"--basetemp={pytester.path / 'temp'}")
    result.assert_outcomes(passed=3)
    spans = sorted(tuple(map(float, path.read_text().split())) for path in (pytester.path / "temp").glob("span-*"))
    assert len(spans) == 3
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert result.stdout.str().count("NO BASELINE yet") == 3
    run("-n", "2", f"--basetemp={pytester.path / 'temp'}").stdout.fnmatch_lines(["*compared with 1 baseline record*"])


def test_control_c_keeps_what_was_measured(start: Start, pytester: pytest.Pytester) -> None:
    started = start("-k", "slow")
    started.wait_for("run 1 of 2 done")
    started.send(signal.SIGINT)
    assert started.wait() == pytest.ExitCode.INTERRUPTED
    assert survivors(started.children) == []
    assert "measurement cut short after 1 run; stored, but never used as a baseline" in started.output
    listing = pytester.run(*GPUPERF, "baseline", "list")
    listing.stdout.fnmatch_lines(["*cut short*test_slow*"])
    after = pytester.runpytest_subprocess(
        "--gpuperf", "--gpuperf-device=cpu", "--gpuperf-runs=2", "-p", "no:benchmark", "-k", "slow"
    )
    after.stdout.fnmatch_lines(["*NO BASELINE yet*"])


def test_a_terminal_sees_a_bar_and_keeps_its_lines(pytester: pytest.Pytester) -> None:
    command = f"{sys.executable} -m pytest --gpuperf --gpuperf-device=cpu --gpuperf-runs=2 -p no:benchmark -k slow"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], cwd=pytester.path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "[####" in done.stdout
    assert " left " in done.stdout
    # The bar is drawn below pytest's line and taken away again.
    assert re.search(r"\n\x1b\[K\x1b\[A\x1b\[\d+G\.", done.stdout.replace("\r", ""))


def test_the_light_modules_import_nothing_heavy() -> None:
    code = (
        "import sys, pytest_gpuperf.plugin; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'numpy', 'scipy', 'pynvml', 'grpc', 'tritonclient', 'gevent', 'fsspec', 'onnxruntime', 'httptools'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unused_plugin_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        import sys

        def test_nothing():
            assert not {"numpy", "scipy", "pynvml", "pytest_gpuperf.session.hooks"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:benchmark", "-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_an_error_of_a_callable_has_a_traceback_on_request(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_suite="""
        def deep(x):
            return x + ""

        def test_fails(gpuperf):
            def infer():
                return deep(7)
            gpuperf.sweep(infer)
        """
    )
    plain = pytester.runpytest_subprocess("-p", "no:benchmark").stdout
    plain.fnmatch_lines(["*gives no correct answers: TypeError: *", '*raised at *test_suite.py:2: return x + ""'])
    plain.no_fnmatch_line("*return deep(7)*")
    for option in ("-vv", "--tb=long", "--tb=short"):
        shown = pytester.runpytest_subprocess("-p", "no:benchmark", option).stdout
        shown.fnmatch_lines(["*return deep(7)*", "*return x + *", "E * TypeError: *"])
        shown.no_fnmatch_line("*inprocess.py*")
