"""The rule of who goes next, without anything to measure."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise

from pytest_gpuperf.measure.turns import MeasureStep, Phase, Turn, Turns

Side = Generator[MeasureStep, Turn, None]


def block(run: int, windows: int) -> list[MeasureStep]:
    return [
        MeasureStep(run, Phase.START, parity=run),
        MeasureStep(run, Phase.WARM_UP, parity=run),
        *(MeasureStep(run, Phase.WINDOW, number, number + run) for number in range(windows)),
        MeasureStep(run, Phase.STOP, parity=run),
    ]


def played(first: list[MeasureStep], second: list[MeasureStep]) -> list[tuple[int, MeasureStep, Turn]]:
    """Both sides' steps in the order in which they are taken."""
    left = [list(first), list(second)]
    turns, taken = Turns(), []
    while any(left):
        steps = tuple(steps[0] if steps else None for steps in left)
        side = turns.choose(steps)
        taken.append((side, left[side][0], turns.turn(side, steps)))
        left[side].pop(0)
    return taken


def test_windows_alternate_a_b_b_a() -> None:
    taken = played(block(0, 4), block(0, 4))
    assert [side for side, step, _ in taken if step.phase is Phase.WINDOW] == [0, 1, 1, 0, 0, 1, 1, 0]


def test_the_order_of_starting_alternates() -> None:
    steps = [step for run in range(4) for step in block(run, 1)]
    assert [side for side, step, _ in played(steps, steps) if step.phase is Phase.START] == [0, 1, 1, 0, 0, 1, 1, 0]


def test_both_are_up_for_all_windows_of_a_block() -> None:
    steps = [step for run in range(3) for step in block(run, 3)]
    taken = played(steps, steps)
    assert all(turn.both_started and not turn.sequential for _, step, turn in taken if step.phase is Phase.WINDOW)
    for run in range(3):
        phases = [step.phase for _, step, _ in taken if step.run == run]
        assert phases == sorted(phases)
    assert all(one[1].run <= other[1].run for one, other in pairwise(taken))


def test_a_window_that_one_side_lacks_keeps_the_others_in_step() -> None:
    first = block(0, 4)
    second = [step for step in first if step.phase is not Phase.WINDOW or step.number != 1]
    taken = [(side, step.number) for side, step, _ in played(first, second) if step.phase is Phase.WINDOW]
    assert taken == [(0, 0), (1, 0), (0, 1), (0, 2), (1, 2), (1, 3), (0, 3)]


def test_without_room_for_both_each_goes_alone_from_then_on() -> None:
    start, *rest = block(0, 2)
    second = [start, MeasureStep(0, Phase.AGAIN), *rest, *block(1, 2)]
    taken = played([*block(0, 2), *block(1, 2)], second)
    sides = [(side, step.run) for side, step, turn in taken if turn.sequential and step.phase is Phase.WINDOW]
    # The one that didn't fit goes second in its block; then the order alternates as ever.
    assert sides == [(0, 0)] * 2 + [(1, 0)] * 2 + [(1, 1)] * 2 + [(0, 1)] * 2
    up: set[int] = set()
    for side, step, turn in taken:
        if turn.sequential:
            assert not up - {side}, f"{up} while {side} takes {step}"
        up = up - {side} if step.phase in (Phase.STOP, Phase.AGAIN) else up | {side}
        if step.phase is Phase.START and side == 1 and step.run == 0:
            up.discard(1)  # this start failed
