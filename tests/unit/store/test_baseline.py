from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.errors import UnreadableSession
from pytest_gpuperf.model import Session
from pytest_gpuperf.store import Entry, Store, select_baseline
from pytest_gpuperf.store.baseline import WINDOW
from tests.unit.factories import KEY, session


class CountingStore(Store):
    """Counts the files that are opened."""

    reads = 0

    def read(self, entry: Entry) -> Session:
        self.reads += 1
        return super().read(entry)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(str(tmp_path / "store"))


def write(store: Store, *names: str, gate: str = "passed", status: str = "complete", begin: int = 0) -> None:
    """Sessions a minute apart, oldest first."""
    for index, name in enumerate(names):
        store.write(session(name=name, minute=begin + index, gate=gate, status=status))


def damage(store: Store, name: str) -> None:
    path = Path(store.find(name).path)
    path.write_bytes(path.read_bytes()[:-20])


def chosen(store: Store) -> list[str]:
    return [one.id for one in select_baseline(store, KEY).sessions]


def test_an_empty_store_has_no_baseline(store: Store) -> None:
    baseline = select_baseline(store, KEY)
    assert (baseline.sessions, baseline.unreadable, baseline.differing) == ((), (), None)


def test_sessions_come_newest_first(store: Store) -> None:
    write(store, "s0", "s1", "s2")
    assert chosen(store) == ["s2", "s1", "s0"]


def test_the_window_rolls(store: Store) -> None:
    names = [f"s{index}" for index in range(WINDOW + 5)]
    write(store, *names)
    assert chosen(store) == names[: -WINDOW - 1 : -1]


def test_a_first_session_is_a_baseline_for_the_second(store: Store) -> None:
    write(store, "first", gate="open")
    assert chosen(store) == ["first"]


def test_failed_and_incomplete_sessions_are_left_out(store: Store) -> None:
    write(store, "good")
    write(store, "failed", gate="failed", begin=1)
    write(store, "cut", gate="open", status="incomplete", begin=2)
    write(store, "fine", begin=3)
    assert chosen(store) == ["fine", "good"]


def test_failed_sessions_alone_are_no_baseline(store: Store) -> None:
    write(store, "f0", "f1", gate="failed")
    baseline = select_baseline(store, KEY)
    assert (baseline.sessions, baseline.differing) == ((), None)


def test_an_accepted_session_starts_the_baseline_anew(store: Store) -> None:
    write(store, "old0", "old1")
    write(store, "slower", gate="failed", begin=2)
    store.accept(store.find("slower"), "a larger model")
    assert chosen(store) == ["slower"]
    write(store, "next0", "next1", begin=3)
    assert chosen(store) == ["next1", "next0", "slower"]


def test_the_newest_acceptance_counts(store: Store) -> None:
    write(store, "s0", "s1", "s2", "s3")
    store.accept(store.find("s0"), "first")
    store.accept(store.find("s2"), "second")
    assert chosen(store) == ["s3", "s2"]


def test_an_unreadable_session_is_told_and_the_rest_is_used(store: Store) -> None:
    write(store, "s0", "s1", "s2")
    damage(store, "s1")
    baseline = select_baseline(store, KEY)
    assert [one.id for one in baseline.sessions] == ["s2", "s0"]
    (problem,) = baseline.unreadable
    assert "-s1.json" in problem.where


def test_sessions_of_which_none_can_be_read_are_no_missing_baseline(store: Store) -> None:
    write(store, "s0", "s1")
    damage(store, "s0")
    damage(store, "s1")
    with pytest.raises(UnreadableSession):
        select_baseline(store, KEY)


def test_an_accepted_session_ends_the_level_before_it_though_it_is_damaged(store: Store) -> None:
    write(store, "old0", "old1", "accepted", "next")
    store.accept(store.find("accepted"), "a larger model")
    damage(store, "accepted")
    baseline = select_baseline(store, KEY)
    assert [one.id for one in baseline.sessions] == ["next"]
    assert len(baseline.unreadable) == 1


@pytest.mark.parametrize("gate", ["passed", "failed"])
def test_the_files_read_do_not_grow_with_the_history(store: CountingStore, gate: str) -> None:
    write(store, *(f"s{index:03}" for index in range(60)), gate=gate)
    select_baseline(store, KEY)
    short, store.reads = store.reads, 0
    write(store, *(f"t{index:03}" for index in range(140)), gate=gate, begin=60)
    select_baseline(store, KEY)
    assert store.reads == short <= 60


def test_another_key_s_sessions_are_not_compared_but_its_fields_named(store: Store) -> None:
    store.write(session(key={**KEY, "power_limit_w": 60, "version": 2}, minute=0))
    store.write(session(key={**KEY, "power_limit_w": 50, "mig": "1g.5gb"}, minute=1))
    baseline = select_baseline(store, KEY)
    assert baseline.sessions == ()
    assert baseline.differing == {"power_limit_w": (50, 72), "mig": ("1g.5gb", None)}


def test_other_tests_are_never_named_as_near(store: Store) -> None:
    store.write(session(key={**KEY, "test": "tests/test_other.py::test_other"}))
    assert select_baseline(store, KEY).differing is None


def test_a_damaged_session_of_another_key_does_not_matter(store: Store) -> None:
    store.write(session(name="other", key={**KEY, "version": 2}))
    damage(store, "other")
    baseline = select_baseline(store, KEY)
    assert (baseline.sessions, baseline.unreadable, baseline.differing) == ((), (), None)


def test_a_baseline_of_the_key_names_no_other(store: Store) -> None:
    write(store, "s0")
    store.write(session(name="other", key={**KEY, "version": 2}, minute=5))
    assert select_baseline(store, KEY).differing is None
