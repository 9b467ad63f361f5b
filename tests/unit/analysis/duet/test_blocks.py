from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.duet.blocks import block_values, shared_series
from pytest_gpuperf.analysis.values import values_from_numbers
from pytest_gpuperf.model import Record, Run, Window
from tests.unit.factories import SINGLE, record, run, window

KEY = ("serving", SINGLE, "throughput")


def side(*blocks: list[float], requests: int = 60) -> tuple[Run, ...]:
    """Runs whose visits have the given medians in ms."""
    return tuple(
        run(*(window(p50_ms=level, visit=visit, requests=requests) for visit, level in enumerate(levels)), index=index)
        for index, levels in enumerate(blocks)
    )


def duet(candidate: tuple[Run, ...], reference: tuple[Run, ...]) -> Record:
    return replace(record(), runs=candidate, reference=reference)


def differences(one: Record, metric: str = "throughput") -> list[float]:
    ours, theirs = block_values(one)
    key = ("serving", SINGLE, metric)
    return [left - right for left, right in zip(ours.values[key].runs, theirs.values[key].runs, strict=True)]


def test_the_value_of_a_block_is_the_location_of_its_paired_differences() -> None:
    result = differences(duet(side([1.1, 2.2], [3.0, 3.0]), side([1.0, 1.0], [3.0, 1.5])))
    assert result == pytest.approx([math.log(1.1 * 2.2) / 2, math.log(2) / 2])


def test_noise_common_to_both_sides_cancels() -> None:
    """Each pair of windows in a minute of its own."""
    minutes = [1.0, 5.0, 0.3, 2.0]
    quiet = differences(duet(side([1.08] * 4), side([1.0] * 4)))
    noisy = differences(duet(side([1.08 * one for one in minutes]), side(minutes)))
    assert noisy == pytest.approx(quiet)


def test_windows_without_a_partner_are_left_out() -> None:
    result = differences(duet(side([1.1, 1.1, 9.0]), side([1.0, 1.0])))
    assert result == pytest.approx([math.log(1.1)])


def test_blocks_of_a_single_side_are_left_out() -> None:
    candidate, reference = side([1.1], [9.0], [1.2]), side([1.0], [1.0], [1.0])
    cut = replace(reference[1], complete=False)
    assert differences(duet(candidate, (reference[2], cut, reference[0]))) == pytest.approx(
        [math.log(1.1), math.log(1.2)]
    )
    assert differences(duet(candidate, reference[:1])) == pytest.approx([math.log(1.1)])


def test_windows_too_short_for_a_quantile_are_merged() -> None:
    # 20 requests a window don't tell a p90, three windows do.
    short = differences(duet(side([1.1] * 3, requests=20), side([1.0] * 3, requests=20)), "p90")
    assert short == pytest.approx([math.log(1.1)], abs=0.006)
    ours, theirs = block_values(duet(side([1.1], requests=20), side([1.0], requests=20)))
    assert ("serving", SINGLE, "p90") in ours.left_out & theirs.left_out


def test_disturbed_pairs_are_left_out_where_there_are_others() -> None:
    def disturbed(one: Run, visits: tuple[int, ...]) -> Run:
        windows: list[Window] = [
            replace(result, others_cpu_share=0.5 if result.visit in visits else 0.0) for result in one.windows
        ]
        return replace(one, windows=tuple(windows))

    (candidate,), (reference,) = side([1.1, 4.0]), side([1.0, 1.0])
    assert differences(duet((candidate,), (disturbed(reference, (1,)),))) == pytest.approx([math.log(1.1)])
    whole = differences(duet((candidate,), (disturbed(reference, (0, 1)),)))
    assert whole == pytest.approx([math.log(4.4) / 2])


def test_sides_share_their_series_and_blocks() -> None:
    ours = values_from_numbers("a", [{"x": {"p50": 1.0}, "y": {"p50": 1.0}}] * 3)
    theirs = values_from_numbers("b", [{"x": {"p50": 1.0}}] * 2)
    one, other = shared_series(ours, theirs)
    assert list(one.values) == list(other.values)
    assert [len(values.runs) for side in (one, other) for values in side.values.values()] == [2, 2]


def test_a_burst_over_a_few_windows_does_not_move_the_block() -> None:
    quiet = [1.08] * 24
    struck = [1.08 * (1.5 if visit in (3, 4, 5, 17) else 1.0) for visit in range(24)]
    assert differences(duet(side(struck), side([1.0] * 24))) == pytest.approx(
        differences(duet(side(quiet), side([1.0] * 24)))
    )
