from __future__ import annotations

import json
import math
from dataclasses import replace

from pytest_gpuperf.model import Budget, LoadPoint, PointCost
from pytest_gpuperf.report.exchange.report_json import VERSION, json_text
from tests.unit.reports import HOSTILE, reported


def test_the_document_has_every_figure() -> None:
    expected = reported(6.0, error="no")
    expected = replace(
        expected,
        record=replace(expected.record, budgets=(Budget.of_ms(p90_ms=50), Budget.of_ms(p90_ms=50, p99_ms=80.5))),
        costs=(PointCost("serving", LoadPoint(2), "g6.xlarge", 0.8, 1.1, 200.0, 9e6),),
    )
    actual = json.loads(json_text([expected, reported()], title="t", generated_utc="2026-01-01T00:00:00+00:00"))
    assert actual["gpuperf_report"] == VERSION
    assert (actual["verdict"], actual["counts"]) == ("regressed", {"regressed": 1, "unchanged": 1})
    assert actual["failed"] == sum(bool(test["error"]) for test in actual["tests"])
    test = actual["tests"][0]
    assert (test["record"], test["device"], test["verdict"]) == (expected.record.id, "NVIDIA L4", "regressed")
    assert (test["file"], test["line"], test["error"]) == ("tests/test_serving.py", 12, "no")
    points = test["curves"][0]["points"]
    assert [point["p90_ns"] for point in points] == [point.p90_ns for point in expected.curves[0]]
    assert [row["ratio"] for row in test["rows"]] == [row.ratio for row in expected.comparison.rows]
    assert test["costs"][0]["point"] == "concurrency 2"
    assert test["budgets"] == [{"metric": "p90", "limit_ms": 50.0}, {"metric": "p99", "limit_ms": 80.5}]
    assert test["baseline_commit"] == "feedfacecafe"


def test_numbers_that_json_lacks_are_null() -> None:
    expected = reported(6.0)
    rows = tuple(replace(row, high=math.inf, p_value=math.nan) for row in expected.comparison.rows)
    (test,) = json.loads(json_text([replace(expected, comparison=replace(expected.comparison, rows=rows))]))["tests"]
    assert {(row["high"], row["p_value"]) for row in test["rows"]} == {(None, None)}


def test_names_come_back_as_they_were() -> None:
    actual = json.loads(json_text([reported(test=name) for name in HOSTILE]))
    assert [test["test"] for test in actual["tests"]] == list(HOSTILE)


def test_an_empty_report_is_a_document() -> None:
    assert json.loads(json_text([]))["tests"] == []
