"""Servers that only a balancer sees: what isn't known of them is not shown as a number."""

from __future__ import annotations

from dataclasses import replace

from pytest_gpuperf.model import Comparison, EndpointFigures, Verdict
from pytest_gpuperf.report.summary import RecordLocation, record_lines
from tests.unit.factories import curve, curve_point, equal_runs, histogram, record


def test_unknown_latencies_of_endpoints_are_dashes() -> None:
    endpoints = (
        EndpointFigures("127.0.0.1:8000", 500, 0, 250.0),
        EndpointFigures("127.0.0.1:8010", 501, 0, 250.5, histogram([2e6, 3e6])),
    )
    endpoint = curve(replace(curve_point(4), endpoints=endpoints))
    lines = record_lines(
        record(equal_runs()), [endpoint], Comparison(Verdict.NO_BASELINE), RecordLocation("stored.json")
    )
    shown = [line.split() for line in lines if "127.0.0.1" in line]
    assert shown[0] == ["127.0.0.1:8000", "500", "-", "-", "-", "250.0"]
    assert shown[1][3:5] != ["-", "-"]
