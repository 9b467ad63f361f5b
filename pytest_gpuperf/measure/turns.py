"""Whose turn it is in a duet: two sides take their steps one at a time, so that neither is measured beside the other.

In one process or in two, a side says what it would do next and waits. The one that is behind goes; where both are at
the same step, the sides take turns in going first (A B B A), so that a drift of the machine falls on both alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

#: The names of the sides, by their number.
SIDES = CANDIDATE, REFERENCE = "candidate", "reference"


class Phase(IntEnum):
    """What a side does in a step, in the order of a block."""

    START = 0
    WARM_UP = 1
    WINDOW = 2
    STOP = 3
    #: Start once more, when the other is gone: there was no room for both.
    AGAIN = 4


_UP = (Phase.WARM_UP, Phase.WINDOW, Phase.STOP)


@dataclass(frozen=True)
class MeasureStep:
    """What a side would do next.

    Attributes:
        run: the block.
        number: of a window: the how-manieth of the block.
        parity: where both sides are at this step, the candidate goes first if it is even.
    """

    run: int
    phase: Phase
    number: int = 0
    parity: int = 0


@dataclass(frozen=True)
class Turn:
    """The leave to take one step.

    Attributes:
        apart: the sides don't fit side by side: each is started, measured and stopped alone.
        other_up: Whether the target of the other side is started, and idle.
        same_process: Whether this process measures both sides.
    """

    apart: bool = False
    other_up: bool = False
    same_process: bool = False


class Turns:
    """Gives the turns of one duet."""

    def __init__(self, *, same_process: bool = False) -> None:
        """``same_process``: see ``Turn``."""
        self._apart, self._same_process = False, same_process

    def choose(self, steps: Sequence[MeasureStep | None]) -> int:
        """The number of the side whose turn it is.

        Args:
            steps: what each side would do next; None when it is done. One of them is not.
        """
        first, second = steps
        if first is None or second is None:
            return 0 if second is None else 1
        if Phase.AGAIN in (first.phase, second.phase):
            self._apart = True
        places = [self._place(first), self._place(second)]
        if places[0] == places[1]:
            return first.parity % 2
        return places.index(min(places))

    def turn(self, side: int, steps: Sequence[MeasureStep | None]) -> Turn:
        """What the chosen side is told."""
        other = steps[1 - side]
        return Turn(self._apart, other is not None and other.phase in _UP, self._same_process)

    def _place(self, step: MeasureStep) -> tuple[int, ...]:
        """Where a step comes in the order of all steps."""
        if self._apart:
            # Whoever is up goes on until it is done.
            return (0,) if step.phase in _UP else (1, step.run, step.phase)
        return step.run, step.phase, step.number
