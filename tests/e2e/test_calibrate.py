"""``gpuperf calibrate`` on a suite that sleeps."""

from __future__ import annotations

import pytest

from pytest_gpuperf.store import Store
from tests.e2e.invocations import COMMON, GPUPERF, Run

SUITE = """
    import time

    def test_sleep(gpuperf):
        gpuperf.sweep(lambda: time.sleep(0.004), name="sleep", window_s=0.1)
"""


def test_the_gate_uses_the_calibration(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_suite=SUITE)
    pytester.makeini("[pytest]\ngpuperf_require_baseline = true")
    done = pytester.run(*GPUPERF, "calibrate", "test_suite.py", "--records", "2", "--store", ".gpuperf", "--", *COMMON)
    assert done.ret == 0, done.stdout.str() + done.stderr.str()
    done.stdout.fnmatch_lines(["*test_suite.py::test_sleep: false alarms in * of 2 records*", "*p50: records differ*"])
    (prior,) = (pytester.path / ".gpuperf").rglob("*.prior")
    assert not list(Store(str(pytester.path / ".gpuperf")).folders())
    prior.write_text("{")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"*{prior.name}*", "*is not complete JSON*", "*delete it to use the calibration before it*"]
    )
    prior.unlink()
    run("-o", "gpuperf_require_baseline=false").assert_outcomes(passed=1)
