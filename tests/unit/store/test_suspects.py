"""Records that wait, and notes about records that the end of their invocation judged otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import Store, export_records, import_records, move, prunable, select_baseline
from pytest_gpuperf.store.notes import Pruning
from pytest_gpuperf.store.union import superseded
from tests.unit.factories import KEY, TEST, record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def write(store: Store, name: str, minute: int, gate: str = "passed", verdict: str = "") -> Record:
    written = replace(record(name=name, minute=minute, gate=gate), verdict=verdict)
    store.write(written)
    return written


def chosen(store: Store) -> list[str]:
    return [each.id for each in select_baseline(store, KEY).records]


def test_suspect_records_wait_however_many_they_are(store: Store) -> None:
    """A level that creeps makes suspects in succession: none of them becomes what the next is compared with."""
    write(store, "a0", 0, "open")
    for minute in (1, 2, 3):
        write(store, f"b{minute}", minute, "suspect", "inconclusive")
    assert chosen(store) == ["a0"]
    assert [file.waits for file in store.newest(store.folder(KEY))] == [True, True, True, False]
    write(store, "a4", 4, verdict="inconclusive")
    assert chosen(store) == ["a4", "a0"]


@pytest.mark.parametrize("verdict", ["unchanged", "improved"])
def test_a_later_record_that_is_no_worse_clears_a_suspect(store: Store, verdict: str) -> None:
    write(store, "a0", 0, "open")
    write(store, "b1", 1, "suspect", "inconclusive")
    write(store, "a2", 2, verdict=verdict)
    write(store, "b3", 3, "suspect", "inconclusive")
    assert chosen(store) == ["a2", "b1", "a0"]
    before = store.find("a2")
    assert [each.id for each in select_baseline(store, KEY, before=before).records] == ["a0"]


def test_records_that_failed_or_inherited_a_regression_are_not_cleared(store: Store) -> None:
    write(store, "c0", 0, "failed", "regressed")
    write(store, "c1", 1, "inherited", "inherited")
    write(store, "a2", 2, verdict="unchanged")
    assert chosen(store) == ["a2"]


def test_an_accepted_suspect_begins_the_baseline(store: Store) -> None:
    write(store, "a0", 0, "open")
    write(store, "b1", 1, "suspect", "inconclusive")
    store.accept(store.find("b1"), "a cheaper model")
    assert chosen(store) == ["b1"]


def test_a_judgement_decides_instead_of_the_record(store: Store) -> None:
    write(store, "a0", 0, "open")
    for name, minute, gate, verdict in (
        ("b1", 1, "suspect", "inconclusive"),
        ("b2", 2, "failed", "regressed"),
        ("b3", 3, "passed", "unchanged"),
    ):
        store.judge(write(store, name, minute, verdict="inconclusive"), gate, verdict)
    read = [store.read(file) for file in store.newest(store.folder(KEY))]
    assert [(each.id, each.gate, each.verdict) for each in read] == [
        ("b3", "passed", "unchanged"),
        ("b2", "failed", "regressed"),
        ("b1", "suspect", "inconclusive"),
        ("a0", "open", ""),
    ]
    assert chosen(store) == ["b3", "b1", "a0"]


def test_the_same_verdict_needs_no_note(store: Store) -> None:
    same = write(store, "a0", 0, verdict="unchanged")
    store.judge(same, "passed", "unchanged")
    assert store.find("a0").judgement == ""


def test_a_damaged_judgement_is_named(store: Store) -> None:
    write(store, "a0", 0, "open")
    store.judge(write(store, "b1", 1), "passed", "unchanged")
    note = Path(store.find("b1").judgement)
    note.write_bytes(note.read_bytes()[:-9])
    baseline = select_baseline(store, KEY)
    assert [each.id for each in baseline.records] == ["a0"]
    assert ".judged." in str(baseline.unreadable[0])


@pytest.mark.parametrize("place", ["other", "export.tar"])
def test_judgements_travel_with_their_records(store: Store, tmp_path: Path, place: str) -> None:
    store.judge(write(store, "b1", 1), "failed", "regressed")
    destination = str(tmp_path / place)
    export_records(store, [(store.folder(KEY), file) for file in store.newest(store.folder(KEY))], destination)
    target = Store(str(tmp_path / "target"))
    assert import_records(target, destination).joining == 0
    assert target.read(target.find("b1")).gate == "failed"
    assert import_records(target, destination).known == 1


def test_an_import_does_not_judge_records_that_are_here_already(store: Store, tmp_path: Path) -> None:
    failed = write(store, "b1", 1, "failed", "regressed")
    other = Store(str(tmp_path / "other"))
    other.write(failed)
    other.judge(failed, "passed", "unchanged")
    import_records(store, other.url)
    assert store.read(store.find("b1")).gate == "failed"


def test_a_judgement_of_another_record_or_gate_is_refused(store: Store, tmp_path: Path) -> None:
    store.judge(write(store, "b1", 1), "failed", "regressed")
    note = Path(store.find("b1").judgement)
    note.rename(note.with_name(note.name.replace(".judged.rejected", ".judged.unchanged")))
    with pytest.raises(StoreError, match="another name than its content"):
        import_records(Store(str(tmp_path / "target")), store.url)


def test_judgements_follow_a_move_and_go_with_a_pruning(store: Store) -> None:
    store.judge(write(store, "b1", 1), "suspect", "inconclusive")
    write(store, "a2", 2, verdict="unchanged")
    move(store, TEST, "tests/test_new.py::test_resnet50")
    moved = store.find("b1")
    assert moved.cleared
    assert store.read(moved).gate == "suspect"
    folder = str(Path(moved.path).parent.parent)
    files = list(store.newest(folder))
    store.delete(folder, prunable(files, older_than=date(2030, 1, 1)), "old")
    assert not [path for path in store.paths() if ".judged" in path]


def test_a_pruning_of_the_other_side_supersedes_the_judgement() -> None:
    folder = "cpu/test-0/0123456789ab"
    path = f"{folder}/2026-01-01/20260101T000000000Z-nocommit-b1.json"
    note = f"{path}.judged.rejected.json"
    pruning = Pruning(("b1",), "me", "old", "2026-01-02T00:00:00.000+00:00")
    assert superseded([path, note], {f"{folder}/pruned/x.json": pruning}) == {path, note}


def test_a_renamed_suspect_does_not_join(store: Store) -> None:
    write(store, "a0", 0, "open")
    write(store, "b1", 1, "suspect", "inconclusive")
    path = Path(store.find("b1").path)
    path.rename(path.with_name(path.name.replace(".suspect", "")))
    assert chosen(store) == ["a0"]


def test_a_missing_record_is_an_error_before_its_judgement(store: Store) -> None:
    store.judge(write(store, "b1", 1), "failed", "regressed")
    file = store.find("b1")
    Path(file.path).unlink()
    with pytest.raises(UnreadableRecord, match="can't be read"):
        store.read(file)
