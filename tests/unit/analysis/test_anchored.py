from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pytest_gpuperf.analysis.anchored import ENOUGH
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import values_of
from pytest_gpuperf.model import LoadPoint, Record, Run, Verdict, Window
from tests.unit.comparing import compare
from tests.unit.factories import SINGLE, record, run, window

TWO = LoadPoint(2)
RULE = Rule(metrics=frozenset({"p50", "throughput"}))


def anchored_run(machine: float, anchor: float, target: float = 1.0, index: int = 0, share: float = 0.0) -> Run:
    """Everything takes ``machine`` times as long, the anchor alone ``anchor`` times."""
    windows = tuple(window(p, p50_ms=machine * target, visit=v) for v in (0, 1) for p in (SINGLE, TWO))
    near = tuple(
        replace(
            window(one.point, p50_ms=2 * machine * anchor, visit=one.visit),
            sweep="anchor",
            throughput=500 / (machine * anchor),
        )
        for one in windows
    )
    return replace(
        run(*(replace(one, others_cpu_share=share) for one in windows), index=index),
        anchors=near,
    )


def effect(rng: np.random.Generator, sd: float) -> float:
    return math.exp(rng.normal(0, sd))


def records(
    machine: Sequence[float], anchor_sd: float = 0.002, target: float = 1.0, *, seed: int = 1, share: float = 0.0
) -> list[Record]:
    rng = np.random.default_rng(seed)
    return [
        replace(
            record(),
            id=f"s{number}",
            runs=tuple(
                anchored_run(
                    level * math.exp(rng.normal(0, 0.002)), math.exp(rng.normal(0, anchor_sd)), target, k, share
                )
                for k in range(3)
            ),
        )
        for number, level in enumerate(machine)
    ]


MOVING = [1.0, 1.15, 0.93, 1.08, 0.97, 1.2, 1.02, 0.9, 1.1, 1.0]


def test_anchored_values_do_not_depend_on_the_speed_of_the_machine() -> None:
    slow, fast = (values_of(one).anchored for one in records([1.3, 0.7], anchor_sd=0.0))
    for key in slow:
        assert slow[key].runs == pytest.approx(fast[key].runs, abs=0.012)
    assert {metric for *_, metric in slow} == {"p50", "p90", "throughput"}


def test_a_regression_on_a_varying_machine_is_detected_with_an_anchor() -> None:
    history, (changed,) = records(MOVING), records([0.95], target=1.1, seed=2)
    result = compare(changed, history, RULE)
    assert result.verdict is Verdict.REGRESSED
    assert {one.metric for one in result.anchored} == {"p50", "throughput"}
    assert all(one.anchored_sd < one.plain_sd / 5 for one in result.anchored)
    alone = [replace(one, runs=tuple(replace(r, anchors=()) for r in one.runs)) for one in (changed, *history)]
    plain = compare(alone[0], alone[1:], RULE)
    assert plain.verdict is Verdict.INCONCLUSIVE
    assert plain.anchored == ()


def test_rows_are_in_the_units_of_the_candidate() -> None:
    history, (changed,) = records(MOVING), records([0.95], target=1.1, seed=2)
    rows = {(row.point, row.metric): row for row in compare(changed, history, RULE).rows}
    for point in (SINGLE, TWO):
        row = rows[point, "p50"]
        assert row.candidate == pytest.approx(1e6 * 0.95 * 1.1, rel=0.02)
        assert row.baseline == pytest.approx(1e6 * 0.95, rel=0.02)
        row = rows[point, "throughput"]
        assert row.candidate == pytest.approx(point.concurrency * 1e3 / (0.95 * 1.1), rel=0.02)
        assert row.ratio == pytest.approx(1 / 1.1, rel=0.02)
    whole = rows[None, "p50"]
    assert whole.candidate / whole.baseline == pytest.approx(whole.ratio)
    assert whole.baseline == pytest.approx(1e6 * 0.95, rel=0.02)


def test_a_slower_machine_alone_is_no_regression() -> None:
    result = compare(records([1.5], seed=3)[0], records(MOVING), RULE)
    assert result.verdict is Verdict.UNCHANGED
    assert result.anchored


def test_an_anchor_noisier_than_the_machine_is_not_used() -> None:
    result = compare(records([1.0], seed=3)[0], records([1.0] * 10, anchor_sd=0.1), RULE)
    assert result.anchored == ()
    assert result.verdict is Verdict.UNCHANGED


def test_a_baseline_of_few_records_is_judged_by_plain_values() -> None:
    assert compare(records([1.0])[0], records(MOVING)[: ENOUGH - 1], RULE).anchored == ()
    assert compare(records([1.0])[0], records(MOVING)[:ENOUGH], RULE).anchored


def test_the_choice_of_anchored_values_ignores_the_candidate() -> None:
    history = records(MOVING)
    wild = records([1.0], anchor_sd=0.5)[0]
    assert compare(wild, history, RULE).anchored == compare(records([1.0])[0], history, RULE).anchored


def test_a_record_without_an_anchor_makes_all_values_plain() -> None:
    history = records(MOVING)
    bare = replace(history[3], runs=tuple(replace(one, anchors=()) for one in history[3].runs))
    assert compare(records([1.0])[0], [*history[:3], bare, *history[4:]], RULE).anchored == ()
    (candidate,) = records([1.0])
    without = replace(candidate, runs=tuple(replace(one, anchors=()) for one in candidate.runs))
    assert compare(without, history, RULE).anchored == ()


def test_pinned_records_are_anchored_too() -> None:
    history, (changed,) = records(MOVING), records([0.95], target=1.1, seed=2)
    result = compare(changed, history, RULE, pinned=records([1.2], seed=5))
    pinned = [row for row in result.rows if row.against == "pinned" and row.point is None]
    assert pinned
    assert all(row.verdict is Verdict.REGRESSED for row in pinned)


def test_part_of_a_disturbance_remains_in_anchored_values() -> None:
    (struck,) = records([1.0], share=0.15)
    values = values_of(struck)
    for key, ratio in values.anchored.items():
        assert ratio.disturbance == pytest.approx(0.45 * values.values[key].disturbance)
        assert ratio.disturbance > 0


def test_windows_are_paired_with_their_anchor_in_any_order() -> None:
    """The windows that others disturbed are left out, and with them the anchor's."""
    calm, struck = window(p50_ms=1.0, visit=0), replace(window(p50_ms=3.0, visit=1), others_cpu_share=0.5)
    near: list[Window] = [replace(one, throughput=rate) for one, rate in ((struck, 200.0), (calm, 500.0))]
    one = replace(record(), runs=(replace(run(struck, calm), anchors=tuple(near)),))
    values = values_of(one, ["throughput"]).anchored["serving", SINGLE, "throughput"]
    assert values.runs[0] == pytest.approx(-math.log(1000.0) + math.log(500.0))


def test_a_run_has_an_anchor_window_for_each_window_or_none() -> None:
    with pytest.raises(ValueError, match="one anchor window per window: 2, not 1"):
        replace(run(window(visit=0), window(visit=1)), anchors=(window(),))
