"""A cache of what the tests of a device model tell each other: ``STORE/.pool/<device>-<digest>.json``.

It holds nothing that the records don't, so it may be deleted at any time, and a cache that can't be read is no error.
The commands that copy, import or prune records leave hidden folders alone. Writers replace the file at once; of several
that write at the same time, the last wins, and the others' tests are added by a later invocation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import PlainMapping, PooledTest, Record
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.baseline import WINDOW, BaselineReader, joins
from pytest_gpuperf.store.key import key_digest
from pytest_gpuperf.store.layout import RecordFile
from pytest_gpuperf.store.notes import Note, check_texts, note_content, parse_note
from pytest_gpuperf.store.store import Store

_FOLDER = ".pool"
#: Fields of a comparison key that tests on the same hardware, measured by the same rules, need not share.
_OF_TEST = ("test", "version")
#: Version of what is pooled and how. A cache of another version is computed again.
_VERSION = 1
#: Most tests in a cache; those that were measured last stay.
_MOST_TESTS = 400
#: More than the logarithm of any figure, and more than the runs of any record.
_MOST = 1e4
#: Share of the time for listing the tests; the rest is for reading their records.
_LISTING_SHARE = 0.3


@dataclass(frozen=True)
class Pool(Note):
    """Content of the cache.

    Attributes:
        key: Comparison key that the tests share.
        tests: Tests; those that were measured last come last.
    """

    version: int
    key: PlainMapping
    tests: tuple[PooledTest, ...]

    def __post_init__(self) -> None:
        for test in self.tests:
            check_texts(test.test, *(text for record in test.records for text in (record.invocation, record.device)))
            for series in test.series:
                check_texts(series.sweep, series.metric)
                if not all(0 <= number <= _MOST for number in (series.run_variance, series.point_variance)):
                    raise ValueError("variances must be numbers that logarithms can have")
                if not 0 <= series.run_freedom <= _MOST * len(test.records):
                    raise ValueError("degrees of freedom must not be negative, nor more than records have")
                if not all(mean is None or abs(mean) <= _MOST for mean in series.means):
                    raise ValueError("means must be logarithms")
                if len(series.means) != len(test.records):
                    raise ValueError("a series needs a mean, or null, for each record")


def shared_key(key: PlainMapping) -> PlainMapping:
    """Return the fields of a comparison key that all tests of a pool share: the hardware and the measuring rules."""
    return {name: value for name, value in key.items() if name not in _OF_TEST}


def hardware_digest(key: PlainMapping) -> str:
    """Return the digest of what all tests of a pool share."""
    return key_digest(shared_key(key))


def read_pool(store: Store, key: PlainMapping) -> dict[str, PooledTest] | None:
    """Return the cache for the hardware and measuring rules of a key, by test; None without one that can be read."""
    try:
        pool = parse_note(store.files.read(_path(store, key)), Pool, "", "")
    except (OSError, UnreadableRecord):
        return None
    if pool.version != _VERSION or pool.key != shared_key(key):
        return None
    return {test.test: test for test in pool.tests}


def write_pool(store: Store, key: PlainMapping, tests: Sequence[PooledTest]) -> None:
    """Replace the cache, if the store can be written."""
    content = note_content(Pool(_VERSION, shared_key(key), tuple(tests[-_MOST_TESTS:])))
    if len(content) <= layout.LARGEST_BYTES:
        with suppress(StoreError):
            store.files.put(_path(store, key), content)


def newest_baselines(store: Store, key: PlainMapping, *, records: int, limit_s: float) -> Iterator[tuple[Record, ...]]:
    """Yield the newest baseline records of each test on the hardware of a key, the test that was measured last first.

    Records that can't be read are left out: the gates of their tests name them.

    Args:
        records: Most records of each test.
        limit_s: Seconds after which no further test is read.

    Raises:
        StoreError: The store can't be listed.
    """
    begin, shared, seen = time.monotonic(), shared_key(key), set()
    folders: list[tuple[str, list[RecordFile]]] = []
    for folder in store.folders_of_device(key):
        if time.monotonic() - begin > limit_s * _LISTING_SHARE:
            break
        files = _candidates(store, folder, records)
        if files:
            folders.append((files[0].name, files))
    for _, files in sorted(folders, key=lambda item: item[0], reverse=True):
        reader = BaselineReader(store)
        baseline: list[Record] = []
        for file in files:
            if time.monotonic() - begin > limit_s:
                return
            record = reader(file)
            if record is not None and shared_key(record.key) != shared:
                break
            if record is not None and joins(file, record):
                baseline.append(record)
        if baseline and baseline[0].test not in seen:
            seen.add(baseline[0].test)
            yield tuple(baseline)


def _candidates(store: Store, folder: str, most: int) -> list[RecordFile]:
    """Return the newest files of a key that may be its baseline, which begins with an accepted record."""
    files = []
    for file in layout.cleared(store.listing(folder)):
        if file.may_be_baseline:
            files.append(file)
            if file.accepted or len(files) == min(most, WINDOW):
                break
    return files


def _path(store: Store, key: PlainMapping) -> str:
    return f"{store.files.root}/{_FOLDER}/{layout.device_folder(key)}-{hardware_digest(key)}.json"
