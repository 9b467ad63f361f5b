"""Contexts as a user's options make them, and tests that have measured plain numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_gpuperf.session.context import Context, read_context
from pytest_gpuperf.session.marker import Marker
from pytest_gpuperf.session.measured_test import MeasuredTest
from pytest_gpuperf.session.sweeps import Sweep
from pytest_gpuperf.store import Baseline, select_baseline
from tests.unit.factories import points, record

TEST = "test_suite.py::test_model"


def context_of(pytester: pytest.Pytester, *arguments: str) -> Context:
    """Return the context of ``pytest --gpuperf`` on the CPU, with further arguments."""
    return read_context(pytester.parseconfig("--gpuperf", "--gpuperf-device=cpu", *arguments))


def measured(
    context: Context, p50_ms: Sequence[Sequence[float]] = ((4.0,),) * 3, *, baseline: Baseline | None = None
) -> MeasuredTest:
    """Return a test whose sweep has measured these medians, by run and load point.

    Args:
        baseline: What it is compared with; the store's when None.
    """
    test = MeasuredTest(context, TEST, Marker())
    sweep = Sweep("serving", points(len(p50_ms[0])), len(p50_ms), 0.5, list(record(p50_ms).runs))
    test.sweeps.append(sweep)
    test.baseline = select_baseline(context.store, context.key(TEST, 1)) if baseline is None else baseline
    return test
