"""False alarms and power of the gate in simulation: every number of docs/deciding.md::

    python benchmarks/gate_error_rates.py            # minutes
    python benchmarks/gate_error_rates.py --quick    # under a minute, wider intervals

The simulated logs of runs go through the very functions that decide about records (``analysis.evidence`` and
``analysis.decision`` work on arrays), with 20 points x 4 metrics. A run's effect is log-normal, heavy-tailed (Student's
t with 3 degrees of freedom) or bimodal (three starts of ten are slow, two standard deviations apart), all scaled to the
same standard deviation. In "independent" every point and metric has effects of its own, in "shared" all have the same
ones, as when a start or a day moves everything; "mixed" is half of each. Of many scenarios the worst is printed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from pytest_gpuperf.analysis.anchored import ENOUGH, STEADIER
from pytest_gpuperf.analysis.compare import compare, compare_values
from pytest_gpuperf.analysis.decision import decide
from pytest_gpuperf.analysis.evidence import StoredArrays, averaging, duet_evidence, stored_evidence
from pytest_gpuperf.analysis.panel import with_means
from pytest_gpuperf.analysis.priors import Assumed, Prior, with_history
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.sequential import alpha_share, looks
from pytest_gpuperf.analysis.values import RecordValues, values_from_numbers
from pytest_gpuperf.model import Histogram, LoadPoint, Record, Run, Window

POINTS, METRICS = 20, 4
SERIES = POINTS * METRICS
#: Series of each metric's points.
GROUPS = [list(range(metric * POINTS, (metric + 1) * POINTS)) for metric in range(METRICS)]
ALIKE = averaging([*(f"sweep {metric}" for metric in range(METRICS)), *np.repeat(np.arange(METRICS), POINTS).tolist()])
SHAPES = ("log-normal", "heavy-tailed", "bimodal")
SHARING = ("independent", "mixed", "shared")
CHUNK = 200

FloatArray = npt.NDArray[np.float64]
Alarms = Callable[[np.random.Generator, int], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class World:
    """How runs and records differ.

    Attributes:
        run_sd: standard deviation of the log between runs (in a duet: between the differences of blocks).
        record_sd: likewise between records.
    """

    shape: str = "log-normal"
    sharing: str = "shared"
    run_sd: float = 0.01
    record_sd: float = 0.01

    def runs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """Effects of runs, for (repetitions, series, ...)."""
        return self.run_sd * self._spread(shape, lambda size: effects(rng, self.shape, size))

    def records(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """Effects of records, for (repetitions, series, ...)."""
        return self.record_sd * self._spread(shape, rng.standard_normal)

    def _spread(self, shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], FloatArray]) -> FloatArray:
        one = (shape[0], 1, *shape[2:])
        if self.sharing == "independent":
            return draw(shape)
        if self.sharing == "shared":
            return np.broadcast_to(draw(one), shape)
        return math.sqrt(0.5) * (draw(shape) + draw(one))


def effects(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> FloatArray:
    """Random effects of standard deviation 1."""
    if shape == "heavy-tailed":
        return rng.standard_t(3, size) / math.sqrt(3)
    if shape == "bimodal":
        return 2 * (rng.random(size) < 0.3) + 0.4 * rng.standard_normal(size)
    return rng.standard_normal(size)


def assumed(prior: Prior) -> Assumed:
    return Assumed.of([prior] * (SERIES + METRICS))


def stored(world: World, records: int, rule: Rule, *, max_runs: int = 3, effect: float = 0.0) -> Alarms:
    """Whether the gate finds a regression, of a record against some records of 3 runs."""
    prior = assumed(rule.prior if isinstance(rule.prior, Prior) else rule.prior.default)

    def alarms(rng: np.random.Generator, repetitions: int) -> npt.NDArray[np.bool_]:
        history = world.records(rng, (repetitions, SERIES, records))[..., None] + world.runs(
            rng, (repetitions, SERIES, records, 3)
        )
        candidate = world.records(rng, (repetitions, SERIES))[..., None] + world.runs(
            rng, (repetitions, SERIES, max_runs)
        )
        history = with_means(history, GROUPS, axis=1)
        candidate = with_means(candidate + math.log1p(effect), GROUPS, axis=1)
        found = np.zeros(repetitions, dtype=bool)
        for index, look in enumerate(looks(max_runs)):
            arrays = StoredArrays(candidate[..., :look], history, ALIKE)
            spent = replace(rule, look_share=alpha_share(index, max_runs))
            found |= decide(stored_evidence(arrays, prior), METRICS, spent).worse.any(axis=-1)
        return found

    return alarms


@dataclass(frozen=True)
class Anchors:
    """Records whose windows stand beside those of an anchor.

    Attributes:
        machine_sd: of what moves target and anchor alike from record to record.
        anchor_sd: of what moves the anchor alone.
    """

    machine_sd: float
    anchor_sd: float

    @property
    def label(self) -> str:
        return f"machine sd {self.machine_sd:.0%}, anchor sd {self.anchor_sd:.1%}"

    def alarms(self, world: World, records: int, rule: Rule, effect: float = 0.0) -> Alarms:
        """Whether the gate finds a regression, where it takes for each metric what spreads less."""
        prior = assumed(rule.prior if isinstance(rule.prior, Prior) else rule.prior.default)

        def found(rng: np.random.Generator, repetitions: int) -> npt.NDArray[np.bool_]:
            size = (repetitions, SERIES, records + 1)
            own = world.records(rng, size)[..., None] + world.runs(rng, (*size, 3))
            own[:, :, 0] += math.log1p(effect)
            one = (repetitions, 1, records + 1, 1)
            plain = own + self.machine_sd * rng.standard_normal(one)
            ratios = own - self.anchor_sd * rng.standard_normal(one)
            # As ``analysis.anchored`` does: from the baseline, for each metric.
            spreads = [
                side[:, :, 1:].mean(axis=-1).var(axis=-1, ddof=1).reshape(repetitions, METRICS, POINTS).mean(axis=-1)
                for side in (plain, ratios)
            ]
            chosen = (records >= ENOUGH) & (spreads[1] * STEADIER < spreads[0])
            values = np.where(np.repeat(chosen, POINTS, axis=1)[..., None, None], ratios, plain)
            values = with_means(values, GROUPS, axis=1)
            arrays = StoredArrays(values[:, :, 0], values[:, :, 1:], ALIKE)
            return np.asarray(decide(stored_evidence(arrays, prior), METRICS, rule).worse.any(axis=-1))

        return found


@dataclass(frozen=True)
class Duet:
    """A duet of some blocks.

    Attributes:
        earlier: blocks in each of the earlier duets of the key.
        drift: of the log over the whole job.
        apart: the sides don't fit into memory together, so whole starts alternate A B, B A; else short windows do.
        slow: how many of the points have the effect.
    """

    world: World
    blocks: int = 5
    earlier: tuple[int, ...] = ()
    effect: float = 0.0
    slow: int = POINTS
    drift: float = 0.0
    apart: bool = False
    windows: int = 24


def duet(setting: Duet, rule: Rule, *, sequential: bool = True) -> Alarms:
    """Whether the gate finds a regression."""
    world = setting.world
    shift = np.zeros(SERIES)
    for group in GROUPS:
        shift[group[: setting.slow]] = math.log1p(setting.effect)

    def differences(rng: np.random.Generator, repetitions: int, blocks: int) -> FloatArray:
        size = (repetitions, SERIES, blocks)
        return (world.runs(rng, size) - world.runs(rng, size)) / math.sqrt(2)

    def alarms(rng: np.random.Generator, repetitions: int) -> npt.NDArray[np.bool_]:
        own = differences(rng, repetitions, setting.blocks) + shift[:, None] + drifts(rng, setting, repetitions)
        own = with_means(own, GROUPS, axis=1)
        prior = assumed(rule.block_prior if isinstance(rule.block_prior, Prior) else rule.block_prior.default)
        if setting.earlier:
            size = max(setting.earlier)
            past = np.full((repetitions, SERIES, len(setting.earlier), size), np.nan)
            for index, blocks in enumerate(setting.earlier):
                past[:, :, index, :blocks] = differences(rng, repetitions, blocks)
            prior = with_history(prior, with_means(past, GROUPS, axis=1))
        found = np.zeros(repetitions, dtype=bool)
        planned = looks(setting.blocks) if sequential else (setting.blocks,)
        for index, look in enumerate(planned):
            spent = alpha_share(index, setting.blocks) if sequential else 1.0
            evidence = duet_evidence(own[..., :look], ALIKE, prior)
            found |= decide(evidence, METRICS, replace(rule, look_share=spent)).worse.any(axis=-1)
        return found

    return alarms


def drifts(rng: np.random.Generator, setting: Duet, repetitions: int) -> FloatArray:
    """What a machine that becomes slower all the time adds to the differences, shape (repetitions, series, blocks)."""
    blocks, windows = setting.blocks, setting.windows
    if setting.apart:
        # A start of one side, then of the other: half a block apart, in turns.
        order = np.where(np.arange(blocks) % 2, 1.0, -1.0)
        return np.broadcast_to(-order * setting.drift / (2 * blocks), (repetitions, SERIES, blocks))
    # Pairs A B, B A, ... of neighbouring windows; one more pair one way round where their number is odd.
    each = setting.drift / (blocks * POINTS * windows * 2)
    left_over = each * (windows % 2) / windows
    return left_over * rng.choice([-1.0, 1.0], (repetitions, SERIES, blocks))


@dataclass(frozen=True)
class Rate:
    """How often something happened, with exact bounds (Clopper and Pearson 1934)."""

    hits: int
    tries: int

    @property
    def share(self) -> float:
        return self.hits / self.tries

    @property
    def upper(self) -> float:
        """95% upper bound, one-sided."""
        return float(stats.beta.ppf(0.95, self.hits + 1, self.tries - self.hits)) if self.hits < self.tries else 1.0

    @property
    def lower(self) -> float:
        """Likewise the lower bound."""
        return float(stats.beta.ppf(0.05, self.hits, self.tries - self.hits + 1)) if self.hits else 0.0


def rate(alarms: Alarms, repetitions: int, seed: int) -> Rate:
    """Repeat in chunks that fit into the cache."""
    rng = np.random.default_rng(seed)
    hits = 0
    for start in range(0, repetitions, CHUNK):
        hits += int(alarms(rng, min(CHUNK, repetitions - start)).sum())
    return Rate(hits, repetitions)


def worlds() -> Iterator[World]:
    """The corners and the middle of run sd 0.5 to 3%, record sd 0 to 2%."""
    spreads = [(0.005, 0.0), (0.005, 0.02), (0.01, 0.01), (0.03, 0.0), (0.03, 0.02)]
    for shape, sharing, (run_sd, record_sd) in itertools.product(SHAPES, SHARING, spreads):
        yield World(shape, sharing, run_sd, record_sd)


def block_worlds() -> Iterator[World]:
    """Differences of blocks whose sides spread by 0.5 to 3%, after all cancellation or none (times the root of 2)."""
    for shape, sharing, run_sd in itertools.product(SHAPES, SHARING, (0.005, 0.015, 0.03, 0.0424)):
        yield World(shape, sharing, run_sd, 0.0)


def others(rng: np.random.Generator, repetitions: int, world: World) -> dict[str, tuple[float, float]]:
    """How often other rules alarm on the same worlds with nothing changed: at one point, and at any of 20.

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
        one, other = (side[:, 0, :] for side in sides)
        picks = rng.integers(0, requests, (2, resamples, requests))
        ratio = one[:, picks[0]].mean(axis=2) / other[:, picks[1]].mean(axis=2) - 1
        found = {
            "mean > +5%": shift > 0.05,
            "Mann-Whitney over requests, p < 0.05": stats.mannwhitneyu(
                after, before, axis=1, alternative="greater"
            ).pvalue
            < 0.05,
            "criterion-like bootstrap": (np.quantile(ratio, 0.025, axis=1) > 0) & (one.mean(1) / other.mean(1) > 1.01),
        }
        for name, hits in found.items():
            alarms.setdefault(name, []).append(hits)
    return {name: (float(np.mean(hits)), float(np.any(hits, axis=1).mean())) for name, hits in alarms.items()}


def ours_at_one_record(world: World, repetitions: int) -> Rate:
    """The gate where the others stand: one record against one, at any of 20 points x 4 metrics."""
    return rate(stored(world, 1, Rule()), repetitions, 5)


@dataclass(frozen=True)
class Line:
    """A number of the table.

    Attributes:
        cases: name and what decides, of each scenario.
        power: the least of them counts, else the largest.
        bound: at least (power), or at most.
    """

    what: str
    cases: Sequence[tuple[str, Alarms]]
    bound: float
    power: bool = False

    def measured(self, repetitions: int) -> tuple[str, Rate]:
        found = [(name, rate(alarms, repetitions, 1 + index)) for index, (name, alarms) in enumerate(self.cases)]
        order = sorted(found, key=lambda one: one[1].share)
        return order[0] if self.power else order[-1]

    def settled(self, repetitions: int) -> tuple[str, Rate]:
        """The worst scenario measured again by itself: the worst of many estimates is too bad an estimate."""
        name, _ = self.measured(repetitions)
        alarms = dict(self.cases)[name]
        return name, rate(alarms, 10 * repetitions, 10_000)

    def met(self, found: Rate, quick: bool) -> bool:
        """An alarm rate's upper bound may lie 1.5% above what is asked. Few repetitions can only contradict."""
        if quick:
            return found.upper >= self.bound if self.power else found.lower <= self.bound
        return (
            found.share >= self.bound if self.power else found.share <= self.bound and found.upper <= self.bound + 0.015
        )


def lines() -> Iterator[Line]:
    """The rows of the table in docs/deciding.md."""
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
                )
        rule = Rule(min_effect=min_effect)
        for blocks in (3, 5, 8):
            for earlier in ((), (5, 5)):
                history = "with history" if earlier else "no history"
                yield Line(
                    f"A/A, duet, looks up to {blocks} blocks, {history}, min_effect {min_effect:g}",
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
    for min_effect in (0.01, 0.0):
        for records in (8, 20):
            yield Line(
                f"A/A, anchored, {records} records, min_effect {min_effect:g}",
                [
                    (f"{label(w)}, {one.label}", one.alarms(w, records, Rule(min_effect=min_effect)))
                    for w in worlds()
                    for one in (Anchors(0.01, 0.01), Anchors(0.03, 0.02), Anchors(0.08, 0.01))
                    if w.sharing != "mixed"
                ],
                0.05,
            )
    yield from power_lines()


def power_lines() -> Iterator[Line]:
    for sequential in (False, True):
        looked = ", looks at 3 and 5" if sequential else ""
        cases = [(s, duet(Duet(World(sharing=s), 5, effect=0.05), Rule(), sequential=sequential)) for s in SHARING]
        yield Line(f"duet, +5% everywhere, 5 blocks, sd 1%{looked}", cases, 0.95, power=True)
    for sequential in (False, True):
        looked = ", looks at 3, 5 and 8" if sequential else ""
        cases = [
            (s, duet(Duet(World(sharing=s, run_sd=0.015), 8, (5,) * 5, 0.05, slow=1), Rule(), sequential=sequential))
            for s in SHARING
        ]
        yield Line(f"duet, +5% on 1 point of 20, 8 blocks, sd 1.5%, history of 10 df{looked}", cases, 0.9, power=True)
    for min_effect, bound in ((0.01, 0.7), (0.0, 0.9)):
        cases = [(s, stored(World(sharing=s), 20, Rule(min_effect=min_effect), effect=0.05)) for s in SHARING]
        yield Line(f"stored, 20 records, +5% everywhere, min_effect {min_effect:g}", cases, bound, power=True)
    for one, told in ((Anchors(0.05, 0.005), "anchored"), (Anchors(0.05, math.inf), "not anchored")):
        cases = [(s, one.alarms(World(sharing=s), 20, Rule(), 0.1)) for s in SHARING]
        yield Line(f"stored, 20 records, +10% everywhere, machine sd 5%, {told}", cases, 0.0, power=True)
    cases = [(s, stored(World(sharing=s), 10, Rule(), effect=0.1)) for s in SHARING]
    yield Line("stored, 10 records, +10% everywhere", cases, 0.99, power=True)
    cases = [(label(w), stored(w, 1, Rule(), effect=0.5)) for w in worlds()]
    yield Line("stored, 1 record, +50%", cases, 0.99, power=True)


def label(world: World) -> str:
    record = f", record sd {world.record_sd:.1%}" if world.record_sd else ""
    return f"{world.shape}, {world.sharing}, run sd {world.run_sd:.1%}{record}"


def seconds_of_a_comparison() -> tuple[float, float]:
    """20 points x 4 metrics against 20 records of 3 runs, from plain values and from records; the best of 20 each."""
    rng = np.random.default_rng(1)
    metrics = ("p50", "p90", "p95", "throughput")
    rule = Rule(metrics=frozenset(metrics))

    def stored_record(name: str) -> Record:
        def window(point: int, visit: int) -> Window:
            buckets = int(rng.integers(2890, 2910)) + np.arange(60)
            latency = Histogram(tuple(buckets.tolist()), tuple(rng.integers(1, 70, 60).tolist()))
            return Window("sweep", LoadPoint(point), visit, 0.7, latency.total, 1e3, 2e6, latency)

        visits = list(itertools.product(range(3), range(1, POINTS + 1)))
        runs = (Run("sweep", run, 2.5, 0.7, True, tuple(window(p, visit) for visit, p in visits)) for run in range(3))
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
    from_records = min(timeit.repeat(lambda: compare(new, old, rule), number=1, repeat=20))
    return from_values, from_records


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and power of the gate in simulation.")
    parser.add_argument("--quick", action="store_true", help="under a minute, with wider intervals")
    parser.add_argument(
        "--repetitions", type=int, default=1000, help="of each scenario; the worst is repeated 10 times"
    )
    options = parser.parse_args()
    repetitions = 80 if options.quick else options.repetitions
    missed = 0
    print("20 points x 4 metrics, alpha 5%; 95% upper bounds in brackets\n")
    for line in lines():
        name, found = line.settled(repetitions)
        met = line.met(found, options.quick)
        missed += not met
        wanted = f"{'>=' if line.power else '<='} {line.bound:.0%}"
        bound = f"(at least {found.lower:.1%})" if line.power else f"(at most {found.upper:.1%})"
        shown = f"{found.share:6.1%} {bound:18} {wanted:7} {'' if met else 'MISSED '}"
        print(f"{line.what:86} {shown}{name}", flush=True)
    print("\nother rules with nothing changed, one record of 3 runs a side: at one point, at any of 20")
    rng = np.random.default_rng(1)
    for world in (
        World(sharing="shared"),
        World("heavy-tailed", "independent", 0.02, 0.01),
        World("bimodal", "independent", 0.03, 0.0),
    ):
        print(f"  {label(world)}")
        for name, (single, family) in others(rng, max(repetitions // 10, 10), world).items():
            print(f"    {name:40} {single:6.1%} {family:6.1%}")
        print(f"    {'this gate, 20 points x 4 metrics':40}        {ours_at_one_record(world, repetitions).share:6.1%}")
    from_values, from_records = seconds_of_a_comparison()
    print("\na comparison of 20 points x 4 metrics against 20 records of 3 runs:")
    print(f"  {1e3 * from_values:.1f} ms from plain values, {1e3 * from_records:.1f} ms from records in memory")
    print(f"{missed} rows missed" if missed else "every row met")
    raise SystemExit(bool(missed))


if __name__ == "__main__":
    main()
