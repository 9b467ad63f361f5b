from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from pytest_gpuperf.model import Comparison, LoadPoint, Record, Verdict, curves_of
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.publish.reported import MOST_HISTORY, reported_of
from pytest_gpuperf.store import RecordFile, Store
from tests.unit.cli.stores import measured
from tests.unit.factories import KEY, equal_runs, record, run, window


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Forty days of one test."""
    store = Store(str(tmp_path / "store"))
    for day in range(40):
        measured(store, f"aaaa{day:02}", day=day, status="incomplete" if day == 30 else "complete")
    return store


HEAD = record(equal_runs(4.0, load_points=2), name="bbbb", minute=41 * 1440)
COMPARED = Comparison(Verdict.UNCHANGED, baseline=("aaaa39", "aaaa38", "gone"))


@pytest.fixture
def baseline(store: Store) -> tuple[Record, ...]:
    """What a gate has read, newest first."""
    return tuple(store.read(file) for file in islice(store.newest(store.folder(KEY)), 5))


class CountingStore(Store):
    """A store that counts the records that are read from it."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reads: list[str] = []

    def read(self, entry: RecordFile) -> Record:
        self.reads.append(entry.id)
        return super().read(entry)


def test_a_comment_has_the_newest_record_of_the_baseline(store: Store, baseline: tuple[Record, ...]) -> None:
    outcome = TestOutcome(HEAD, COMPARED, baseline, "path", " --store x", "error", "t.py", 3)
    test = reported_of(store, outcome)
    assert [base.id for base in test.baseline] == ["aaaa39"]
    assert [len(curve) for curve in test.base_curves] == [2]
    assert test.history == ()
    assert (test.path, test.store_option, test.error, test.file, test.line) == (
        "path",
        " --store x",
        "error",
        "t.py",
        3,
    )


def test_charts_have_the_whole_baseline_and_the_records_before_it(store: Store, baseline: tuple[Record, ...]) -> None:
    test = reported_of(store, TestOutcome(HEAD, COMPARED, baseline), charts=True)
    assert [base.id for base in test.baseline] == ["aaaa39", "aaaa38"]
    assert len(test.history) <= MOST_HISTORY
    assert [each.id for each in test.history[-3:]] == ["aaaa38", "aaaa39", "bbbb"]
    assert "aaaa30" not in {each.id for each in test.history}


def test_nothing_is_read_that_the_gate_has_read(store: Store, baseline: tuple[Record, ...]) -> None:
    counting = CountingStore(store.url)
    outcome = TestOutcome(HEAD, COMPARED, baseline)
    reported_of(counting, outcome)
    assert counting.reads == []
    reported_of(counting, outcome, charts=True)
    assert len(counting.reads) == MOST_HISTORY - 1 - 2
    assert not {"aaaa39", "aaaa38"} & set(counting.reads)


def test_an_older_record_has_no_future(store: Store) -> None:
    old = record(equal_runs(4.0, load_points=2), name="cccc", minute=5 * 1440 + 10)
    test = reported_of(store, TestOutcome(old, Comparison(Verdict.NO_BASELINE)), charts=True)
    assert [each.id for each in test.history] == ["aaaa00", "aaaa01", "aaaa02", "aaaa03", "aaaa04", "aaaa05", "cccc"]


def test_charts_leave_a_damaged_record_out(store: Store, tmp_path: Path) -> None:
    (path,) = (tmp_path / "store").rglob("*aaaa39.json")
    path.write_text("{")
    test = reported_of(store, TestOutcome(HEAD, COMPARED), charts=True)
    assert [each.id for each in test.history[-2:]] == ["aaaa38", "bbbb"]


def test_the_other_side_of_a_duet_is_its_base(store: Store) -> None:
    duet = replace(HEAD, reference=HEAD.runs[:1])
    test = reported_of(store, TestOutcome(duet, Comparison(Verdict.UNCHANGED, mode="duet")), charts=True)
    assert test.base_curves == curves_of(HEAD.runs[:1])
    assert (test.baseline, test.history) == ((), ())


def test_curves_are_in_the_order_of_their_loads() -> None:
    points = [LoadPoint(8), LoadPoint(1, 4), LoadPoint(2), LoadPoint(0, 1, 50.0, "poisson")]
    runs = [run(*(window(point, sweep=name) for point in points), sweep=name) for name in ("b", "a")]
    curves = curves_of(runs)
    assert [curve.name for curve in curves] == ["b", "a"]
    assert [point.load for point in curves[0]] == [points[3], points[2], points[0], points[1]]
