from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import pytest

from pytest_gpuperf.errors import TargetDied, TargetError
from pytest_gpuperf.measure import measure_sweep
from pytest_gpuperf.measure.anchor import StartedAnchor, anchored_plan
from pytest_gpuperf.measure.plan import MeasurePlan
from pytest_gpuperf.model import LoadPoint, Run
from pytest_gpuperf.targets import CallTarget, Target
from pytest_gpuperf.targets.anchor import BATCH_SIZE, DIGEST, model_path
from tests.unit.measure.fake_target import FakeTarget

POINTS = (LoadPoint(1), LoadPoint(2))
PLAN = MeasurePlan(runs=2, visits=2, window_s=0.04, min_requests=2, lead_in_s=0.005)


def measured(anchor: Target, target: Target | None = None, plan: MeasurePlan = PLAN) -> list[Run]:
    runs: list[Run] = []
    measure_sweep(
        target or CallTarget(lambda: time.sleep(0.002)),
        POINTS,
        plan,
        name="sweep",
        on_run=runs.append,
        on_under_test=lambda _: None,
        on_progress=lambda _: None,
        watch_cpu=False,
        anchor=partial(StartedAnchor, anchor, plan),
    )
    return runs


def pause() -> None:
    time.sleep(0.003)


def test_each_window_has_one_of_the_anchor_beside_it() -> None:
    log: list[str] = []
    runs = measured(FakeTarget(log=log, on_call=lambda _: pause()))
    assert len(runs) == 2
    for run in runs:
        assert len(run.windows) == len(run.anchors) == 4
        for window, near in zip(run.windows, run.anchors, strict=True):
            assert (near.point, near.visit, near.sweep) == (window.point, window.visit, "anchor")
            assert near.requests >= 10
            # Two in flight of 3 ms each, in requests of BATCH_SIZE.
            assert near.throughput <= 1.1 * BATCH_SIZE * 2 / 0.003
    assert log.count("start") == log.count("stop") == 2


def test_by_turns_before_and_after() -> None:
    order: list[str] = []

    def noted(name: str) -> CallTarget:
        def call(batch_size: int) -> None:  # noqa: ARG001
            if order[-1:] != [name]:
                order.append(name)
            pause()

        return CallTarget(call)

    measured(noted("anchor"), noted("target"), replace(PLAN, runs=1))
    # Both warm up first; then A T, T A, A T, T A.
    assert order == ["target", "anchor", "target", "anchor", "target", "anchor"]


def test_an_anchor_that_does_not_start_ends_the_sweep_with_nothing_running() -> None:
    log: list[str] = []
    target = FakeTarget(log=log)

    def refuse() -> None:
        raise TargetError("no anchor here")

    with pytest.raises(TargetError, match="no anchor here"):
        measured(FakeTarget(on_start=refuse), target)
    assert log[-1] == "stop"
    assert log.count("start") == log.count("stop") == 1


def test_an_anchor_that_dies_leaves_the_windows_that_were_measured() -> None:
    log: list[str] = []
    anchor = FakeTarget(log=log)

    def die(readings: int) -> None:
        anchor.alive = readings < 6  # two for each window

    def answer(_: int) -> None:
        pause()
        if not anchor.alive:
            raise RuntimeError("gone")

    anchor.on_times, anchor.on_call = die, answer
    runs: list[Run] = []
    with pytest.raises(TargetDied):
        measure_sweep(
            CallTarget(pause),
            POINTS,
            replace(PLAN, visits=10),
            name="sweep",
            on_run=runs.append,
            on_under_test=lambda _: None,
            on_progress=lambda _: None,
            watch_cpu=False,
            anchor=partial(StartedAnchor, anchor, PLAN),
        )
    (run,) = runs
    assert not run.complete
    assert run.windows
    assert len(run.anchors) in (0, len(run.windows))
    assert log[-1] == "stop"


def test_the_same_measuring_time_in_shorter_windows() -> None:
    plan, usual = anchored_plan(MeasurePlan()), MeasurePlan()
    assert plan.visits * plan.window_s == pytest.approx(usual.visits * usual.window_s)
    assert plan.visits * plan.min_requests >= usual.visits * usual.min_requests


def test_the_model_is_what_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_path().name == f"anchor-{DIGEST}.onnx"
    monkeypatch.setattr("pytest_gpuperf.targets.anchor.DIGEST", "0" * 12)
    with pytest.raises(TargetError, match=r"missing or damaged: .*\nInstall pytest-gpuperf again"):
        model_path()
