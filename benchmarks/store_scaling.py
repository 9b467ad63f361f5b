"""The time of the gate with a long history: a baseline among 1,000 and among 100,000 stored records.

Both stores have the same twenty newest records of a test with 20 load points; the older ones are hard links to a
few files, on other days, 100 a day. The gate finds its baseline and compares with it; prints the medians and their
ratio::

    python benchmarks/store_scaling.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path

from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Histogram, LoadPoint, PlainMapping, Record, Run, StartTimes, Window
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.store import Store, select_baseline

KEY: PlainMapping = {
    "device": "NVIDIA L4",
    "test": "tests/test_serving.py::test_all",
    "version": 1,
    "method_version": 1,
}
NEWEST = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
#: File systems limit the hard links of a file: ext4 to 65,000.
LINKS = 50_000
PER_DAY, WINDOW, POINTS, RUNS = 100, 20, 20, 3


def record(name: str, at: datetime) -> Record:
    """Return a record of 20 load points and three runs, with histograms as wide as real histograms."""
    latency = Histogram(tuple(range(2900, 2960)), tuple(range(10, 70)))
    runs = tuple(
        Run(
            "serving",
            index,
            StartTimes(2.5),
            0.7,
            True,
            tuple(
                Window("serving", LoadPoint(2**number % 1000 + number), 0, 1.0, latency.total, 1e3, 2e6, latency)
                for number in range(POINTS)
            ),
        )
        for index in range(RUNS)
    )
    created = at.isoformat(timespec="milliseconds")
    return Record(name, "0" * 32, str(KEY["test"]), created, KEY, "complete", "passed", runs, "1234567890abcdef")


def fill(store: Store, records: int) -> None:
    """Write so many records; all but the newest twenty are hard links to a few files."""
    for index in range(WINDOW):
        store.write(record(f"{index:012x}", NEWEST - timedelta(minutes=index)))
    folder = Path(store.folder(KEY))
    original = next(folder.rglob("*.json"))
    content = original.read_bytes()
    for index in range(WINDOW, records):
        at = NEWEST - timedelta(days=1 + index // PER_DAY, minutes=index % PER_DAY)
        name = f"{at:%Y%m%dT%H%M%S}000Z-12345678-{index:012x}.json"
        place = folder / f"{at:%Y-%m-%d}"
        place.mkdir(exist_ok=True)
        if index % LINKS == WINDOW:
            original = place / name
            original.write_bytes(content)
        else:
            os.link(original, place / name)


def find_s(store: Store) -> float:
    """Return the seconds to list the newest records, without reading them."""
    begin = time.perf_counter()
    records = list(islice(store.newest(store.folder(KEY)), WINDOW))
    seconds = time.perf_counter() - begin
    assert len(records) == WINDOW
    return seconds


def gate_s(store: Store, candidate: Record) -> float:
    """Return the seconds of a test's gate: list, read, check and compare."""
    begin = time.perf_counter()
    baseline = select_baseline(store, KEY)
    compare_record(candidate, baseline, Rule())
    seconds = time.perf_counter() - begin
    assert len(baseline.records) == WINDOW
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="What a long history costs the gate.")
    parser.add_argument("--records", type=int, nargs=2, default=[1_000, 100_000])
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    candidate = record("f" * 12, NEWEST + timedelta(hours=1))
    with tempfile.TemporaryDirectory() as directory:
        stores = {count: Store(str(Path(directory, str(count)))) for count in options.records}
        for count, store in stores.items():
            fill(store, count)
        finding: dict[int, list[float]] = {count: [] for count in stores}
        gating: dict[int, list[float]] = {count: [] for count in stores}
        for _ in range(options.turns):
            for count, store in stores.items():
                finding[count].append(find_s(store))
                gating[count].append(gate_s(store, candidate))
    print("| stored records | find the newest 20, ms | the whole gate, ms |")
    print("|---:|---:|---:|")
    for count in options.records:
        middle = [statistics.median(times[count]) * 1e3 for times in (finding, gating)]
        print(f"| {count:,} | {middle[0]:.2f} | {middle[1]:.0f} |")
    few, many = (statistics.median(gating[count]) for count in options.records)
    print(f"\nratio {many / few:.2f}")


if __name__ == "__main__":
    main()
