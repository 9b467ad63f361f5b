from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError, StoreError
from pytest_gpuperf.store import Store, pull, push, select_baseline
from pytest_gpuperf.store.moving import move, new_id
from tests.unit.cli.stores import gpuperf, measured
from tests.unit.factories import KEY
from tests.unit.store.remotes import clone_of, origin_in

OLD, NEW = "perf/test_a.py::test_infer", "svc/test_b.py::test_serve"


def key_of(test: str) -> dict[str, object]:
    return {**KEY, "test": test}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Records of a test with two parameters, and of a test whose name begins the same."""
    store = Store(str(tmp_path / "store"))
    for number, test in enumerate((f"{OLD}[1]", f"{OLD}[2]", f"{OLD}_twice")):
        for day in range(3):
            measured(store, f"{number}aaa{day}", day=day, key=key_of(test))  # type: ignore[arg-type]
    return store


def baseline(store: Store, test: str) -> list[str]:
    return [record.id for record in select_baseline(store, key_of(test)).records]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("test", "old", "new", "expected"),
    [
        (OLD, OLD, NEW, NEW),
        (f"{OLD}[1]", OLD, NEW, f"{NEW}[1]"),
        (f"{OLD}[1]", f"{OLD}[1]", "serving", "serving"),
        (f"{OLD}[1]", f"{OLD}[2]", NEW, ""),
        (f"{OLD}_twice", OLD, NEW, ""),
        (OLD, "perf/test_a.py", "svc/test_b.py", "svc/test_b.py::test_infer"),
        (OLD, "perf/", "svc/perf", "svc/perf/test_a.py::test_infer"),
        (OLD, "per", "svc", ""),
    ],
)
def test_ids_files_and_folders(test: str, old: str, new: str, expected: str) -> None:
    assert new_id(test, old, new) == expected


def test_a_moved_test_has_its_baseline_and_the_old_id_has_none(store: Store) -> None:
    result = move(store, OLD, NEW, "renamed", "Ada")
    assert result.tests == {f"{OLD}[1]": f"{NEW}[1]", f"{OLD}[2]": f"{NEW}[2]"}
    assert (result.records, result.unreadable) == (6, [])
    assert baseline(store, f"{NEW}[1]") == ["0aaa2", "0aaa1", "0aaa0"]
    assert baseline(store, f"{OLD}[1]") == []
    assert baseline(store, f"{OLD}_twice") == ["2aaa2", "2aaa1", "2aaa0"]
    record = store.read(store.find("0aaa1"))
    assert (record.test, record.moved_from, record.created_utc[:10]) == (f"{NEW}[1]", f"{OLD}[1]", "2026-01-02")
    # and back
    move(store, NEW, OLD)
    assert baseline(store, f"{OLD}[1]") == ["0aaa2", "0aaa1", "0aaa0"]


def test_acceptances_and_pins_go_along(store: Store) -> None:
    store.accept(store.find("0aaa1"), "meant", "Ada")
    store.pin(store.find("0aaa0"), "release", "Bob")
    move(store, OLD, NEW)
    selected = select_baseline(store, key_of(f"{NEW}[1]"))  # type: ignore[arg-type]
    assert [record.id for record in selected.records] == ["0aaa2", "0aaa1"]
    assert [record.id for record in selected.pinned] == ["0aaa0"]
    acceptance = store.acceptance(store.find("0aaa1"))
    assert acceptance is not None
    assert (acceptance.author, acceptance.reason) == ("Ada", "meant")


def test_records_that_both_ids_have_are_one_baseline(store: Store) -> None:
    measured(store, "9bbb0", day=5, key=key_of(f"{NEW}[1]"))  # type: ignore[arg-type]
    move(store, OLD, NEW)
    assert baseline(store, f"{NEW}[1]") == ["9bbb0", "0aaa2", "0aaa1", "0aaa0"]


def test_a_record_that_can_t_be_read_stays_and_is_named(store: Store) -> None:
    Path(store.find("0aaa1").path).write_text("{")
    result = move(store, OLD, NEW)
    assert [error.where for error in result.unreadable] == [store.describe(store.find("0aaa1").path)]
    assert baseline(store, f"{NEW}[1]") == ["0aaa2", "0aaa0"]


def test_what_can_t_be_moved_is_said(store: Store) -> None:
    with pytest.raises(StoreError, match=r"There is no record of perf/test_x.py in .*store\.\nList the tests with"):
        move(store, "perf/test_x.py", NEW)
    for old, new in ((OLD, OLD), (OLD, ""), ("", NEW), ("perf", "perf/")):
        with pytest.raises(OptionError, match="Name the old id of the test and the new one"):
            move(store, old, new)


def test_a_move_reaches_other_clones_over_the_branch(store: Store, tmp_path: Path) -> None:
    clone = clone_of(origin_in(tmp_path), tmp_path / "clone")
    push(store, clone)
    there = Store(str(tmp_path / "there"))
    pull(there, clone)
    there.pin(there.find("0aaa0"), "release")
    push(there, clone)
    pull(store, clone)
    move(store, OLD, NEW)
    push(store, clone)
    pull(there, clone)
    assert baseline(there, f"{NEW}[1]") == ["0aaa2", "0aaa1", "0aaa0"]
    assert baseline(there, f"{OLD}[1]") == []
    assert there.find("0aaa0").pinned


def test_the_command_and_the_history_say_what_was_moved(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "baseline", "move", OLD, NEW, "--reason", "renamed") == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [f"{OLD}[1] is now {NEW}[1]", f"{OLD}[2] is now {NEW}[2]", "Moved 6 records of 2 tests."]
    assert gpuperf(store, "history", "--test", f"{NEW}[1]") == 0
    assert f"3 records measured as {OLD}[1], before the test was moved" in capsys.readouterr().out
    assert gpuperf(store, "baseline", "show", "0aaa1") == 0
    assert f"measured as {OLD}[1], before" in capsys.readouterr().out
    assert gpuperf(store, "baseline", "move", OLD, NEW) == 1
    assert f"There is no record of {OLD}" in capsys.readouterr().err


def test_several_records_are_accepted_at_once_or_none(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "baseline", "accept", "0aaa1", "1aaa1", "0aaa1", "--reason", "larger", "--author", "Ada") == 0
    assert [line.partition(" is")[0] for line in capsys.readouterr().out.splitlines()] == ["0aaa1", "1aaa1"]
    assert gpuperf(store, "baseline", "accept", "0aaa2", "1aaa1", "--reason", "again") == 1
    assert "Record 1aaa1 is accepted already, by Ada" in capsys.readouterr().err
    assert not store.find("0aaa2").accepted
