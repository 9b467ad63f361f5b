"""Histories of a metric: any values, and a step."""

from __future__ import annotations

from dataclasses import replace

from pytest_gpuperf.report.history import History, HistoryPoint, Shift
from tests.unit.factories import utc


def moment(index: int, value: float = 4e6, state: str = "") -> HistoryPoint:
    return HistoryPoint(utc(1440 * index), value, f"{index:012x}", f"{index:08x}ff", state)


def history(*values: float, metric: str = "p50") -> History:
    points = tuple(moment(index, value) for index, value in enumerate(values))
    return History("tests/test_a.py::test_a", "NVIDIA L4", "0123456789ab", "serving", "concurrency 4", metric, points)


STEP = replace(history(*[4e6] * 10, *[5e6] * 10), shifts=(Shift(10, 4e6, 5e6, 0.0025),))
