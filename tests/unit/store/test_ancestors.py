from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.store import MergeBase, MergeBaseRecords, Store, merge_base_records
from tests.unit.factories import KEY, record

#: Commits of the main branch, newest first.
COMMITS = tuple(f"{number:x}" * 40 for number in range(10, 15))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def add(store: Store, name: str, commit: str, minute: int, gate: str = "failed", **fields: Any) -> str:
    verdict = {"failed": "regressed", "passed": "unchanged"}.get(gate, gate)
    made = record(name=name, minute=minute, gate=gate, commit=commit)
    return store.write(replace(made, **{"verdict": verdict, **fields}))


def of(store: Store, *commits: str) -> MergeBaseRecords:
    records = merge_base_records(store, KEY, MergeBase(commits or COMMITS))
    assert records is not None
    return records


def names(records: MergeBaseRecords) -> list[str]:
    return [each.id for each in records.records]


def test_the_newest_records_of_the_merge_base_count_although_they_were_rejected(store: Store) -> None:
    add(store, "a0", COMMITS[1], 1)
    add(store, "b0", COMMITS[0], 2)
    add(store, "b1", COMMITS[0], 3)
    add(store, "c0", "f" * 40, 4)
    add(store, "d0", COMMITS[0][:8] + "0" * 32, 5)  # the same first digits
    records = of(store)
    assert names(records) == ["b1", "b0"]
    assert records.since == COMMITS[1]


def test_else_those_of_the_nearest_commit_before_it(store: Store) -> None:
    add(store, "a0", COMMITS[3], 3)
    add(store, "a1", COMMITS[4], 4)
    assert names(of(store)) == ["a0"]


def test_a_merge_base_that_passed_leaves_nothing_to_inherit(store: Store) -> None:
    add(store, "a0", COMMITS[1], 1)
    add(store, "a1", COMMITS[0], 2, gate="passed")
    assert of(store) == MergeBaseRecords()


def test_records_that_say_nothing_about_their_commit_are_left_out(store: Store) -> None:
    add(store, "a0", COMMITS[0], 1, environment={"uncommitted_changes": True})
    add(store, "a1", COMMITS[0], 2, status="incomplete")
    add(store, "a2", COMMITS[1], 0)
    assert names(of(store)) == ["a2"]


@pytest.mark.parametrize(
    ("gates", "since"),
    [
        (["failed", "failed", "suspect", "passed", "failed"], 2),
        (["failed", "failed", "failed", "failed", "failed"], 4),
        (["inherited", "passed", "failed", "failed", "failed"], 0),
    ],
)
def test_the_first_commit_of_the_level_is_searched_backwards(store: Store, gates: list[str], since: int) -> None:
    for number, gate in enumerate(gates):
        add(store, f"a{number}", COMMITS[number], 10 - number, gate)
    assert of(store).since == COMMITS[since]


def test_a_record_that_failed_for_another_reason_neither_begins_nor_ends_the_level(store: Store) -> None:
    add(store, "a0", COMMITS[0], 9)
    add(store, "a1", COMMITS[1], 8, verdict="unchanged")
    add(store, "a2", COMMITS[2], 7)
    store.accept(next(file for file in store.newest(store.folder(KEY)) if file.id == "a2"), "larger model")
    add(store, "a3", COMMITS[3], 6)
    assert of(store).since == COMMITS[0]


def test_missing_and_damaged_records_are_named(store: Store) -> None:
    assert "no record of the merge base aaaaaaaa or of the 4 commits before it is stored" in of(store).problem
    Path(add(store, "a0", COMMITS[0], 1)).write_text("{")
    problem = of(store, COMMITS[0]).problem
    assert problem.startswith("no record of the merge base aaaaaaaa can be read: ")
    assert "a0.rejected.json" in problem
    assert merge_base_records(store, KEY, MergeBase()) is None
    assert merge_base_records(store, KEY, MergeBase(problem="shallow")) == MergeBaseRecords(problem="shallow")
