from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.model import Comparison, LoadPoint, Verdict, curves_of
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.publish.reported import MOST_HISTORY, reported_of
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import measured
from tests.unit.factories import equal_runs, record, run, window


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Forty days of one test."""
    store = Store(str(tmp_path / "store"))
    for day in range(40):
        measured(store, f"aaaa{day:02}", day=day, status="incomplete" if day == 30 else "complete")
    return store


HEAD = record(equal_runs(4.0, load_points=2), name="bbbb", minute=41 * 1440)
COMPARED = Comparison(Verdict.UNCHANGED, baseline=("aaaa39", "aaaa38", "gone"))


def test_a_comment_needs_the_newest_record_of_the_baseline_only(store: Store) -> None:
    one = reported_of(store, TestOutcome(HEAD, COMPARED, "path", " --store x", "error", "t.py", 3))
    assert [base.id for base in one.baseline] == ["aaaa39"]
    assert [len(curve) for curve in one.base_curves] == [2]
    assert one.history == ()
    assert (one.path, one.store_option, one.error, one.file, one.line) == ("path", " --store x", "error", "t.py", 3)


def test_charts_have_all_of_it(store: Store) -> None:
    one = reported_of(store, TestOutcome(HEAD, COMPARED), deep=True)
    assert [base.id for base in one.baseline] == ["aaaa39", "aaaa38"]
    assert len(one.history) <= MOST_HISTORY
    assert [each.id for each in one.history[-3:]] == ["aaaa38", "aaaa39", "bbbb"]
    assert "aaaa30" not in {each.id for each in one.history}


def test_an_older_record_has_no_future(store: Store) -> None:
    old = record(equal_runs(4.0, load_points=2), name="cccc", minute=5 * 1440 + 10)
    one = reported_of(store, TestOutcome(old, Comparison(Verdict.NO_BASELINE)), deep=True)
    assert [each.id for each in one.history] == ["aaaa00", "aaaa01", "aaaa02", "aaaa03", "aaaa04", "aaaa05", "cccc"]


def test_a_damaged_neighbour_is_done_without(store: Store, tmp_path: Path) -> None:
    (path,) = (tmp_path / "store").rglob("*aaaa39.json")
    path.write_text("{")
    one = reported_of(store, TestOutcome(HEAD, COMPARED), deep=True)
    assert [base.id for base in one.baseline] == ["aaaa38"]


def test_the_other_side_of_a_duet_is_its_base(store: Store) -> None:
    duet = replace(HEAD, reference=HEAD.runs[:1])
    one = reported_of(store, TestOutcome(duet, Comparison(Verdict.UNCHANGED, mode="duet")), deep=True)
    assert one.base_curves == curves_of(HEAD.runs[:1])
    assert (one.baseline, one.history) == ((), ())


def test_curves_are_in_the_order_of_their_loads() -> None:
    points = [LoadPoint(8), LoadPoint(1, 4), LoadPoint(2), LoadPoint(0, 1, 50.0, "poisson")]
    runs = [run(*(window(point, sweep=name) for point in points), sweep=name) for name in ("b", "a")]
    curves = curves_of(runs)
    assert [curve.name for curve in curves] == ["b", "a"]
    assert [point.load for point in curves[0]] == [points[3], points[2], points[0], points[1]]


def test_budgets_are_those_that_the_test_asked_for(store: Store) -> None:
    head = replace(HEAD, settings={"budgets_ms": "p90=50 p99=80.5 p50=... p95=1e+06"})
    one = reported_of(store, TestOutcome(head, COMPARED))
    assert one.budgets == (("p90", 50.0), ("p99", 80.5), ("p95", 1e6))
