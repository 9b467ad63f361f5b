"""Whose turn it is in a duet: two sides take their steps one at a time, so that no two windows overlap.

In one process or in two, a side announces its next step and waits for its turn. The side that is behind goes first.
At the same step they alternate in going first (A B B A), so that a drift of the machine affects both equally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

#: The names of the sides, by their number.
SIDES = CANDIDATE, REFERENCE = "candidate", "reference"


class Phase(IntEnum):
    """The kinds of steps, in the order of a block."""

    START = 0
    WARM_UP = 1
    WINDOW = 2
    STOP = 3
    #: Start once more when the other side has stopped: there was no memory for both.
    AGAIN = 4


_STARTED = (Phase.WARM_UP, Phase.WINDOW, Phase.STOP)


@dataclass(frozen=True)
class MeasureStep:
    """The next step of a measurement; in a duet, of one side.

    Attributes:
        run: Zero-based index of the run, or block.
        number: Zero-based index of the window in the block.
        parity: Even if the candidate goes first where both sides are at this step.
    """

    run: int
    phase: Phase
    number: int = 0
    parity: int = 0


@dataclass(frozen=True)
class BlockDecision:
    """What follows after some blocks of a duet.

    Attributes:
        alternations: Pairs of windows at each load point in the next block.
        expected_blocks: Number of blocks after which the duet is expected to end.
        ended: Whether the duet has ended, and the block is not measured.
    """

    alternations: int
    expected_blocks: int
    ended: bool = False


@dataclass(frozen=True)
class Turn:
    """Permission to take a step.

    Attributes:
        sequential: Whether the sides don't fit into memory together: each is started, measured and stopped alone.
        both_started: Whether the target of the other side is started, and idle.
        same_process: Whether this process measures both sides.
        decision: How the block that this step begins is measured; None as planned.
    """

    sequential: bool = False
    both_started: bool = False
    same_process: bool = False
    decision: BlockDecision | None = None


class Turns:
    """Decides the turns of a duet.

    Attributes:
        decisions: What follows before each block, by its number.
    """

    def __init__(self, *, same_process: bool = False) -> None:
        """``same_process``: see ``Turn``."""
        self._sequential, self._same_process = False, same_process
        self.decisions: dict[int, BlockDecision] = {}

    def choose(self, steps: Sequence[MeasureStep | None]) -> int:
        """Return the number of the side whose turn it is.

        Args:
            steps: The next step of each side; None when the side is done. At least one is not.
        """
        first, second = steps
        if first is None or second is None:
            return 0 if second is None else 1
        if Phase.AGAIN in (first.phase, second.phase):
            self._sequential = True
        positions = [self._position(first), self._position(second)]
        if positions[0] == positions[1]:
            return first.parity % 2
        return positions.index(min(positions))

    def undecided_block(self, steps: Sequence[MeasureStep | None]) -> int | None:
        """Return the number of the block that both sides wait to begin, if nothing was decided about it."""
        first, second = steps
        if first is None or second is None or not first.phase == second.phase == Phase.START:
            return None
        return first.run if first.run == second.run and first.run not in self.decisions else None

    def turn(self, side: int, steps: Sequence[MeasureStep | None]) -> Turn:
        """Return the turn of the chosen side."""
        step, waiting = steps[side], steps[1 - side]
        return Turn(
            self._sequential,
            waiting is not None and waiting.phase in _STARTED,
            self._same_process,
            self.decisions.get(step.run) if step is not None and step.phase is Phase.START else None,
        )

    def _position(self, step: MeasureStep) -> tuple[int, ...]:
        """Return where a step comes in the order of all steps."""
        if self._sequential:
            # A side that is started continues until it is done.
            return (0,) if step.phase in _STARTED else (1, step.run, step.phase)
        return step.run, step.phase, step.number
