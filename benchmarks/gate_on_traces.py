"""False alarms and power of the gate on real records of one machine.

Fill a store by repeating one suite with nothing changed, then replay the gate over it::

    for i in $(seq 20); do pytest -q --gpuperf --gpuperf-store=traces example_suite; done
    python benchmarks/gate_on_traces.py traces

Every invocation is compared with one and with several others as its baseline, then again with its latencies
multiplied by a factor to measure the power.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import replace

from pytest_gpuperf.analysis.priors import PRIORS
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.model import Histogram, Record, Verdict
from pytest_gpuperf.model.histogram import GAMMA
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.store import Baseline, Store


def slowed(record: Record, factor: float) -> Record:
    """Return the record with all times multiplied by ``factor``."""
    shift = round(math.log(factor) / math.log(GAMMA))
    runs = tuple(
        replace(
            run,
            windows=tuple(
                replace(
                    window,
                    throughput=window.throughput / factor,
                    latency_mean_ns=window.latency_mean_ns * factor,
                    latency=Histogram(tuple(b + shift for b in window.latency.buckets), window.latency.counts),
                )
                for window in run.windows
            ),
        )
        for run in record.runs
    )
    return replace(record, runs=runs)


def invocations(store: Store) -> list[dict[str, Record]]:
    """Return the complete records by test of every invocation in the store, oldest first."""
    tests_of: dict[str, dict[str, Record]] = {}
    for folder in store.folders():
        for entry in store.newest(folder):
            record = store.read(entry)
            if record.status == "complete":
                tests_of.setdefault(record.invocation, {})[record.test] = record
    return sorted(tests_of.values(), key=lambda tests: min(record.created_utc for record in tests.values()))


def share(candidates: Sequence[dict[str, Record]], size: int, factor: float, wanted: Verdict, *, each: bool) -> float:
    """Return how often any test of an invocation gets the verdict, or (``each``) each test."""
    generator = random.Random(size)
    hits = total = 0
    for tests in candidates:
        others = [candidate for candidate in candidates if candidate is not tests]
        for _ in range(12):
            baseline = generator.sample(others, min(size, len(others)))
            verdicts = []
            for name, record in tests.items():
                known = [earlier[name] for earlier in baseline if name in earlier]
                rule = Rule(prior=PRIORS["cpu"], tests=len(tests))
                verdicts.append(compare_record(slowed(record, factor), Baseline(tuple(known)), rule).verdict is wanted)
            hits += sum(verdicts) if each else any(verdicts)
            total += len(verdicts) if each else 1
    return hits / total


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and power of the gate on real records.")
    parser.add_argument("store")
    measured = invocations(Store(parser.parse_args().store))
    print(f"{len(measured)} invocations of {max(map(len, measured), default=0)} tests")
    print("baseline  false alarm     detected, of single tests            called unchanged")
    print("records  in invocation   +10%   +20%   +50%   +200%        A/A    +50%")
    for size in (1, 3, 10):
        alarm = share(measured, size, 1.0, Verdict.REGRESSED, each=False)
        power = [share(measured, size, factor, Verdict.REGRESSED, each=True) for factor in (1.1, 1.2, 1.5, 3.0)]
        same = [share(measured, size, factor, Verdict.UNCHANGED, each=True) for factor in (1.0, 1.5)]
        print(
            f"{size:8}  {alarm:13.1%}   "
            + "".join(f"{value:6.1%} " for value in power)
            + "      "
            + "".join(f"{value:6.1%} " for value in same)
        )


if __name__ == "__main__":
    main()
