from __future__ import annotations

from datetime import date

import pytest

from pytest_gpuperf.store import RecordFile, prunable
from pytest_gpuperf.store.layout import parse_path


def entry(day: int, *, accepted: bool = False, pinned: bool = False, ending: str = "") -> RecordFile:
    return parse_path(f"202601{day:02}T120000000Z-12345678-s{day}{ending}.json", accepted=accepted, pinned=pinned)


def gone(entries: list[RecordFile], *, keep: int | None = None, older_than: date | None = None) -> list[str]:
    return [one.id for one in prunable(entries, keep=keep, older_than=older_than)]


HISTORY = [entry(day) for day in range(10, 0, -1)]


def test_the_newest_stay() -> None:
    assert gone(HISTORY, keep=7) == ["s3", "s2", "s1"]
    assert gone(HISTORY, keep=10) == []


def test_what_is_young_stays() -> None:
    assert gone(HISTORY, older_than=date(2026, 1, 3)) == ["s2", "s1"]


def test_both_conditions_have_to_hold() -> None:
    assert gone(HISTORY, keep=9, older_than=date(2026, 1, 5)) == ["s1"]
    assert gone(HISTORY, keep=2, older_than=date(2026, 1, 2)) == ["s1"]


def test_what_is_pinned_stays() -> None:
    assert gone([entry(3), entry(2, pinned=True), entry(1)], keep=1) == ["s1"]


def test_the_newest_acceptance_stays_and_older_ones_go() -> None:
    entries = [entry(4), entry(3), entry(2, accepted=True), entry(1, accepted=True)]
    assert gone(entries, keep=1) == ["s3", "s1"]


def test_the_newest_that_may_be_a_baseline_stays() -> None:
    entries = [entry(4, ending=".rejected"), entry(3, ending=".rejected"), entry(2), entry(1)]
    assert gone(entries, keep=1) == ["s3", "s1"]


def test_the_newest_duet_stays_since_it_shows_the_spread() -> None:
    entries = [entry(4), entry(3, ending=".duet"), entry(2, ending=".duet"), entry(1)]
    assert gone(entries, keep=1) == ["s2", "s1"]


@pytest.mark.parametrize("entries", [[], HISTORY[:1]])
def test_the_last_record_never_goes(entries: list[RecordFile]) -> None:
    assert gone(entries, keep=0, older_than=date(2090, 1, 1)) == []
