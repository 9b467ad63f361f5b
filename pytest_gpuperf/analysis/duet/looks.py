"""Interim looks of a duet: after each block from the second, with boundaries that allow for their dependence.

A duet ends at the first look that shows a regression, or that decides every row. What may be spent up to a look is a
function of the share ``t`` of the blocks that are done (Lan and DeMets, "Discrete sequential boundaries for clinical
trials", 1983): for a change ``alpha * t^2``, which leaves most of alpha to the later looks, whose blocks can show small
changes; for "unchanged" ``alpha * t``, since most pull requests change nothing, and are to end early.

A later look contains the blocks of the earlier ones: its estimate correlates with theirs by ``sqrt(n1 / n2)``. The
boundaries are computed from that joint distribution, as in Armitage, McPherson and Rowe, "Repeated significance tests
on accumulating data" (1969). With the increments of the spending function as levels instead, the last of seven looks
would test at 23% of alpha instead of 45%, and miss more. docs/deciding.md compares this with other rules, such as
always-valid inference, which must pay for looks that never come.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import special

from pytest_gpuperf.analysis.robust import FloatArray
from pytest_gpuperf.model import Comparison, LookShares, RuleSettings, Verdict

#: Blocks at the first look: a single block shows no spread.
FIRST_LOOK = 2
#: Most blocks of a duet that states nothing else.
MOST_BLOCKS = 8

#: A duet of fewer blocks spends as one of so many that ends early: two or three blocks hardly show how blocks differ.
#: With all of alpha, three that differ by 4.2% where 2.5% is assumed have 5.6% false alarms.
_FEWEST_PLANNED = 5
_CHANGED_POWER, _UNCHANGED_POWER = 2.0, 1.0
#: Points of the grid of partial sums, and its lower end in standard deviations.
_GRID, _LOWEST = 401, -8.0


def look_shares(blocks: int, most_blocks: int, levels: LookShares) -> LookShares:
    """Return what the look after so many blocks may spend, as shares of the levels without looks.

    Args:
        levels: The levels, from 0 to 1, that a single row must reach without looks. The smaller a level is, the less a
            boundary gains from the earlier ones, so the level of a row that finds no support in others holds for all.

    Raises:
        ValueError: There is no such look.
    """
    last = max(most_blocks, FIRST_LOOK)
    if not FIRST_LOOK <= blocks <= last:
        raise ValueError(f"a duet of up to {last} blocks is judged after {FIRST_LOOK} to {last} blocks, not {blocks}")
    index, planned = blocks - FIRST_LOOK, max(last, _FEWEST_PLANNED)
    return LookShares(
        _shares(planned, levels.changed, _CHANGED_POWER)[index],
        _shares(planned, levels.unchanged, _UNCHANGED_POWER)[index],
    )


def smallest_levels(rule: RuleSettings, series: int) -> LookShares:
    """Return the levels that a row must reach without looks and without support of others; ``series`` counts rows."""
    return LookShares(rule.alpha / rule.tests / (2 * max(series, 1)), rule.alpha)


def is_decided(comparison: Comparison) -> bool:
    """Return whether further blocks would change nothing: a row regressed, or all improved or are unchanged."""
    return comparison.verdict is Verdict.REGRESSED or not comparison.of(Verdict.INCONCLUSIVE)


def expected_blocks(blocks: int, most_blocks: int, comparison: Comparison) -> int:
    """Return after how many blocks the duet is expected to end."""
    if is_decided(comparison):
        return blocks
    further = [row.records_to_decide for row in comparison.of(Verdict.INCONCLUSIVE)]
    return min(blocks + max(most_blocks if count is None else count for count in further), most_blocks)


@lru_cache(maxsize=256)
def _shares(last: int, level: float, power: float) -> tuple[float, ...]:
    """Return the boundaries of all looks, as shares of the level."""
    if not 0 < level < 1:
        return (1.0,) * (last - FIRST_LOOK + 1)
    from scipy.optimize import brentq

    looks = np.arange(FIRST_LOOK, last + 1)
    spent = level * (looks / last) ** power
    shares = [spent[0] / level]
    sums, weights = _grid(-float(special.ndtri(spent[0])), int(looks[0]))
    density = _density(sums / np.sqrt(looks[0])) / np.sqrt(looks[0]) * weights
    for blocks, increment in zip(looks[1:].tolist(), np.diff(spent).tolist(), strict=True):
        bound = float(brentq(_overspent, 0.0, 10.0, args=(blocks, increment, sums, density), xtol=1e-7))
        shares.append(float(special.ndtr(-bound)) / level)
        before = sums
        sums, weights = _grid(bound, blocks)
        density = _density(sums[:, None] - before) @ density * weights
    return tuple(shares)


def _density(scores: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-(scores**2) / 2) / np.sqrt(2 * np.pi))


def _grid(bound: float, blocks: int) -> tuple[FloatArray, FloatArray]:
    """Return partial sums below the bound, and the weights of the trapezoidal rule."""
    scale = float(np.sqrt(blocks))
    sums, step = np.linspace(_LOWEST * scale, bound * scale, _GRID, retstep=True)
    weights = np.full(_GRID, float(step))
    weights[[0, -1]] /= 2
    return sums, weights


def _overspent(bound: float, blocks: int, increment: float, sums: FloatArray, density: FloatArray) -> float:
    """Return by how much a bound spends more than the increment, given that no earlier one was crossed."""
    return float(density @ special.ndtr(sums - bound * np.sqrt(blocks))) - increment
