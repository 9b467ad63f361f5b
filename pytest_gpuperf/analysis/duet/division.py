"""Division of a duet's time between starts and windows.

The variance of a block's difference is ``between + within / n``: what a start decides, and what ``n`` pairs of windows
leave of the noise in time. A block costs ``start_s + n * pair_s``. For a given time the mean over blocks is then most
precise with

    n = sqrt(start_s / pair_s * within / between)

(Kalibera and Jones, "Rigorous benchmarking in reasonable time", 2013): many short blocks where starts differ, few long
ones where windows do.

Both variances come from blocks that are over, of this duet and of earlier ones. They decide how precise the next block
is, never which way it points: its difference has no other mean with more windows, so the estimate stays unbiased.
``benchmarks/duet_division.py`` measures that the error rates hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pytest_gpuperf.analysis.duet.blocks import block_pairs
from pytest_gpuperf.analysis.robust import locate, location
from pytest_gpuperf.model import LoadPoint, Record, Window

#: Fewest and most alternations: fewer windows don't show a quantile, more hardly help while starts differ at all.
FEWEST, MOST = 6, 48
#: Degrees of freedom that the usual division counts for, so that two blocks that happen to agree don't change it much.
_USUAL_WEIGHT = 3.0


#: Of a duet: for each load point and block, the log differences of the pairs of windows.
DuetDifferences = Mapping[LoadPoint, Sequence[Sequence[float]]]


@dataclass(frozen=True)
class BlockCost:
    """Seconds that a block takes for the starts and warm-ups of both sides, and for a pair of windows at each point."""

    start_s: float
    pair_s: float


def alternations(records: Iterable[Record], sweep: str, usual: int) -> int:
    """Return the pairs of windows at each load point that the next block of a duet has.

    Args:
        records: The duet so far, and earlier ones of its key.
        usual: Alternations while nothing is known.
    """
    duets: list[DuetDifferences] = []
    costs: list[BlockCost] = []
    for record in records:
        duet: dict[LoadPoint, list[list[float]]] = {}
        for candidate, reference, pairs_by_point in block_pairs(record):
            if candidate.sweep != sweep:
                continue
            starts = sum((run.start.startup_s or 0.0) + run.warmup_s for run in (candidate, reference))
            firsts = (pairs[0] for pairs in pairs_by_point.values())
            costs.append(BlockCost(starts, sum(window.window_s for pair in firsts for window in pair)))
            for point, pairs in pairs_by_point.items():
                duet.setdefault(point, []).append(_differences(pairs))
        duets.append(duet)
    return best_alternations(duets, costs, usual)


def best_alternations(duets: Iterable[DuetDifferences], costs: Sequence[BlockCost], usual: int) -> int:
    """Return the most efficient number of alternations; ``usual`` while blocks show nothing.

    The points of a duet share its starts, so their variances are averaged, and count as one.
    """
    duets = [duet for duet in duets if duet]
    start_s, pair_s = (math.fsum(getattr(cost, name) for cost in costs) for name in ("start_s", "pair_s"))
    blocks = [block for duet in duets for point in duet.values() for block in point if len(block) > 1]
    within = float(np.mean([locate(np.array(block)).variance for block in blocks])) if blocks else 0.0
    if min(within, start_s, pair_s) <= 0:
        return usual
    cost_ratio = start_s / pair_s
    # Begin with the variance between starts for which the usual division is the best.
    squares, weight = _USUAL_WEIGHT * within * cost_ratio / usual**2, _USUAL_WEIGHT
    for duet in duets:
        points = [[block for block in point if len(block)] for point in duet.values()]
        freedom = min(map(len, points)) - 1
        if freedom > 0:
            squares += freedom * float(np.mean([_variance_between(point, within) for point in points]))
            weight += freedom
    best = math.sqrt(cost_ratio * within * weight / squares)
    return round(min(max(best, FEWEST), MOST))


def _variance_between(blocks: Sequence[Sequence[float]], within: float) -> float:
    """Return the variance between blocks that their windows don't explain."""
    centres = [location(block) for block in blocks]
    noise = within * float(np.mean([1 / len(block) for block in blocks]))
    return max(float(np.var(centres, ddof=1)) - noise, 0.0)


def _differences(pairs: Sequence[tuple[Window, Window]]) -> list[float]:
    """Return the log differences of the medians, of the pairs in which both sides answered."""
    answered = (pair for pair in pairs if all(window.latency.counts for window in pair))
    medians = ([window.latency.quantile_ns(0.5) for window in pair] for pair in answered)
    return [math.log(candidate / reference) for candidate, reference in medians if candidate > 0 and reference > 0]
