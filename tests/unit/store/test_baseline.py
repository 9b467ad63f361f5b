from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import BaselineSpec, RecordFile, Store, duet_history, select_baseline
from pytest_gpuperf.store.baseline import MOST_NEAR, MOST_OPENED, WINDOW
from tests.unit.factories import KEY, record, run


class CountingStore(Store):
    """Counts the files that are opened."""

    reads = 0

    def read(self, file: RecordFile) -> Record:
        self.reads += 1
        return super().read(file)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(str(tmp_path / "store"))


def write(store: Store, *names: str, gate: str = "passed", status: str = "complete", begin: int = 0) -> None:
    """Records a minute apart, oldest first."""
    for index, name in enumerate(names):
        store.write(record(name=name, minute=begin + index, gate=gate, status=status))


def damage(store: Store, name: str) -> None:
    path = Path(store.find(name).path)
    path.write_bytes(path.read_bytes()[:-20])


def chosen(store: Store) -> list[str]:
    return [one.id for one in select_baseline(store, KEY).records]


def test_an_empty_store_has_no_baseline(store: Store) -> None:
    baseline = select_baseline(store, KEY)
    assert (baseline.records, baseline.unreadable, baseline.differing) == ((), (), None)


def test_records_come_newest_first(store: Store) -> None:
    write(store, "s0", "s1", "s2")
    assert chosen(store) == ["s2", "s1", "s0"]


def test_the_window_rolls(store: Store) -> None:
    names = [f"s{index}" for index in range(WINDOW + 5)]
    write(store, *names)
    assert chosen(store) == names[: -WINDOW - 1 : -1]


def test_a_first_record_is_a_baseline_for_the_second(store: Store) -> None:
    write(store, "first", gate="open")
    assert chosen(store) == ["first"]


def test_failed_and_incomplete_records_are_left_out(store: Store) -> None:
    write(store, "good")
    write(store, "failed", gate="failed", begin=1)
    write(store, "cut", gate="open", status="incomplete", begin=2)
    write(store, "fine", begin=3)
    assert chosen(store) == ["fine", "good"]


def test_failed_records_alone_are_no_baseline(store: Store) -> None:
    write(store, "f0", "f1", gate="failed")
    baseline = select_baseline(store, KEY)
    assert (baseline.records, baseline.differing) == ((), None)


def test_an_accepted_record_starts_the_baseline_anew(store: Store) -> None:
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


def test_an_unreadable_record_is_told_and_the_rest_is_used(store: Store) -> None:
    write(store, "s0", "s1", "s2")
    damage(store, "s1")
    baseline = select_baseline(store, KEY)
    assert [one.id for one in baseline.records] == ["s2", "s0"]
    (problem,) = baseline.unreadable
    assert "-s1.json" in problem.where


def test_records_of_which_none_can_be_read_are_no_missing_baseline(store: Store) -> None:
    write(store, "s0", "s1")
    damage(store, "s0")
    damage(store, "s1")
    with pytest.raises(UnreadableRecord):
        select_baseline(store, KEY)


def test_an_accepted_record_ends_the_level_before_it_though_it_is_damaged(store: Store) -> None:
    write(store, "old0", "old1", "accepted", "next")
    store.accept(store.find("accepted"), "a larger model")
    damage(store, "accepted")
    baseline = select_baseline(store, KEY)
    assert [one.id for one in baseline.records] == ["next"]
    assert len(baseline.unreadable) == 1


@pytest.mark.parametrize("gate", ["passed", "failed"])
def test_the_files_read_do_not_grow_with_the_history(store: CountingStore, gate: str) -> None:
    write(store, *(f"s{index:03}" for index in range(60)), gate=gate)
    select_baseline(store, KEY)
    short, store.reads = store.reads, 0
    write(store, *(f"t{index:03}" for index in range(140)), gate=gate, begin=60)
    select_baseline(store, KEY)
    assert store.reads == short <= 60


def test_another_key_s_records_are_not_compared_but_its_fields_named(store: Store) -> None:
    store.write(record(key={**KEY, "power_limit_w": 60, "version": 2}, minute=0))
    store.write(record(key={**KEY, "power_limit_w": 50, "mig": "1g.5gb"}, minute=1))
    baseline = select_baseline(store, KEY)
    assert baseline.records == ()
    assert baseline.differing == {"power_limit_w": (50, 72), "mig": ("1g.5gb", None)}


def test_other_tests_are_never_named_as_near(store: Store) -> None:
    store.write(record(key={**KEY, "test": "tests/test_other.py::test_other"}))
    assert select_baseline(store, KEY).differing is None


def test_a_damaged_record_of_another_key_does_not_matter(store: Store) -> None:
    store.write(record(name="other", key={**KEY, "version": 2}))
    damage(store, "other")
    baseline = select_baseline(store, KEY)
    assert (baseline.records, baseline.unreadable, baseline.differing) == ((), (), None)


def test_a_baseline_of_the_key_names_no_other(store: Store) -> None:
    write(store, "s0")
    store.write(record(name="other", key={**KEY, "version": 2}, minute=5))
    assert select_baseline(store, KEY).differing is None


# Pinned records


def pins(store: Store, choice: BaselineSpec | None = None) -> list[str]:
    return [one.id for one in select_baseline(store, KEY, choice).pinned]


def test_a_pinned_record_stays_when_the_window_rolls_on(store: CountingStore) -> None:
    write(store, *(f"s{index:02}" for index in range(WINDOW + 5)))
    store.pin(store.find("s00"), "release")
    assert pins(store) == ["s00"]
    assert "s00" not in chosen(store)
    store.reads = 0
    select_baseline(store, KEY)
    assert store.reads == WINDOW + 1


def test_an_acceptance_does_not_unpin(store: Store) -> None:
    write(store, "old", "slower")
    store.pin(store.find("old"), "release")
    store.accept(store.find("slower"), "a larger model")
    assert (chosen(store), pins(store)) == (["slower"], ["old"])


def test_a_pinned_record_that_failed_its_gate_is_compared_with(store: Store) -> None:
    write(store, "failed", gate="failed")
    store.pin(store.find("failed"), "what we can live with")
    baseline = select_baseline(store, KEY)
    assert (baseline.records, [one.id for one in baseline.pinned]) == ((), ["failed"])


def test_a_pinned_record_that_is_gone_is_told(store: Store) -> None:
    write(store, "s0", "s1")
    store.pin(store.find("s0"), "release")
    Path(store.find("s0").path).unlink()
    baseline = select_baseline(store, KEY)
    assert baseline.pinned == ()
    assert ["-s0.json" in problem.where for problem in baseline.unreadable] == [True]
    assert "gpuperf baseline unpin s0" in baseline.unreadable[0].remedy


@pytest.mark.parametrize("choice", [BaselineSpec(), BaselineSpec("pinned")], ids=["both", "pinned"])
def test_a_gate_doesn_t_wait_for_a_pinned_record_that_is_gone(store: Store, choice: BaselineSpec) -> None:
    write(store, "s0")
    store.pin(store.find("s0"), "release")
    path = Path(store.find("s0").path)
    path.write_text("{")
    with pytest.raises(UnreadableRecord, match="not complete JSON"):
        select_baseline(store, KEY, choice)
    path.unlink()
    baseline = select_baseline(store, KEY, choice)
    assert (baseline.records, baseline.pinned, len(baseline.unreadable)) == ((), (), 1)


# What to compare with


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("both", BaselineSpec()),
        ("rolling", BaselineSpec("rolling")),
        ("pinned", BaselineSpec("pinned")),
        ("0a1b2c3d", BaselineSpec("record", "0a1b2c3d")),
        ("commit:1234567", BaselineSpec("commit", "1234567")),
    ],
)
def test_what_people_write(text: str, choice: BaselineSpec) -> None:
    assert BaselineSpec.parse(text) == choice


@pytest.mark.parametrize("text", ["", "newest", "commit:", "commit:12345", "commit:main", "0a", "PINNED"])
def test_what_can_t_be_meant(text: str) -> None:
    with pytest.raises(ValueError, match="write both, rolling, pinned"):
        BaselineSpec.parse(text)


def test_only_the_rolling_window(store: Store) -> None:
    write(store, "s0", "s1")
    store.pin(store.find("s0"), "release")
    baseline = select_baseline(store, KEY, BaselineSpec("rolling"))
    assert ([one.id for one in baseline.records], baseline.pinned) == (["s1", "s0"], ())


def test_only_what_is_pinned(store: Store) -> None:
    write(store, "s0", "s1")
    store.pin(store.find("s0"), "release")
    baseline = select_baseline(store, KEY, BaselineSpec("pinned"))
    assert ([one.id for one in baseline.records], baseline.pinned) == (["s0"], ())
    store.unpin("s0")
    assert select_baseline(store, KEY, BaselineSpec("pinned")).records == ()


def test_one_record(store: Store) -> None:
    write(store, "aaaa1", "aaaa2", "bbbb1", gate="failed")
    assert [one.id for one in select_baseline(store, KEY, BaselineSpec("record", "bbbb")).records] == ["bbbb1"]
    with pytest.raises(StoreError, match="2 records of this test"):
        select_baseline(store, KEY, BaselineSpec("record", "aaaa"))
    with pytest.raises(StoreError, match=r"There is no record cccc of .*test_resnet50 on NVIDIA L4"):
        select_baseline(store, KEY, BaselineSpec("record", "cccc"))


def test_a_record_of_another_key_is_not_comparable(store: Store) -> None:
    store.write(record(name="aaaa1", key={**KEY, "power_limit_w": 60}))
    baseline = select_baseline(store, KEY, BaselineSpec("record", "aaaa1"))
    assert (baseline.records, baseline.differing) == ((), {"power_limit_w": (60, 72)})
    store.write(record(name="bbbb1", key={**KEY, "power_limit_w": 50}, minute=1, commit="fedcba9876"))
    for choice in (BaselineSpec("record", "aaaa1"), BaselineSpec("commit", "1234567")):
        assert select_baseline(store, KEY, choice).differing == {"power_limit_w": (60, 72)}


@pytest.mark.parametrize("choice", [BaselineSpec("record", "cccc"), BaselineSpec("commit", "fedcba9")])
def test_a_record_that_is_nowhere_is_an_error_whatever_other_keys_have(store: Store, choice: BaselineSpec) -> None:
    write(store, "aaaa1")
    store.write(record(name="aaaa2", key={**KEY, "power_limit_w": 60}))
    store.write(record(name="aaaa3", key={**KEY, "device": "NVIDIA T4"}))
    store.write(record(name="cccc", key={**KEY, "test": "tests/test_other.py::test_other"}, commit="fedcba9876"))
    with pytest.raises(StoreError, match="There is no record"):
        select_baseline(store, KEY, choice)


def test_a_record_that_was_cut_short_can_t_be_chosen(store: Store) -> None:
    write(store, "aaaa1", status="incomplete")
    with pytest.raises(StoreError, match="was cut short"):
        select_baseline(store, KEY, BaselineSpec("record", "aaaa1"))


def test_the_records_of_a_commit(store: Store) -> None:
    for index, commit in enumerate(("1234567890", "abcdef1234", "1234567890", "12345679")):
        store.write(record(name=f"s{index}", minute=index, commit=commit))
    assert [one.id for one in select_baseline(store, KEY, BaselineSpec("commit", "123456789")).records] == ["s2", "s0"]
    assert [one.id for one in select_baseline(store, KEY, BaselineSpec("commit", "1234567")).records] == [
        "s3",
        "s2",
        "s0",
    ]
    with pytest.raises(StoreError, match="no record of commit fedcba9"):
        select_baseline(store, KEY, BaselineSpec("commit", "fedcba9"))


def test_what_came_before_a_record(store: Store) -> None:
    write(store, "s0", "s1", "s2", "s3")
    store.pin(store.find("s1"), "release")
    baseline = select_baseline(store, KEY, before=store.find("s2"))
    assert [one.id for one in baseline.records] == ["s1", "s0"]
    assert [one.id for one in baseline.pinned] == ["s1"]
    assert select_baseline(store, KEY, before=store.find("s1")).pinned == ()


# Duets


def duet(store: Store, name: str, minute: int, status: str = "complete", gate: str = "passed") -> None:
    store.write(replace(record(name=name, minute=minute, status=status, gate=gate), reference=(run(),)))


def test_duets_are_no_baseline_and_records_no_duets(store: CountingStore) -> None:
    write(store, "s0", "s1")
    duet(store, "d0", 2)
    duet(store, "d1", 3, gate="failed")
    duet(store, "cut", 4, status="incomplete")
    assert chosen(store) == ["s1", "s0"]
    store.reads = 0
    assert [one.id for one in duet_history(store, KEY).records] == ["d1", "d0"]
    assert store.reads == 3
    assert [one.id for one in duet_history(store, KEY, before=store.find("d1")).records] == ["d0"]


# Bounds


def test_damaged_files_are_not_read_without_end(store: CountingStore) -> None:
    write(store, *(f"s{index:03}" for index in range(MOST_OPENED + 20)))
    for file in list(store.newest(store.folder(KEY))):
        Path(file.path).write_text("{")
    with pytest.raises(UnreadableRecord):
        select_baseline(store, KEY)
    assert store.reads == MOST_OPENED


def test_other_tests_cost_nothing_where_there_is_no_baseline(store: CountingStore) -> None:
    for index in range(50):
        store.write(record(name=f"s{index}", key={**KEY, "test": f"tests/test_other.py::test_{index}"}))
    assert select_baseline(store, KEY).differing is None
    assert store.reads == 0


def test_other_keys_of_the_test_are_read_within_bounds(store: CountingStore) -> None:
    for index in range(MOST_NEAR + 20):
        store.write(record(name=f"s{index}", key={**KEY, "version": 2 + index}, minute=index))
    assert select_baseline(store, KEY).differing == {"version": (MOST_NEAR + 21, 1)}
    assert store.reads == 1
    for folder in store.folders():
        Path(next(store.newest(folder)).path).write_text("{")
    store.reads = 0
    assert select_baseline(store, KEY).differing is None
    assert store.reads == MOST_NEAR


def test_the_same_test_on_another_device_is_named_when_there_is_none_here(store: Store) -> None:
    store.write(record(key={**KEY, "device": "NVIDIA T4"}, minute=9))
    assert select_baseline(store, KEY).differing == {"device": ("NVIDIA T4", "NVIDIA L4")}
    store.write(record(key={**KEY, "version": 2}, minute=1))
    assert select_baseline(store, KEY).differing == {"version": (2, 1)}
