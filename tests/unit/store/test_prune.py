from __future__ import annotations

from datetime import date

import pytest

from pytest_gpuperf.store import RecordFile, prunable
from pytest_gpuperf.store.layout import parse_path


def record_file(day: int, *, accepted: bool = False, pinned: bool = False, ending: str = "") -> RecordFile:
    return parse_path(f"202601{day:02}T120000000Z-12345678-s{day}{ending}.json", accepted=accepted, pinned=pinned)


def gone(files: list[RecordFile], *, keep: int | None = None, older_than: date | None = None) -> list[str]:
    return [file.id for file in prunable(files, keep=keep, older_than=older_than)]


HISTORY = [record_file(day) for day in range(10, 0, -1)]


def test_the_newest_stay() -> None:
    assert gone(HISTORY, keep=7) == ["s3", "s2", "s1"]
    assert gone(HISTORY, keep=10) == []


def test_what_is_young_stays() -> None:
    assert gone(HISTORY, older_than=date(2026, 1, 3)) == ["s2", "s1"]


def test_both_conditions_have_to_hold() -> None:
    assert gone(HISTORY, keep=9, older_than=date(2026, 1, 5)) == ["s1"]
    assert gone(HISTORY, keep=2, older_than=date(2026, 1, 2)) == ["s1"]


def test_what_is_pinned_stays() -> None:
    assert gone([record_file(3), record_file(2, pinned=True), record_file(1)], keep=1) == ["s1"]


def test_the_newest_acceptance_stays_and_older_ones_go() -> None:
    files = [record_file(4), record_file(3), record_file(2, accepted=True), record_file(1, accepted=True)]
    assert gone(files, keep=1) == ["s3", "s1"]


def test_the_newest_that_may_be_a_baseline_stays() -> None:
    files = [record_file(4, ending=".rejected"), record_file(3, ending=".rejected"), record_file(2), record_file(1)]
    assert gone(files, keep=1) == ["s3", "s1"]


def test_the_newest_duet_stays_since_it_shows_the_spread() -> None:
    files = [record_file(4), record_file(3, ending=".duet"), record_file(2, ending=".duet"), record_file(1)]
    assert gone(files, keep=1) == ["s2", "s1"]


@pytest.mark.parametrize("files", [[], HISTORY[:1]])
def test_the_last_record_never_goes(files: list[RecordFile]) -> None:
    assert gone(files, keep=0, older_than=date(2090, 1, 1)) == []
