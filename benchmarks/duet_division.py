"""Error rates and time of duets whose alternations follow from the spreads, against those of a fixed number::

    python -m benchmarks.duet_division --repetitions 2000

A duet of a single load point and metric, first of its key. Starts differ by one standard deviation and pairs of windows
by another; every tenth pair is ten times as noisy, as beside bursts of other work.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.decision import Spending, decide
from pytest_gpuperf.analysis.duet.division import BlockCost, best_alternations
from pytest_gpuperf.analysis.duet.looks import FIRST_LOOK, MOST_BLOCKS, look_shares, smallest_levels
from pytest_gpuperf.analysis.evidence import averaging_matrix, duet_evidence
from pytest_gpuperf.analysis.priors import SeriesPriors
from pytest_gpuperf.analysis.robust import location
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.measure.duet import ALTERNATIONS
from pytest_gpuperf.model import LoadPoint

#: Seconds of both starts with their warm-ups, and of a pair of windows.
COST = BlockCost(start_s=6.0, pair_s=0.7)
POINT = LoadPoint(1)


@dataclass(frozen=True)
class Outcome:
    """Verdict of a simulated duet, and the seconds that it took."""

    regressed: bool
    unchanged: bool
    seconds: float


def simulated(rng: np.random.Generator, start_sd: float, window_sd: float, effect: float, *, divided: bool) -> Outcome:
    """Measure a duet until it is decided."""
    rule, seconds = Rule(min_effect=0.0), 0.0
    blocks: list[list[float]] = []
    prior = SeriesPriors.of([rule.block_prior.of("", "", "p50")])
    for count in range(1, MOST_BLOCKS + 1):
        pairs = best_alternations([{POINT: blocks}], [COST], ALTERNATIONS) if divided else ALTERNATIONS
        noise = window_sd * rng.standard_normal(pairs) * np.where(rng.random(pairs) < 0.1, 10.0, 1.0)
        blocks.append((effect + rng.normal(0, start_sd) + noise).tolist())
        seconds += COST.start_s + pairs * COST.pair_s
        if count < FIRST_LOOK:
            continue
        share = look_shares(count, MOST_BLOCKS, smallest_levels(rule, 1))
        evidence = duet_evidence(np.array([[location(block) for block in blocks]]), averaging_matrix([0]), prior)
        decision = decide(evidence, 0, rule, spending=Spending(share.changed, share.unchanged))
        if decision.worse.any() or decision.better.any() or decision.same.all():
            return Outcome(bool(decision.worse.any()), bool(decision.same.all()), seconds)
    return Outcome(regressed=False, unchanged=False, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Duets whose alternations follow from the spreads.")
    parser.add_argument("--repetitions", type=int, default=2000)
    options = parser.parse_args()
    print("starts, pairs   alternations    false alarms   unchanged     s    +8% found     s")
    for start_sd, window_sd in ((0.003, 0.05), (0.01, 0.05), (0.03, 0.02), (0.04, 0.1)):
        for divided in (False, True):
            rng = np.random.default_rng(1)
            same, slower = (
                [
                    simulated(rng, start_sd, window_sd, effect, divided=divided)
                    for _ in range(options.repetitions // scale)
                ]
                for effect, scale in ((0.0, 1), (np.log(1.08), 4))
            )
            alarms = np.mean([outcome.regressed for outcome in same])
            unchanged = np.mean([outcome.unchanged for outcome in same])
            found = np.mean([outcome.regressed for outcome in slower])
            seconds = [np.median([outcome.seconds for outcome in outcomes]) for outcomes in (same, slower)]
            how = "by the spreads" if divided else f"always {ALTERNATIONS}"
            print(
                f"{start_sd:5.1%}, {window_sd:5.1%}   {how:15} {alarms:11.1%} {unchanged:11.1%} {seconds[0]:5.0f} "
                f"{found:11.1%} {seconds[1]:5.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
