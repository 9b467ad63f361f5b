from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_gpuperf.errors import CallFailed, TargetDied
from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.load.generator import Times
from pytest_gpuperf.measure.target_under_load import TargetUnderLoad
from pytest_gpuperf.model import LoadPoint
from tests.unit.measure.fake_target import FakeTarget

POINT = LoadPoint(concurrency=1)
SPEC = WindowSpec(1, 0.01)


def under_load(target: FakeTarget, failure: str) -> TargetUnderLoad:
    """Return a target whose load generator has answers, and a failure."""
    times = memoryview(array("q", [1]))
    recording = Recording(0, 10, (Times(times, times, times),), {}, failure, 0.0)
    generator = cast("Any", SimpleNamespace(window=lambda *_: recording))
    return TargetUnderLoad(target.start(), lambda _: 1, [POINT], generator=generator)


def test_after_a_timeout_the_target_is_checked_before_the_next_window_waits() -> None:
    with pytest.raises(TargetDied, match=r"At concurrency 1: the fake is gone"):
        under_load(FakeTarget(alive=False), "timeout: no answer within 1 s").apply(POINT, SPEC)


@pytest.mark.parametrize(("alive", "failure"), [(True, "timeout: no answer"), (False, "503: busy"), (False, "")])
def test_other_failures_and_living_targets_are_left_to_the_measurement(alive: bool, failure: str) -> None:
    assert under_load(FakeTarget(alive=alive), failure).apply(POINT, SPEC).answered == 1


def test_an_exception_of_a_call_is_the_cause_of_the_error() -> None:
    def fail(_: int) -> None:
        raise ValueError("too dark")

    target = TargetUnderLoad(FakeTarget(on_call=fail).start(), lambda _: 1, [POINT])
    with pytest.raises(CallFailed, match="ValueError: too dark") as caught:
        target.apply(POINT, WindowSpec(1, 0.0))
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__cause__.__traceback__ is not None
