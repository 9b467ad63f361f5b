from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from pytest_gpuperf.model import LoadPoint, ReportedTest, curves_of
from pytest_gpuperf.report.exchange.record_csv import records_csv
from pytest_gpuperf.report.page.latency_charts import request_charts
from pytest_gpuperf.report.page.sweep_charts import SweepView
from tests.unit.factories import guarded, record, run, server_times, window
from tests.unit.reports import reported

PERF_CLIENT = "Concurrency,Inferences/Second,Client Send,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"


def with_runs(test: ReportedTest, *points: LoadPoint, sweep: str = "serving", served: bool = False) -> ReportedTest:
    windows = [window(point, sweep=sweep, server=server_times() if served else None) for point in points]
    made = replace(record(), runs=(run(*windows, sweep=sweep),))
    return replace(test, record=replace(made, test=test.record.test), curves=curves_of(made.runs))


def test_one_sweep_is_perf_client_s_table() -> None:
    test = reported(2.0, load_points=3)
    assert records_csv([test]).splitlines()[0] == PERF_CLIENT
    actual = list(csv.DictReader(io.StringIO(records_csv([test]))))
    assert sorted(int(row["Concurrency"]) for row in actual) == [1, 2, 4]
    by_load = {int(row["Concurrency"]): row for row in actual}
    for point in test.curves[0]:
        assert float(by_load[point.concurrency]["Inferences/Second"]) == pytest.approx(point.throughput, rel=1e-5)
        assert int(by_load[point.concurrency]["p90 latency"]) == int(point.p90_ns / 1000)


def test_disturbed_windows_count_only_without_others() -> None:
    test = reported()
    calm = window(LoadPoint(4), p50_ms=10.0)
    disturbed = guarded(window(LoadPoint(4), p50_ms=30.0, visit=1), "throttled")
    made = replace(record(), runs=(run(calm, disturbed),))
    test = replace(test, record=replace(made, test=test.record.test), curves=curves_of(made.runs))
    (row,) = csv.DictReader(io.StringIO(records_csv([test])))
    (point,) = test.curves[0]
    assert int(row["p90 latency"]) == int(point.p90_ns / 1000)
    assert float(row["Inferences/Second"]) == pytest.approx(point.throughput, rel=1e-5)
    figures = {figure.kind: figure for figure in request_charts(SweepView(test, test.curves[0])) if figure}
    p90 = figures["distribution"].views[0].rules[1]
    assert p90.text == "p90 now"
    assert p90.x == pytest.approx(point.p90_ms)


def test_several_tables_are_told_apart() -> None:
    open_loop = with_runs(reported(), LoadPoint(0, 1, 500.0, "poisson"), sweep="=cmd()")
    served = with_runs(reported(), LoadPoint(4, 8), served=True)
    actual = list(csv.DictReader(io.StringIO(records_csv([open_loop, served]))))
    assert [(row["Sweep"], row["Batch Size"], row["Concurrency"], row["Request Rate"]) for row in actual] == [
        ("'=cmd()", "1", "", "500"),
        ("serving", "8", "4", ""),
    ]
    assert [row["Server Compute Infer"] for row in actual] == ["", "600"]


def test_an_empty_report_is_an_empty_file() -> None:
    assert records_csv([]) == ""
