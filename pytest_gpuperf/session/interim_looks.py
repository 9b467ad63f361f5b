"""The interim looks at a sweep while it is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from pytest_gpuperf.analysis.sequential import alpha_share, looks, next_look
from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.model import Comparison, LookShares
from pytest_gpuperf.publish.comparison import rows_of_sweep
from pytest_gpuperf.session.sweeps import Sweep


def plans_between_looks(
    sweep: Sweep, plan: MeasurePlan, max_runs: int, compare: Callable[[], Comparison]
) -> Iterator[MeasurePlan]:
    """Yield the plan of the runs up to the first look, then up to each further one while rows are undecided.

    Args:
        max_runs: Most runs of an undecided sweep.
        compare: Compares what was measured so far as the gate does; other sweeps of the test have their own looks.
    """
    first, begun = plan.runs, 0
    max_runs = max(max_runs, first)
    for index, planned in enumerate(looks(max_runs, first)):
        sweep.planned, sweep.look = planned, LookShares(alpha_share(index, max_runs, first))
        yield replace(plan, begun=begun, runs=planned)
        if planned == max_runs:
            return
        if next_look(planned, max_runs, rows_of_sweep(compare(), sweep.name), first) is None:
            return
        begun = planned
