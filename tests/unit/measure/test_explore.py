"""Windows that an algorithm asks for, and that the guard speaks against."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import pytest

from pytest_gpuperf.measure import MeasurePlan
from pytest_gpuperf.measure import target_under_load as under_load_module
from pytest_gpuperf.measure.ask import Ask
from pytest_gpuperf.measure.explore import Axis, explore
from pytest_gpuperf.measure.search_range import SearchRange
from pytest_gpuperf.measure.target_under_load import OPEN_IN_FLIGHT, TargetUnderLoad
from pytest_gpuperf.model import Window
from pytest_gpuperf.model.finding import ERRORS, THROTTLED
from tests.unit.factories import guarded, window
from tests.unit.measure.fake_target import FakeTarget

BAD, MARKED, GOOD = (THROTTLED,), (ERRORS,), ()


@pytest.mark.parametrize(
    ("seen", "given"),
    [
        ([GOOD, MARKED], [GOOD, MARKED]),
        ([GOOD, BAD, GOOD], [GOOD, GOOD]),
        # No more than once more for each, and what two in a row have suffered will last.
        ([BAD, GOOD, BAD, BAD], [BAD, GOOD, BAD, BAD]),
        ([BAD, BAD, BAD, GOOD], [BAD, BAD, BAD, GOOD]),
    ],
)
def test_disturbed_windows_come_again_and_are_left_out_where_there_are_enough_others(
    monkeypatch: pytest.MonkeyPatch, seen: list[tuple[str, ...]], given: list[tuple[str, ...]]
) -> None:
    coming = iter(seen)

    def take(*_: object, **__: object) -> tuple[Window, None]:
        return guarded(window(), *next(coming)), None

    def steps() -> Generator[Ask, Sequence[Window], list[Window]]:
        return list((yield Ask(1, 2)))

    monkeypatch.setattr(under_load_module, "take_window", take)
    monkeypatch.setattr(TargetUnderLoad, "warm_up", lambda *_: (True, 0.0))
    plan, axis = MeasurePlan(), Axis(SearchRange(1, 8))
    explored = explore(
        FakeTarget(), steps(), axis, plan, name="sweep", min_requests=1, on_progress=lambda _: None, watch_cpu=False
    )
    assert [measured.guards for measured in explored] == given
    assert list(coming) == []


@pytest.mark.parametrize(
    ("loads", "asked", "expected"),
    [
        (SearchRange(1, 4096), [1, 3, 4, 9], [1, 4, 4, 16]),
        (SearchRange(1, 4096, open_loop=True), [1, 2000], [OPEN_IN_FLIGHT] * 2),
    ],
    ids=["closed", "open"],
)
def test_a_target_is_told_what_each_load_has_in_flight(
    monkeypatch: pytest.MonkeyPatch, loads: SearchRange, asked: list[float], expected: list[int]
) -> None:
    target, seen_in_flight = FakeTarget(), list[int]()

    def steps() -> Generator[Ask, Sequence[Window], None]:
        for load in asked:
            yield Ask(load, 1)
            seen_in_flight.append(target.in_flight[1])

    monkeypatch.setattr(under_load_module, "take_window", lambda *_, **__: (window(), None))
    monkeypatch.setattr(TargetUnderLoad, "warm_up", lambda *_: (True, 0.0))
    explore(
        target,
        steps(),
        Axis(loads),
        MeasurePlan(),
        name="sweep",
        min_requests=1,
        on_progress=lambda _: None,
        watch_cpu=False,
    )
    assert seen_in_flight == expected
