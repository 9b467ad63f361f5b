"""Simulated records and duets: how often the gate raises an alarm, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from benchmarks.suite_gate import Layout, judge_arrays
from pytest_gpuperf.analysis.anchored import ENOUGH, STEADIER
from pytest_gpuperf.analysis.decision import Spending, decide
from pytest_gpuperf.analysis.duet.looks import FIRST_LOOK, look_shares, smallest_levels
from pytest_gpuperf.analysis.evidence import duet_evidence
from pytest_gpuperf.analysis.panel import with_means
from pytest_gpuperf.analysis.priors import Prior, SeriesPriors, with_history
from pytest_gpuperf.analysis.robust import BoolArray
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.sequential import alpha_share, looks
from pytest_gpuperf.model import LookShares

POINTS, METRICS = 20, 4
SERIES = POINTS * METRICS
LAYOUT = Layout(POINTS, METRICS)
#: Series of each metric's points.
GROUPS = LAYOUT.groups
SHAPES = ("log-normal", "heavy-tailed", "bimodal")
SHARING = ("independent", "mixed", "shared")
CHUNK = 200

FloatArray = npt.NDArray[np.float64]
Alarms = Callable[[np.random.Generator, int], BoolArray]


@dataclass(frozen=True)
class World:
    """How runs and records differ.

    Attributes:
        run_sd: Standard deviation of the log between runs (in a duet: between the differences of blocks).
        record_sd: Likewise between records.
    """

    shape: str = "log-normal"
    sharing: str = "shared"
    run_sd: float = 0.01
    record_sd: float = 0.01

    def runs(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """Draw effects of runs, for (repetitions, series, ...)."""
        return self.run_sd * self._spread(shape, lambda size: effects(rng, self.shape, size))

    def records(self, rng: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """Draw effects of records, for (repetitions, series, ...)."""
        return self.record_sd * self._spread(shape, rng.standard_normal)

    def _spread(self, shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], FloatArray]) -> FloatArray:
        common = (shape[0], 1, *shape[2:])
        if self.sharing == "independent":
            return draw(shape)
        if self.sharing == "shared":
            return np.broadcast_to(draw(common), shape)
        return math.sqrt(0.5) * (draw(shape) + draw(common))


def effects(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> FloatArray:
    """Draw random effects of standard deviation 1."""
    if shape == "heavy-tailed":
        return rng.standard_t(3, size) / math.sqrt(3)
    if shape == "bimodal":
        return 2 * (rng.random(size) < 0.3) + 0.4 * rng.standard_normal(size)
    return rng.standard_normal(size)


def assumed(prior: Prior) -> SeriesPriors:
    return SeriesPriors.of([prior] * (SERIES + METRICS))


def stored(world: World, records: int, rule: Rule, *, max_runs: int = 3, effect: float = 0.0) -> Alarms:
    """Return the alarms of a record against some records of 3 runs."""

    def alarms(rng: np.random.Generator, repetitions: int) -> BoolArray:
        history = world.records(rng, (repetitions, SERIES, records))[..., None] + world.runs(
            rng, (repetitions, SERIES, records, 3)
        )
        candidate = world.records(rng, (repetitions, SERIES))[..., None] + world.runs(
            rng, (repetitions, SERIES, max_runs)
        )
        candidate = candidate + math.log1p(effect)
        regressed = np.zeros(repetitions, dtype=bool)
        for index, look in enumerate(looks(max_runs)):
            spending = Spending(alpha_share(index, max_runs))
            regressed |= judge_tests(candidate[..., :look], history, rule, spending)
        return regressed

    return alarms


def judge_tests(candidate: FloatArray, history: FloatArray, rule: Rule, spending: Spending | None = None) -> BoolArray:
    """Return which of some tests regressed, each of them the only test of its invocation."""
    sides = zip(candidate, history, strict=True)
    verdicts = [judge_arrays(LAYOUT, now[None], before[None], rule, spending=spending) for now, before in sides]
    return np.array([verdict.regressed[0] for verdict in verdicts])


@dataclass(frozen=True)
class Anchors:
    """Records whose windows stand beside those of an anchor.

    Attributes:
        machine_sd: Standard deviation between records of what moves target and anchor together.
        anchor_sd: Standard deviation of what moves only the anchor.
    """

    machine_sd: float
    anchor_sd: float

    @property
    def label(self) -> str:
        return f"machine sd {self.machine_sd:.0%}, anchor sd {self.anchor_sd:.1%}"

    def alarms(self, world: World, records: int, rule: Rule, effect: float = 0.0) -> Alarms:
        """Return the alarms of a gate that judges, for each metric, the values that spread less."""

        def alarms(rng: np.random.Generator, repetitions: int) -> BoolArray:
            size = (repetitions, SERIES, records + 1)
            target = world.records(rng, size)[..., None] + world.runs(rng, (*size, 3))
            target[:, :, 0] += math.log1p(effect)
            common = (repetitions, 1, records + 1, 1)
            plain = target + self.machine_sd * rng.standard_normal(common)
            ratios = target - self.anchor_sd * rng.standard_normal(common)
            # As ``analysis.anchored`` does: from the baseline, for each metric.
            spreads = [
                side[:, :, 1:].mean(axis=-1).var(axis=-1, ddof=1).reshape(repetitions, METRICS, POINTS).mean(axis=-1)
                for side in (plain, ratios)
            ]
            chosen = (records >= ENOUGH) & (spreads[1] * STEADIER < spreads[0])
            values = np.where(np.repeat(chosen, POINTS, axis=1)[..., None, None], ratios, plain)
            return judge_tests(values[:, :, 0], values[:, :, 1:], rule)

        return alarms


@dataclass(frozen=True)
class Duet:
    """A duet of some blocks.

    Attributes:
        earlier: Blocks in each of the earlier duets of the key.
        slow: Number of points that have the effect.
        drift: Drift of the log over the entire job.
        apart: Whether the sides don't fit into memory together, so that entire starts alternate A B, B A instead of
            short windows.
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
    """Return the alarms of a duet."""
    world = setting.world
    shift = np.zeros(SERIES)
    for group in GROUPS:
        shift[group[: setting.slow]] = math.log1p(setting.effect)

    def differences(rng: np.random.Generator, repetitions: int, blocks: int) -> FloatArray:
        size = (repetitions, SERIES, blocks)
        return (world.runs(rng, size) - world.runs(rng, size)) / math.sqrt(2)

    def alarms(rng: np.random.Generator, repetitions: int) -> BoolArray:
        measured = differences(rng, repetitions, setting.blocks) + shift[:, None] + drifts(rng, setting, repetitions)
        prior = assumed(rule.block_prior if isinstance(rule.block_prior, Prior) else rule.block_prior.default)
        if setting.earlier:
            # Earlier duets ended as soon as they were decided, too, each with what was known by then.
            past = np.full((repetitions, SERIES + METRICS, len(setting.earlier), max(setting.earlier)), np.nan)
            for index, blocks in enumerate(setting.earlier):
                known = with_history(prior, past, LAYOUT.averaging_matrix) if index else prior
                duet_before = with_means(differences(rng, repetitions, blocks), GROUPS, axis=1)
                ended = _outcome(duet_before, known, rule, sequential=sequential).blocks
                measured_blocks = np.arange(blocks) < ended[:, None, None]
                past[:, :, index, :blocks] = np.where(measured_blocks, duet_before, np.nan)
            prior = with_history(prior, past, LAYOUT.averaging_matrix)
        return _outcome(with_means(measured, GROUPS, axis=1), prior, rule, sequential=sequential).regressed

    return alarms


@dataclass(frozen=True)
class _Outcome:
    """Of each repetition of a duet: whether it regressed, and after how many blocks it ended."""

    regressed: npt.NDArray[np.bool_]
    blocks: npt.NDArray[np.int64]


def _outcome(measured: FloatArray, prior: SeriesPriors, rule: Rule, *, sequential: bool) -> _Outcome:
    """Judge duets as the gate does: after each block from the second, until a regression is shown or all is decided."""
    repetitions, _, most = measured.shape
    regressed, ended = np.zeros(repetitions, dtype=bool), np.full(repetitions, most)
    is_open = np.ones(repetitions, dtype=bool)
    for blocks in range(FIRST_LOOK, most + 1) if sequential else (most,):
        share = look_shares(blocks, most, smallest_levels(rule, SERIES)) if sequential else LookShares()
        evidence = duet_evidence(measured[..., :blocks], LAYOUT.averaging_matrix, prior)
        decision = decide(evidence, METRICS, rule, spending=Spending(share.changed, share.unchanged))
        worse = decision.worse.any(axis=-1)
        regressed |= is_open & worse
        ends = is_open & (worse | (decision.better | decision.same).all(axis=-1))
        ended[ends] = blocks
        is_open &= ~ends
    return _Outcome(regressed, ended)


def drifts(rng: np.random.Generator, setting: Duet, repetitions: int) -> FloatArray:
    """Return what a steadily slowing machine adds to the differences, shape (repetitions, series, blocks)."""
    blocks, windows = setting.blocks, setting.windows
    if setting.apart:
        # A start of one side, then of the other: half a block apart, in turns.
        order = np.where(np.arange(blocks) % 2, 1.0, -1.0)
        return np.broadcast_to(-order * setting.drift / (2 * blocks), (repetitions, SERIES, blocks))
    # Pairs A B, B A, ... of neighbouring windows; one pair more in one order where their number is odd.
    each = setting.drift / (blocks * POINTS * windows * 2)
    left_over = each * (windows % 2) / windows
    return left_over * rng.choice([-1.0, 1.0], (repetitions, SERIES, blocks))


@dataclass(frozen=True)
class Rate:
    """The share of tries with an alarm, with exact bounds (Clopper and Pearson 1934)."""

    hits: int
    tries: int

    @property
    def share(self) -> float:
        return self.hits / self.tries if self.tries else 0.0

    @property
    def upper(self) -> float:
        """95% upper bound, one-sided."""
        return float(stats.beta.ppf(0.95, self.hits + 1, self.tries - self.hits)) if self.hits < self.tries else 1.0

    @property
    def lower(self) -> float:
        """95% lower bound, one-sided."""
        return float(stats.beta.ppf(0.05, self.hits, self.tries - self.hits + 1)) if self.hits else 0.0


def rate(alarms: Alarms, repetitions: int, seed: int) -> Rate:
    """Return the rate of alarms, simulated in chunks that fit into the cache."""
    rng = np.random.default_rng(seed)
    hits = tries = 0
    for start in range(0, repetitions, CHUNK):
        raised = alarms(rng, min(CHUNK, repetitions - start))
        hits, tries = hits + int(raised.sum()), tries + raised.size
    return Rate(hits, tries)


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Attributes:
        cases: Name and alarms of each scenario.
        bound: Smallest power that is acceptable, or largest rate of false alarms; 0 if none is required.
        power: Whether the row is about power, of which the smallest counts, or about false alarms.
        effort: Part of the usual repetitions, for scenarios that take long.
    """

    what: str
    cases: Sequence[tuple[str, Alarms]]
    bound: float
    power: bool = False
    effort: float = 1.0

    def worst_rate(self, repetitions: int) -> tuple[str, Rate]:
        """Measure the worst scenario again, alone, 10 times as often: the worst of many estimates is biased."""
        planned = max(round(repetitions * self.effort), 4)
        screening = planned if len(self.cases) > 1 else 0
        rates = [(rate(alarms, screening, 1 + index).share, index) for index, (_, alarms) in enumerate(self.cases)]
        _, worst = min(rates) if self.power else max(rates)
        name, alarms = self.cases[worst]
        return name, rate(alarms, 10 * planned, 10_000)

    def is_met(self, measured: Rate, quick: bool) -> bool:
        """Whether the bound holds; in a quick run, whether the few repetitions do not contradict it.

        The upper bound of an alarm rate may lie 1.5% above what is required.
        """
        if quick:
            return measured.upper >= self.bound if self.power else measured.lower <= self.bound
        if self.power:
            return measured.share >= self.bound
        return measured.share <= self.bound and measured.upper <= self.bound + 0.015

    def text(self, measured: Rate, quick: bool) -> str:
        """Return the row, except for the scenario."""
        bound = f"(at least {measured.lower:.1%})" if self.power else f"(at most {measured.upper:.1%})"
        wanted = f"{'>=' if self.power else '<='} {self.bound:.0%}" if self.bound else ""
        missed = "" if self.is_met(measured, quick) else "MISSED "
        return f"{self.what:86} {measured.share:6.1%} {bound:18} {wanted:7} {missed:7}"
