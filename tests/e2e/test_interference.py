"""Whatever makes figures lie is said, and keeps records from being compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.invocations import Run

SUITE = """
import sys, threading, pytest

def work():
    total = 0
    for number in range(2000):
        total += number % 3
    return total

def trace(frame, event, argument):
    return trace

@pytest.fixture
def traced(request):
    if request.config.getoption("--traced"):
        threading.settrace(trace)
        yield
        threading.settrace(None)
    else:
        yield

def test_work(gpuperf, traced):
    gpuperf.sweep(work, window_s=0.2, name="work")
"""


def test_a_test_under_a_tracer_is_not_compared_with_those_without(pytester: pytest.Pytester, run: Run) -> None:
    """The tracer makes this code several times slower."""
    pytester.makeconftest("def pytest_addoption(parser): parser.addoption('--traced', action='store_true')")
    pytester.makepyfile(SUITE)
    for _ in range(2):
        run().assert_outcomes(passed=1)
    result = run("--traced", "--gpuperf-report=report.md")
    result.assert_outcomes(passed=1)
    said = result.stdout.str() + Path("report.md").read_text()
    assert "traced_by is" in said
    assert "Python was measured under test_a_test_under_a_tracer_is_not_compared_with_those_without" in said
