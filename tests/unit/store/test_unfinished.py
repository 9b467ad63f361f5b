from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_gpuperf.atomic_write import writer
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import Store, select_baseline, unfinished
from pytest_gpuperf.store.unfinished import drop_copy, keep_copy, store_unfinished
from tests.unit.factories import KEY, record

GOOD = record(name="killed", minute=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def keep_in_another_process(store: Store, measured: Record, *, stored: bool = False) -> None:
    """Keep a copy in a process that is killed then, and is left as a zombie."""
    child = os.fork()
    if not child:
        keep_copy(store, measured)
        if stored:
            store.write(measured)
        os.kill(os.getpid(), 9)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def ids(store: Store) -> list[tuple[str, bool]]:
    return [(file.id, file.rejected) for file in store.newest(store.folder(KEY))]


def test_the_copy_of_a_killed_process_is_stored_once_and_is_no_baseline(store: Store) -> None:
    keep_in_another_process(store, GOOD)
    assert ids(store) == []
    stored, problems = store_unfinished(store)
    assert ([measured.id for measured in stored], problems) == (["killed"], [])
    assert stored[0].runs == GOOD.runs
    assert ids(store) == [("killed", True)]
    assert not select_baseline(store, KEY).records
    assert store_unfinished(store) == ([], [])
    assert not Path(store.url, ".unfinished").exists()


def test_a_process_that_is_killed_after_storing_its_record_leaves_only_that(store: Store) -> None:
    keep_in_another_process(store, GOOD, stored=True)
    assert store_unfinished(store) == ([], [])
    assert ids(store) == [("killed", False)]
    assert not Path(store.url, ".unfinished").exists()


def test_copies_of_tests_that_still_run_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep_copy(store, GOOD)
    elsewhere = Path(path).with_name(Path(path).name.replace(writer(), "00000000-1"))
    parent = Path(path).with_name(Path(path).name.replace(f"-{os.getpid()}.", f"-{os.getppid()}."))
    for copy in (elsewhere, parent):
        copy.write_bytes(Path(path).read_bytes())
    monkeypatch.setattr(unfinished, "is_older", lambda *_: False)
    assert store_unfinished(store) == ([], [])
    drop_copy(store, path)
    assert sorted(copy.name for copy in Path(store.url, ".unfinished").iterdir()) == sorted(
        [elsewhere.name, parent.name]
    )
    monkeypatch.setattr(unfinished, "is_older", lambda *_: True)
    assert [measured.id for measured in store_unfinished(store)[0]] == ["killed"]
    assert parent.exists()
    assert not elsewhere.exists()


def test_an_earlier_process_of_the_same_number_is_another_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_copy(store, GOOD)
    assert store_unfinished(store) == ([], [])
    monkeypatch.setattr(unfinished, "_kept", set())
    assert len(store_unfinished(store)[0]) == 1


def test_a_damaged_copy_is_named_and_stays(store: Store) -> None:
    keep_in_another_process(store, GOOD)
    (copy,) = Path(store.url, ".unfinished").iterdir()
    copy.write_bytes(copy.read_bytes()[:-40])
    stored, (problem,) = store_unfinished(store)
    assert stored == []
    assert copy.name in problem
    assert copy.exists()


def test_a_store_that_can_t_be_written_or_deletes_nothing_has_no_copies(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "delete", refuse)
        store.check_writable()
    assert keep_copy(store, GOOD) == ""
    other = Store(store.url)
    monkeypatch.setattr(other.files, "put", refuse)
    assert keep_copy(other, GOOD) == ""
    assert not Path(store.url, ".unfinished").exists()
