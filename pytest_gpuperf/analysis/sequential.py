"""When to look at the runs so far, and how much of alpha each look may spend.

Looking several times with the whole alpha each time doubles the false alarms (10.4% at 3, 5 and 8 runs). What has been
spent by a look grows with the square of the part ``t`` of the runs that it has seen: Lan and DeMets, "Discrete
sequential boundaries for clinical trials" (1983), with the power family of Kim and DeMets (1987),

    spent(t) = t^2.

It leaves 61% of alpha to the last of the looks at 3, 5 and 8, so that having looked costs little power; a function of
Pocock's kind leaves 27%, and in a duet of 8 blocks misses twice as many regressions (6% for 3%). What an early look
finds with its 14% is large, but three runs can't tell more. The looks' shares add up to alpha, and each look tests at
its own share; that they see the same runs again makes the whole somewhat conservative.
"""

from __future__ import annotations

from pytest_gpuperf.model import Comparison, Verdict

#: Complete runs (blocks) after which the gate looks.
LOOKS = (3, 5, 8)


def looks(max_runs: int, first: int = LOOKS[0]) -> tuple[int, ...]:
    """At how many runs the gate looks: ``first``, those of ``LOOKS`` in between, and the last.

    Raises:
        ValueError: there is no run.
    """
    if max_runs < 1 or first < 1:
        raise ValueError(f"a gate needs one run or more, not {min(max_runs, first)}")
    start = min(first, max_runs)
    return (start, *(look for look in LOOKS if start < look < max_runs), *([max_runs] if max_runs > start else []))


def alpha_share(look_index: int, max_runs: int, first: int = LOOKS[0]) -> float:
    """The part of alpha that a look may spend.

    Args:
        look_index: from 0.
        max_runs: how many runs there can be.
        first: runs at the first look.

    Raises:
        ValueError: there is no such look.
    """
    planned = looks(max_runs, first)
    if not 0 <= look_index < len(planned):
        raise ValueError(f"of {len(planned)} looks at up to {max_runs} runs there is none with index {look_index}")
    earlier = planned[look_index - 1] if look_index else 0
    return _spent(planned[look_index] / max_runs) - _spent(earlier / max_runs)


def next_look(runs_done: int, max_runs: int, comparison: Comparison, first: int = LOOKS[0]) -> int | None:
    """At how many runs to look again; None where more runs would change nothing.

    A regression is decided once any look has found it. Otherwise every gated row has to be: improved or unchanged.
    """
    if comparison.verdict is Verdict.REGRESSED or not comparison.of(Verdict.INCONCLUSIVE):
        return None
    return next((look for look in looks(max_runs, first) if look > runs_done), None)


def _spent(share: float) -> float:
    return share**2
