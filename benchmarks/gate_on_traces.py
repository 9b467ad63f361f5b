"""False alarms and power of the gate on real records of one machine.

Fill a store by repeating one suite with nothing changed, then replay the gate over it::

    for i in $(seq 20); do pytest -q --gpuperf --gpuperf-store traces example_suite; done
    python benchmarks/gate_on_traces.py traces

Every invocation is compared with one and with several others as its baseline; then again with its latencies multiplied,
to see what would have been found.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from dataclasses import replace

from pytest_gpuperf.analysis.compare import Rule, compare
from pytest_gpuperf.analysis.priors import PRIORS
from pytest_gpuperf.model import Histogram, Record, Verdict
from pytest_gpuperf.model.histogram import GAMMA
from pytest_gpuperf.store import Store


def slowed(record: Record, factor: float) -> Record:
    """The record as it would be if everything took ``factor`` times as long."""
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
    """Complete records by test, for every invocation in the store, oldest first."""
    found: dict[str, dict[str, Record]] = {}
    for folder in store.folders():
        for entry in store.entries(folder):
            record = store.read(entry)
            if record.status == "complete":
                found.setdefault(record.invocation, {})[record.test] = record
    return sorted(found.values(), key=lambda tests: min(record.created_utc for record in tests.values()))


def share(candidates: Sequence[dict[str, Record]], size: int, factor: float, wanted: Verdict, *, each: bool) -> float:
    """How often the verdict is given to any test of an invocation, or (``each``) to the single tests."""
    generator = random.Random(size)
    hits = total = 0
    for tests in candidates:
        others = [other for other in candidates if other is not tests]
        for _ in range(12):
            baseline = generator.sample(others, min(size, len(others)))
            verdicts = []
            for name, record in tests.items():
                known = [other[name] for other in baseline if name in other]
                rule = Rule(prior=PRIORS["cpu"], tests=len(tests))
                verdicts.append(compare(slowed(record, factor), known, rule).verdict is wanted)
            hits += sum(verdicts) if each else any(verdicts)
            total += len(verdicts) if each else 1
    return hits / total


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and power of the gate on real records.")
    parser.add_argument("store")
    found = invocations(Store(parser.parse_args().store))
    print(f"{len(found)} invocations of {max(map(len, found), default=0)} tests")
    print("baseline  false alarm     found, of single tests            called unchanged")
    print("records  in invocation   +10%   +20%   +50%   +200%        A/A    +50%")
    for size in (1, 3, 10):
        alarm = share(found, size, 1.0, Verdict.REGRESSED, each=False)
        power = [share(found, size, factor, Verdict.REGRESSED, each=True) for factor in (1.1, 1.2, 1.5, 3.0)]
        same = [share(found, size, factor, Verdict.UNCHANGED, each=True) for factor in (1.0, 1.5)]
        print(
            f"{size:8}  {alarm:13.1%}   "
            + "".join(f"{one:6.1%} " for one in power)
            + "      "
            + "".join(f"{one:6.1%} " for one in same)
        )


if __name__ == "__main__":
    main()
