from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import Plain, PlainMapping, PooledTest, Record
from pytest_gpuperf.publish.comparison import to_judge
from pytest_gpuperf.publish.pool import pool_of, update_pool
from pytest_gpuperf.store import Store, export_records, select_baseline
from pytest_gpuperf.store.record_format.sealed_file import sealed, unsealed
from tests.unit.factories import KEY, record

OTHER = "tests/test_serving.py::test_other"


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store") if request.param == "directory" else f"memory://pool-{uuid.uuid4().hex}")


def key(test: str = OTHER, **fields: Plain) -> PlainMapping:
    return {**KEY, "test": test, **fields}


def measured(minute: int, of: PlainMapping = KEY, **fields: Any) -> Record:
    runs = [[1.0, 2.0], [1.1, 2.2]]
    return replace(record(runs, name=f"{minute:012x}", minute=minute, key=of), **fields)


def written(store: Store, minutes: Sequence[int], of: PlainMapping = KEY, **fields: Any) -> None:
    for minute in minutes:
        store.write(measured(minute, of, **fields))


def ids(test: PooledTest) -> list[int]:
    """The minutes of the records of a test."""
    return [int(each.id, 16) for each in test.records]


def updated(store: Store, new: Record) -> None:
    """Update the pool as an invocation that measured a record."""
    judged = to_judge(new, select_baseline(store, new.key), Rule())
    store.write(new)
    update_pool(store, [(new, judged)])


def cache(store: Store) -> str:
    """The path of the only cache."""
    (name,) = store.files.names(f"{store.files.root}/.pool")
    return f"{store.files.root}/.pool/{name}"


def without_records(store: Store) -> None:
    for path in list(store.paths()):
        store.files.delete(f"{store.files.root}/{path}")


def test_an_empty_store_shows_nothing(store: Store) -> None:
    assert pool_of(store, KEY) == {}
    assert store.files.names(store.files.root) == []


def test_the_first_use_reads_the_newest_records_of_each_test(store: Store) -> None:
    written(store, range(8))
    written(store, [20], key())
    pool = pool_of(store, KEY)
    assert {test: ids(pooled) for test, pooled in pool.items()} == {KEY["test"]: [7, 6, 5, 4, 3], OTHER: [20]}
    assert {series.metric for series in pool[OTHER].series} == {"p50", "p90", "throughput"}
    assert pool[OTHER].series[0].run_freedom == 1


def test_later_uses_read_no_record(store: Store) -> None:
    written(store, range(3))
    pool = pool_of(store, KEY)
    without_records(store)
    assert pool_of(store, KEY) == pool
    assert pool_of(store, key("another test")) == pool


@pytest.mark.parametrize("field", ["power_limit_w", "method_version", "mig_profile"])
def test_other_hardware_and_measuring_rules_are_apart(store: Store, field: str) -> None:
    written(store, [1])
    other: PlainMapping = {**key(), field: 3}
    written(store, [2], other)
    assert list(pool_of(store, KEY)) == [KEY["test"]]
    assert list(pool_of(store, other)) == [OTHER]
    assert list(pool_of(store, KEY)) == [KEY["test"]]


def test_of_two_versions_of_a_test_the_newer_counts(store: Store) -> None:
    written(store, [1, 2], key(version=2))
    written(store, [3], key(version=3))
    assert ids(pool_of(store, KEY)[OTHER]) == [3]


def test_records_that_are_no_baseline_show_nothing(store: Store) -> None:
    written(store, [1], gate="failed")
    written(store, [2], gate="suspect")
    written(store, [3], status="incomplete")
    assert pool_of(store, KEY) == {}


def test_an_accepted_record_begins_the_baseline(store: Store) -> None:
    written(store, [1, 3])
    written(store, [2], gate="failed")
    store.accept(store.find(f"{2:012x}"), "slower and better")
    assert ids(pool_of(store, KEY)[str(KEY["test"])]) == [3, 2]


def test_a_damaged_record_is_left_out(store: Store) -> None:
    written(store, [1, 2])
    store.files.put(store.find(f"{2:012x}").path, b"{}")
    assert ids(pool_of(store, KEY)[str(KEY["test"])]) == [1]


def test_an_invocation_adds_what_it_read_and_what_joins(store: Store) -> None:
    written(store, range(22))
    written(store, [2], key())
    pool_of(store, KEY)
    updated(store, measured(30))
    pool = pool_of(store, KEY)
    assert ids(pool[str(KEY["test"])]) == [30, *reversed(range(3, 22))]
    assert ids(pool[OTHER]) == [2]


def test_a_record_that_does_not_join_leaves_the_baseline(store: Store) -> None:
    written(store, range(3))
    updated(store, measured(30, gate="suspect"))
    assert ids(pool_of(store, KEY)[str(KEY["test"])]) == [2, 1, 0]


def test_a_first_record_is_pooled_where_it_joins(store: Store) -> None:
    updated(store, measured(1, gate="open"))
    assert ids(pool_of(store, KEY)[str(KEY["test"])]) == [1]


def damaged(content: bytes) -> bytes:
    return content[: len(content) // 2]


def of_another_version(content: bytes) -> bytes:
    return sealed("pool", {**unsealed(content, "pool", "", ""), "version": 99})


def of_other_hardware(content: bytes) -> bytes:
    return sealed("pool", {**unsealed(content, "pool", "", ""), "key": {"device": "another"}})


def with_absurd_numbers(content: bytes) -> bytes:
    body = unsealed(content, "pool", "", "")
    body["tests"][0]["series"][0]["run_variance"] = 1e300
    return sealed("pool", body)


def with_a_mean_too_few(content: bytes) -> bytes:
    body = unsealed(content, "pool", "", "")
    body["tests"][0]["series"][0]["means"].pop()
    return sealed("pool", body)


@pytest.mark.parametrize(
    "change", [damaged, of_another_version, of_other_hardware, with_absurd_numbers, with_a_mean_too_few]
)
def test_a_cache_that_can_not_be_used_is_made_again(store: Store, change: Any) -> None:
    written(store, range(2))
    pool = pool_of(store, KEY)
    before = store.files.read(cache(store))
    store.files.put(cache(store), change(before))
    assert pool_of(store, KEY) == pool
    assert store.files.read(cache(store)) == before


def test_a_store_that_can_not_be_written_is_read_each_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written(store, range(2))

    def refuse(*_: object) -> None:
        raise StoreError("read-only")

    monkeypatch.setattr(store.files, "put", refuse)
    assert list(pool_of(store, KEY)) == [KEY["test"]]
    assert list(pool_of(store, KEY)) == [KEY["test"]]
    update_pool(store, [(measured(9), to_judge(measured(9), select_baseline(store, KEY), Rule()))])


def test_the_cache_is_not_copied(store: Store, tmp_path: Path) -> None:
    written(store, range(2))
    pool_of(store, KEY)
    assert not [path for path in store.paths() if "pool" in path]
    chosen = [(folder, file) for folder in store.folders() for file in store.newest(folder)]
    export_records(store, chosen, str(tmp_path / "copy"))
    assert not [path for path in (tmp_path / "copy").rglob("*") if "pool" in path.name]


def test_writers_at_the_same_time_leave_a_cache_that_can_be_read(store: Store) -> None:
    tests = [key(f"tests/test_{number}.py::test_it") for number in range(6)]
    judged = [(new, to_judge(new, select_baseline(store, new.key), Rule())) for new in map(measured, range(6), tests)]
    with ThreadPoolExecutor(6) as threads:
        for _ in threads.map(lambda each: update_pool(store, [each]), judged * 3):
            assert set(pool_of(store, KEY)) <= {str(test["test"]) for test in tests}
    update_pool(store, judged)
    assert len(pool_of(store, KEY)) == 6
