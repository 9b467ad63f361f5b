"""What the tests of a device model tell each other, read from and written to the cache beside the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pytest_gpuperf.analysis.suite.pooled import pooled_test
from pytest_gpuperf.analysis.values import values_of
from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import PlainMapping, PooledTest, Record
from pytest_gpuperf.publish.comparison import Pools, RecordToJudge
from pytest_gpuperf.store import Store
from pytest_gpuperf.store.baseline import WINDOW
from pytest_gpuperf.store.cache.pool import hardware_digest, newest_baselines, read_pool, write_pool

#: What is read of a store without a cache: enough to know spreads, in a few seconds and once.
_RECORDS, _TESTS, _LIMIT_S = 5, 100, 4.0
#: Time that needs no explanation.
_DELAY_S = 0.5


class PoolReader:
    """Reads the pool of each hardware once.

    Args:
        on_delay: Called if that takes long enough to be noticed.
        cache: Whether to keep what was read of a store that has no cache.
    """

    def __init__(self, store: Store, on_delay: Callable[[], None] = lambda: None, *, cache: bool = True) -> None:
        self._store, self._on_delay, self._cache = store, on_delay, cache
        self._pools: dict[str, Mapping[str, PooledTest]] = {}

    def read(self, *keys: PlainMapping) -> Pools:
        """Return what was read so far, with the pools of the hardware of some keys."""
        for key in keys:
            hardware = hardware_digest(key)
            if hardware not in self._pools:
                self._pools[hardware] = pool_of(self._store, key, on_delay=self._on_delay, cache=self._cache)
        return self._pools


def pool_of(
    store: Store, key: PlainMapping, *, on_delay: Callable[[], None] = lambda: None, cache: bool = True
) -> dict[str, PooledTest]:
    """Return what the tests on the hardware of a key show, with the same measuring rules; by test.

    Invocations update what they measure, so that a test may have newer records than its part of the pool. Without a
    cache, the newest records of the store's tests are read once, which may take some seconds.

    Args:
        on_delay: Called once if that takes long enough to be noticed.
        cache: Whether to write the cache if there is none.
    """
    pool = read_pool(store, key)
    if pool is None:
        pool = _pool_of_records(store, key, on_delay)
        if pool and cache:
            write_pool(store, key, list(reversed(pool.values())))
    return pool


def _pool_of_records(store: Store, key: PlainMapping, on_delay: Callable[[], None]) -> dict[str, PooledTest]:
    begin, pool, announced = time.monotonic(), {}, False
    try:
        for records in newest_baselines(store, key, records=_RECORDS, limit_s=_LIMIT_S):
            test = records[0].test
            pool[test] = pooled_test(test, tuple(map(values_of, records)))
            elapsed_s = time.monotonic() - begin
            if elapsed_s > _DELAY_S and not announced:
                announced = True
                on_delay()
            if len(pool) == _TESTS or elapsed_s > _LIMIT_S:
                break
    except StoreError:
        pass  # the gate lists the store, too, and says why it can't
    return pool


def update_pool(store: Store, judged: Iterable[tuple[Record, RecordToJudge]]) -> None:
    """Add what an invocation has read and measured to the cache.

    Args:
        judged: Stored records, each with what was known of it; records that don't join the baseline leave it as it was.
    """
    by_hardware: dict[str, tuple[PlainMapping, dict[str, PooledTest]]] = {}
    for record, to_judge in judged:
        joining = (to_judge.candidate,) if record.may_be_baseline else ()
        baseline = (*joining, *to_judge.baseline)[:WINDOW]
        if baseline and not record.reference:
            _, tests = by_hardware.setdefault(hardware_digest(record.key), (record.key, {}))
            tests[record.test] = pooled_test(record.test, baseline)
    for key, tests in by_hardware.values():
        known: Mapping[str, PooledTest] = read_pool(store, key) or {}
        others = [test for name, test in known.items() if name not in tests]
        write_pool(store, key, [*others, *tests.values()])
