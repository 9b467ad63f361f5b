"""The looks at a duet while it is measured: whether it goes on, and how the next block is divided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from pytest_gpuperf.analysis.duet.division import alternations as divided_alternations
from pytest_gpuperf.analysis.duet.looks import FIRST_LOOK, expected_blocks, is_decided, look_shares, smallest_levels
from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.measure.turns import BlockDecision
from pytest_gpuperf.model import Comparison, LookShares, Record, RuleSettings, Run
from pytest_gpuperf.publish.comparison import rows_of_sweep
from pytest_gpuperf.session.sweeps import Sweep

#: Earlier duets that the division looks at.
_EARLIER_DUETS = 5
#: Blocks that a duet is expected to have before its first look, as most have.
_USUAL_BLOCKS = 3


class DuetLooks:
    """Decides before each block of a duet.

    Args:
        plan: Has the most blocks, and the alternations of the first.
        alternations: Pairs of windows that the user asks for; None for what the spreads suggest.
        record: Returns what this process measured so far.
        compare: Compares a record as the gate does.
        history: Earlier duets of the key, newest first.
    """

    def __init__(
        self,
        sweep: Sweep,
        plan: MeasurePlan,
        alternations: int | None,
        *,
        record: Callable[[], Record],
        compare: Callable[[Record], Comparison],
        history: Sequence[Record],
    ) -> None:
        self._sweep, self._plan, self._alternations = sweep, plan, alternations
        self._record, self._compare, self._history = record, compare, history

    def decide(self, blocks: int, reference: Sequence[Run] | None = None) -> BlockDecision:
        """Decide what follows after so many blocks; the sweep then states how many it has, and its look.

        Args:
            reference: Runs of the reference, if another process measured them.
        """
        most = self._plan.runs
        record = self._joined(reference)
        expected = min(_USUAL_BLOCKS, most)
        if blocks >= FIRST_LOOK:
            self._set_look(blocks, record)
            comparison = rows_of_sweep(self._compare(self._joined(reference)), self._sweep.name)
            expected = expected_blocks(blocks, most, comparison)
            if is_decided(comparison):
                return BlockDecision(self._plan.visits, blocks, ended=True)
        self._set_look(max(blocks + 1, FIRST_LOOK), record)
        return BlockDecision(self._next_alternations(record), max(expected, blocks + 1))

    def _joined(self, reference: Sequence[Run] | None) -> Record:
        record = self._record()
        return record if reference is None else replace(record, reference=tuple(reference))

    def _set_look(self, blocks: int, record: Record) -> None:
        self._sweep.planned = min(blocks, self._plan.runs)
        self._sweep.look = look_shares(blocks, self._plan.runs, self._levels(record))

    def _levels(self, record: Record) -> LookShares:
        rule = record.rule or RuleSettings()
        points = {(run.sweep, window.point) for run in record.runs for window in run.windows}
        points |= {(self._sweep.name, point) for point in self._sweep.points}
        return smallest_levels(rule, len(points) * len(rule.metrics))

    def _next_alternations(self, record: Record) -> int:
        if self._alternations is not None:
            return self._alternations
        earlier = (duet for duet in self._history if duet.sequential == record.sequential)
        return divided_alternations([record, *islice(earlier, _EARLIER_DUETS)], self._sweep.name, self._plan.visits)
