"""Duets: two targets measured against each other in windows that alternate within fractions of a second.

The noise of a shared machine comes and goes within seconds, so that measurements minutes apart differ by it. A block is
a fresh start of both sides, which then stay alive: while one side is measured, the other idles. The noise falls on both
sides equally and cancels in their paired differences, and the blocks replicate what a start decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial

from pytest_gpuperf.analysis.duet.looks import MOST_BLOCKS
from pytest_gpuperf.device import Monitor
from pytest_gpuperf.errors import CallFailed, GpuperfError, LoadError, OptionError, TargetDied, TargetError
from pytest_gpuperf.measure.measuring_loop import Conditions
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.measure.progress import Progress, ProgressMeter
from pytest_gpuperf.measure.sweep import measure_points
from pytest_gpuperf.measure.turns import SIDES, BlockDecision, MeasureStep, Turns
from pytest_gpuperf.model import Arrivals, LoadPoint, PlainMapping, Run
from pytest_gpuperf.targets import Target

#: Alternations in the first blocks of a duet that states nothing else: about as much time as two starts of a server.
ALTERNATIONS = 12


def duet_plan(blocks: int = MOST_BLOCKS, alternations: int | None = None, window_s: float = 0.3) -> MeasurePlan:
    """Return the plan of a duet.

    Args:
        blocks: Most fresh starts of both sides, the unit of replication.
        alternations: Pairs of windows at each load point in each block; ``ALTERNATIONS`` where None.
        window_s: Length of a window; short, since only noise that lasts longer than a pair of windows cancels.
    """
    return MeasurePlan(
        runs=blocks,
        visits=ALTERNATIONS if alternations is None else alternations,
        window_s=window_s,
        # The fewest that give a window its median.
        min_requests=10,
        max_window_s=max(2.0, window_s),
        # The load generators stay open, so a window only waits for its queues to fill.
        lead_in_s=0.05,
    )


def measure_duet(
    candidate: Target,
    reference: Target,
    points: Sequence[LoadPoint],
    plan: MeasurePlan,
    *,
    name: str,
    on_run: Callable[[str, Run], None],
    on_under_test: Callable[[str, PlainMapping], None],
    on_progress: Callable[[Progress], None],
    watch_cpu: bool,
    decide: Callable[[int], BlockDecision] | None = None,
    arrivals: Mapping[LoadPoint, Arrivals] | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Measure up to ``plan.runs`` blocks of both sides.

    Args:
        decide: Called before each block with the number of blocks that are done; without it, all blocks are measured,
            with ``plan.visits`` pairs of windows at each point.
        on_run, on_under_test: See ``measure_runs``; called with ``candidate`` or ``reference`` first.
        on_progress, watch_cpu, arrivals, monitor: See ``measure_sweep``.

    Raises:
        TargetError, LoadError, OptionError: The duet failed; the message names the side.
    """
    meter = ProgressMeter.of_plan(name, plan, len(points), on_progress, sides=2)
    with ExitStack() as stack:
        sides = [
            stack.enter_context(
                closing(
                    measure_points(
                        target,
                        points,
                        plan,
                        Conditions(name, meter, watch_cpu, monitor),
                        on_run=partial(on_run, side),
                        on_under_test=partial(on_under_test, side),
                        arrivals=arrivals,
                    )
                )
            )
            for side, target in zip(SIDES, (candidate, reference), strict=True)
        ]
        turns = Turns(same_process=True)
        steps: list[MeasureStep | None] = [next(side) for side in sides]
        while steps != [None, None]:
            block = turns.undecided_block(steps)
            if block is not None and decide is not None:
                turns.decisions[block] = decide(block)
            chosen = turns.choose(steps)
            try:
                steps[chosen] = sides[chosen].send(turns.turn(chosen, steps))
            except StopIteration:
                steps[chosen] = None
            except GpuperfError as error:
                raise name_side(error, SIDES[chosen]) from (error.__cause__ or error)


def name_side(error: GpuperfError, side: str) -> GpuperfError:
    """Return the same error, with a message that names the side of the duet."""
    if type(error) not in (TargetError, TargetDied, LoadError, CallFailed, OptionError):
        return error
    return type(error)(f"The {side} side of the duet: {error}")
