"""The time to judge one test in a store of many: its baseline is read, and what the other tests show.

The store has 200 tests of 50 records, each with 20 load points and three runs. Prints the medians of the parts, and the
ratio to a store with this test alone::

    python -m benchmarks.pool_speed
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from benchmarks.store_scaling import KEY, NEWEST, record
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Record
from pytest_gpuperf.model.codec import from_builtins
from pytest_gpuperf.publish.comparison import RecordToJudge, compare_invocation, to_judge
from pytest_gpuperf.publish.pool import PoolReader, update_pool
from pytest_gpuperf.store import Baseline, Store, select_baseline
from pytest_gpuperf.store.record_format.bounds import check_bounds


def fill(store: Store, tests: int, records: int) -> None:
    """Write so many records of so many tests, and the pool as invocations of all tests leave it."""
    pooled: list[tuple[Record, RecordToJudge]] = []
    for number in range(tests):
        key = {**KEY, "test": f"tests/test_{number}.py::test_all"}
        written = [
            replace(
                record(f"{number:06x}{index:06x}", NEWEST - timedelta(minutes=index)), test=str(key["test"]), key=key
            )
            for index in range(records)
        ]
        for each in written:
            store.write(each)
        pooled.append((written[0], to_judge(written[0], Baseline(tuple(written[1:20])), Rule())))
    update_pool(store, pooled)


def median_ms(work: Callable[[], object], turns: int) -> float:
    times = []
    for _ in range(turns):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def judge(store: Store, candidate: Record) -> None:
    """Judge a record as the first test of an invocation is judged."""
    baseline = select_baseline(store, candidate.key)
    assert len(baseline.records) == 20
    compare_invocation([to_judge(candidate, baseline, Rule())], PoolReader(store).read(candidate.key))


def main() -> None:
    parser = argparse.ArgumentParser(description="What other tests cost the gate.")
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--records", type=int, default=50)
    parser.add_argument("--turns", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        alone, many = (Store(str(Path(directory, name))) for name in ("alone", "many"))
        fill(alone, 1, options.records)
        fill(many, options.tests, options.records)
        key = {**KEY, "test": "tests/test_0.py::test_all"}
        candidate = replace(record("f" * 12, NEWEST + timedelta(hours=1)), test=str(key["test"]), key=key)
        baseline = select_baseline(many, key)
        judging = to_judge(candidate, baseline, Rule())
        pools = PoolReader(many).read(key)
        files = list(many.newest(many.folder(key)))[:20]
        contents = [many.files.read(file.path) for file in files]
        bodies = [json.loads(content)["record"] for content in contents]
        parts: dict[str, Callable[[], object]] = {
            "list the records": lambda: list(many.newest(many.folder(key))),
            "read 20 files": lambda: [many.files.read(file.path) for file in files],
            "parse their JSON": lambda: [json.loads(content) for content in contents],
            "make records, with a check of every type": lambda: [from_builtins(Record, body) for body in bodies],
            "check bounds": lambda: list(map(check_bounds, baseline.records)),
            "compute values": lambda: to_judge(candidate, baseline, Rule()),
            "read the pool (once per process)": lambda: PoolReader(many).read(key),
            "compare": lambda: compare_invocation([judging], pools),
            "all": lambda: judge(many, candidate),
            "all, in a store without other tests": lambda: judge(alone, candidate),
        }
        times = {name: median_ms(work, options.turns) for name, work in parts.items()}
    print("| part | ms |\n|---|---:|")
    for name, elapsed_ms in times.items():
        print(f"| {name} | {elapsed_ms:.1f} |")
    print(f"\nratio {times['all'] / times['all, in a store without other tests']:.2f}")


if __name__ == "__main__":
    main()
