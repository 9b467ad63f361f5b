"""False alarms and power of the gate in simulation: every number of docs/deciding.md::

    python -m benchmarks.gate_error_rates            # an hour
    python -m benchmarks.gate_error_rates --quick    # minutes, wider intervals
    python -m benchmarks.gate_error_rates --only fleet --rows 'suite of 50'

The simulated logs of runs go through the very functions that decide about records (``analysis.evidence`` and
``analysis.decision`` work on arrays), with 20 points x 4 metrics. A run's effect is log-normal, heavy-tailed (Student's
t with 3 degrees of freedom) or bimodal (three starts of ten are slow, two standard deviations apart), all scaled to the
same standard deviation. In "independent" each point and metric has separate effects, in "shared" all have the same
effects, as when a start or a day moves everything; "mixed" is half of each. Of many scenarios the worst is printed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import timeit
from collections.abc import Iterator

import numpy as np
from scipy import stats

from benchmarks.fleet_lines import fleet_lines
from benchmarks.simulated_gate import (
    POINTS,
    SHAPES,
    SHARING,
    Anchors,
    Duet,
    FloatArray,
    Line,
    Rate,
    World,
    duet,
    rate,
    stored,
)
from pytest_gpuperf.analysis.priors import Prior
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import compare_values
from pytest_gpuperf.analysis.values import RecordValues, values_from_numbers
from pytest_gpuperf.model import Histogram, LoadPoint, Record, Run, StartTimes, Window
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.store import Baseline

#: Part of the usual repetitions where stored records are judged, which takes some milliseconds each.
EFFORT = 0.3


def worlds() -> Iterator[World]:
    """Yield the corners and the middle of run sd 0.5 to 3%, record sd 0 to 2%."""
    spreads = [(0.005, 0.0), (0.005, 0.02), (0.01, 0.01), (0.03, 0.0), (0.03, 0.02)]
    for shape, sharing, (run_sd, record_sd) in itertools.product(SHAPES, SHARING, spreads):
        yield World(shape, sharing, run_sd, record_sd)


def block_worlds() -> Iterator[World]:
    """Yield differences of blocks whose sides spread by 0.5 to 3%: all cancels, or nothing (times the root of 2)."""
    for shape, sharing, run_sd in itertools.product(SHAPES, SHARING, (0.005, 0.015, 0.03, 0.0424)):
        yield World(shape, sharing, run_sd, 0.0)


def rival_rates(rng: np.random.Generator, repetitions: int, world: World) -> dict[str, tuple[float, float]]:
    """Return how often other rules alarm on the same worlds with nothing changed: at one point, and at any of 20.

    Each side is one record of 3 runs of 200 requests, whose latencies spread by 10% within a run.
    """
    runs, requests, resamples = 3, 200, 200
    alarms: dict[str, list[FloatArray]] = {}
    for _ in range(repetitions):
        sides = []
        for _ in range(2):
            level = world.records(rng, (1, POINTS))[0][:, None] + world.runs(rng, (1, POINTS, runs))[0]
            sides.append(np.exp(level[..., None] + 0.1 * rng.standard_normal((POINTS, runs, requests))))
        after, before = (side.reshape(POINTS, -1) for side in sides)
        shift = after.mean(axis=1) / before.mean(axis=1) - 1
        # As criterion does: one process a side, its bootstrap of the mean, and a noise threshold of 1%.
        candidate, reference = (side[:, 0, :] for side in sides)
        picks = rng.integers(0, requests, (2, resamples, requests))
        ratio = candidate[:, picks[0]].mean(axis=2) / reference[:, picks[1]].mean(axis=2) - 1
        regressed = {
            "mean > +5%": shift > 0.05,
            "Mann-Whitney over requests, p < 0.05": stats.mannwhitneyu(
                after, before, axis=1, alternative="greater"
            ).pvalue
            < 0.05,
            "criterion-like bootstrap": (np.quantile(ratio, 0.025, axis=1) > 0)
            & (candidate.mean(1) / reference.mean(1) > 1.01),
        }
        for name, hits in regressed.items():
            alarms.setdefault(name, []).append(hits)
    return {name: (float(np.mean(hits)), float(np.any(hits, axis=1).mean())) for name, hits in alarms.items()}


def gate_rate_at_a_single_record(world: World, repetitions: int) -> Rate:
    """Return the gate's rate in the same situation: one record against one, at any of 20 points x 4 metrics."""
    return rate(stored(world, 1, Rule()), repetitions, 5)


def single_lines() -> Iterator[Line]:
    """Yield the rows of a single test against stored records."""
    for min_effect in (0.01, 0.0):
        for records in (1, 3, 10, 20):
            for max_runs in (3, 8):
                yield Line(
                    f"A/A, stored, {records} records, up to {max_runs} runs, min_effect {min_effect:g}",
                    [
                        (f"{label(w)}, prior {sd:g}", stored(w, records, rule, max_runs=max_runs))
                        for w in worlds()
                        for sd in ((0.02, 0.05) if records < 9 else (0.05,))
                        for rule in [Rule(prior=Prior(sd, 8), min_effect=min_effect)]
                    ],
                    0.05,
                    effort=EFFORT,
                )
    for min_effect, bound in ((0.01, 0.7), (0.0, 0.9)):
        cases = [(s, stored(World(sharing=s), 20, Rule(min_effect=min_effect), effect=0.05)) for s in SHARING]
        yield Line(
            f"stored, 20 records, +5% everywhere, min_effect {min_effect:g}", cases, bound, power=True, effort=EFFORT
        )
    cases = [(s, stored(World(sharing=s), 10, Rule(), effect=0.1)) for s in SHARING]
    yield Line("stored, 10 records, +10% everywhere", cases, 0.99, power=True, effort=EFFORT)
    cases = [(label(w), stored(w, 1, Rule(), effect=0.5)) for w in worlds()]
    yield Line("stored, 1 record, +50%", cases, 0.99, power=True, effort=EFFORT)


def duet_lines() -> Iterator[Line]:
    """Yield the rows of duets."""
    for min_effect in (0.01, 0.0):
        rule = Rule(min_effect=min_effect)
        for blocks in (3, 5, 8):
            for earlier in ((), (5, 5)):
                history = "with history" if earlier else "no history"
                yield Line(
                    f"A/A, duet, looks from 2 to {blocks} blocks, {history}, min_effect {min_effect:g}",
                    [(label(w), duet(Duet(w, blocks, earlier), rule)) for w in block_worlds()],
                    0.05,
                )
    for windows, apart in ((24, False), (5, False), (24, True)):
        how = "starts alternate" if apart else f"{windows} alternations"
        yield Line(
            f"A/A, duet, 5 blocks, 3% drift, {how}",
            [(label(w), duet(Duet(w, 5, drift=0.03, windows=windows, apart=apart), Rule())) for w in block_worlds()],
            0.06,
        )
    for sequential in (False, True):
        looked = ", looks at 2 to 5" if sequential else ""
        cases = [(s, duet(Duet(World(sharing=s), 5, effect=0.05), Rule(), sequential=sequential)) for s in SHARING]
        yield Line(f"duet, +5% everywhere, 5 blocks, sd 1%{looked}", cases, 0.95, power=True)
    for sequential in (False, True):
        looked = ", looks at 2 to 8" if sequential else ""
        cases = [
            (s, duet(Duet(World(sharing=s, run_sd=0.015), 8, (8,) * 10, 0.05, slow=1), Rule(), sequential=sequential))
            for s in SHARING
        ]
        yield Line(f"duet, +5% on 1 point of 20, 8 blocks, sd 1.5%, history of 10 df{looked}", cases, 0.9, power=True)


def anchor_lines() -> Iterator[Line]:
    """Yield the rows of records with an anchor."""
    for min_effect in (0.01, 0.0):
        for records in (8, 20):
            yield Line(
                f"A/A, anchored, {records} records, min_effect {min_effect:g}",
                [
                    (f"{label(w)}, {anchors.label}", anchors.alarms(w, records, Rule(min_effect=min_effect)))
                    for w in worlds()
                    for anchors in (Anchors(0.01, 0.01), Anchors(0.03, 0.02), Anchors(0.08, 0.01))
                    if w.sharing != "mixed"
                ],
                0.05,
                effort=EFFORT,
            )
    for anchors, judged in ((Anchors(0.05, 0.005), "anchored"), (Anchors(0.05, math.inf), "not anchored")):
        cases = [(s, anchors.alarms(World(sharing=s), 20, Rule(), 0.1)) for s in SHARING]
        yield Line(
            f"stored, 20 records, +10% everywhere, machine sd 5%, {judged}", cases, 0.0, power=True, effort=EFFORT
        )


PARTS = {"single": single_lines, "duet": duet_lines, "anchor": anchor_lines, "fleet": fleet_lines}


def label(world: World) -> str:
    record = f", record sd {world.record_sd:.1%}" if world.record_sd else ""
    return f"{world.shape}, {world.sharing}, run sd {world.run_sd:.1%}{record}"


def seconds_of_a_comparison() -> tuple[float, float]:
    """Time 20 points x 4 metrics against 20 records of 3 runs, from plain values and from records; the best of 20."""
    rng = np.random.default_rng(1)
    metrics = ("p50", "p90", "p95", "throughput")
    rule = Rule(metrics=frozenset(metrics))

    def stored_record(name: str) -> Record:
        def window(point: int, visit: int) -> Window:
            buckets = int(rng.integers(2890, 2910)) + np.arange(60)
            latency = Histogram(tuple(buckets.tolist()), tuple(rng.integers(1, 70, 60).tolist()))
            return Window("sweep", LoadPoint(point), visit, 0.7, latency.total, 1e3, 2e6, latency)

        visits = list(itertools.product(range(3), range(1, POINTS + 1)))
        runs = (
            Run("sweep", run, StartTimes(2.5), 0.7, True, tuple(window(p, visit) for visit, p in visits))
            for run in range(3)
        )
        created = "2026-01-31T12:00:00.000+00:00"
        return Record(name, "0" * 32, "test", created, {}, "complete", "passed", tuple(runs), "0" * 40)

    def record(name: str) -> RecordValues:
        runs = [
            {
                f"concurrency {point}": {metric: math.exp(rng.normal(0, 0.01)) for metric in metrics}
                for point in range(POINTS)
            }
            for _ in range(3)
        ]
        return values_from_numbers(name, runs)

    here, there = record("new"), [record(str(index)) for index in range(20)]
    from_values = min(timeit.repeat(lambda: compare_values(here, there, rule), number=1, repeat=20))
    new, old = stored_record("new"), [stored_record(str(index)) for index in range(20)]
    from_records = min(timeit.repeat(lambda: compare_record(new, Baseline(tuple(old)), rule), number=1, repeat=20))
    return from_values, from_records


def print_rival_rates(repetitions: int) -> None:
    print("\nother rules with nothing changed, one record of 3 runs a side: at one point, at any of 20")
    rng = np.random.default_rng(1)
    for world in (
        World(sharing="shared"),
        World("heavy-tailed", "independent", 0.02, 0.01),
        World("bimodal", "independent", 0.03, 0.0),
    ):
        print(f"  {label(world)}")
        for name, (single, family) in rival_rates(rng, max(repetitions // 10, 10), world).items():
            print(f"    {name:40} {single:6.1%} {family:6.1%}")
        share = gate_rate_at_a_single_record(world, repetitions).share
        print(f"    {'this gate, 20 points x 4 metrics':40}        {share:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and power of the gate in simulation.")
    parser.add_argument("--quick", action="store_true", help="a minute or two for each part, with wider intervals")
    parser.add_argument("--only", choices=PARTS, help="measure only this part of the table")
    parser.add_argument("--rows", default="", metavar="TEXT", help="measure only the rows that contain this text")
    parser.add_argument(
        "--repetitions", type=int, default=1000, help="of each scenario; the worst is repeated 10 times"
    )
    options = parser.parse_args()
    repetitions = 80 if options.quick else options.repetitions
    missed = 0
    print("20 points x 4 metrics (fleets: 10 x 3), alpha 5%; 95% bounds in brackets\n")
    for line in itertools.chain.from_iterable(part() for name, part in PARTS.items() if options.only in (None, name)):
        if options.rows not in line.what:
            continue
        name, measured = line.worst_rate(repetitions)
        missed += not line.is_met(measured, options.quick)
        print(f"{line.text(measured, options.quick)}{name}", flush=True)
    if not options.only and not options.rows:
        print_rival_rates(repetitions)
        from_values, from_records = seconds_of_a_comparison()
        print("\na comparison of 20 points x 4 metrics against 20 records of 3 runs:")
        print(f"  {1e3 * from_values:.1f} ms from plain values, {1e3 * from_records:.1f} ms from records in memory")
    print(f"{missed} rows missed" if missed else "every row met")
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
