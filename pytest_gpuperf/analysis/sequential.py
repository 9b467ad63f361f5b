"""Interim looks: when the runs so far are analysed, and how much of alpha each look may spend.

Looking several times with all of alpha each time doubles the false alarms (10.4% at 3, 5 and 8 runs). The alpha spent
up to a look grows with the square of the part ``t`` of the runs that it has: Lan and DeMets, "Discrete
sequential boundaries for clinical trials" (1983), with the power family of Kim and DeMets (1987),

    spent(t) = t^2.

This leaves 61% of alpha to the last of the looks at 3, 5 and 8, so that looking early costs little power; a function of
Pocock's kind leaves 27%, and misses twice as many regressions in a duet of 8 blocks (6% instead of 3%). An early look
detects only large regressions with its 14%, but three runs can't show more. The shares of the looks add up to alpha,
and each look tests at its share; as later looks use the same runs again, the gate is slightly conservative.
"""

from __future__ import annotations

from pytest_gpuperf.model import Comparison, Verdict, is_measured_once

#: Complete runs (blocks) at which the gate looks.
LOOKS = (3, 5, 8)


def looks(max_runs: int, first: int = LOOKS[0]) -> tuple[int, ...]:
    """Return the numbers of runs at which the gate looks: ``first``, those of ``LOOKS`` in between, and the last.

    Raises:
        ValueError: There is no run.
    """
    if max_runs < 1 or first < 1:
        raise ValueError(f"a gate needs 1 run or more, not {min(max_runs, first)}")
    start = min(first, max_runs)
    return (start, *(look for look in LOOKS if start < look < max_runs), *([max_runs] if max_runs > start else []))


def alpha_share(look_index: int, max_runs: int, first: int = LOOKS[0]) -> float:
    """Return the part of alpha that a look, given by its zero-based index, may spend.

    Raises:
        ValueError: There is no such look.
    """
    planned = looks(max_runs, first)
    if not 0 <= look_index < len(planned):
        raise ValueError(f"there are {len(planned)} looks at up to {max_runs} runs; none has index {look_index}")
    earlier = planned[look_index - 1] if look_index else 0
    return (planned[look_index] / max_runs) ** 2 - (earlier / max_runs) ** 2


def next_look(runs_done: int, max_runs: int, comparison: Comparison, first: int = LOOKS[0]) -> int | None:
    """Return the number of runs at the next look; None if more runs would change nothing.

    A regression is decided at the first look that shows it. Otherwise each gated row must be improved or unchanged, but
    for those of which more runs give no more values.
    """
    undecided = (row for row in comparison.of(Verdict.INCONCLUSIVE) if not is_measured_once(row.metric))
    if comparison.verdict is Verdict.REGRESSED or not any(undecided):
        return None
    return next((look for look in looks(max_runs, first) if look > runs_done), None)
