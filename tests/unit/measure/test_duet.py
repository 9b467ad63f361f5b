from __future__ import annotations

import functools
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from pytest_gpuperf.errors import LoadError, TargetDied, TargetError
from pytest_gpuperf.measure import MeasurePlan, Progress, measure_duet, smoke_duet
from pytest_gpuperf.measure import target_under_load as under_load_module
from pytest_gpuperf.measure import window as window_module
from pytest_gpuperf.measure.duet import duet_plan
from pytest_gpuperf.measure.measuring_loop import without_common_memory
from pytest_gpuperf.measure.steady import SteadyRule
from pytest_gpuperf.measure.turns import BlockDecision, Turn
from pytest_gpuperf.model import (
    Arrivals,
    CallWorkload,
    Constant,
    LoadPoint,
    Memory,
    PlainMapping,
    Run,
    ServerTimes,
    Window,
    Workload,
)
from pytest_gpuperf.targets import Target
from tests.unit.factories import window
from tests.unit.load.hostile import Server, answers, response
from tests.unit.load.wire import workload

QUICK = replace(duet_plan(2, 3, 0.03), min_requests=3, lead_in_s=0.005, deadline_s=2.0)
ONE = LoadPoint(1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        under_load_module, "SteadyRule", functools.partial(SteadyRule, slice_s=0.01, slices=2, limit_s=1.0)
    )
    monkeypatch.setattr(window_module, "_DYING_S", 0.1)


class Machine:
    """Where both sides live: what happens on it, and how many fit.

    Attributes:
        log: ``start``, ``stop`` and ``call`` with the side's name.
        up: the sides that are running.
    """

    def __init__(self, room: int = 2) -> None:
        self.room = room
        self.log: list[tuple[str, str]] = []
        self.up: list[str] = []


class Fake:
    """A side whose calls sleep.

    Args:
        call_s: how long a call takes, asked at every call.
        fails: given the number of the call (over all starts) and of the start, does what goes wrong.
    """

    def __init__(
        self,
        name: str,
        machine: Machine,
        call_s: Callable[[], float] = lambda: 0.002,
        *,
        on_call: Callable[[int], None] = lambda _: None,
        on_start: Callable[[int], None] = lambda _: None,
        on_stop: Callable[[], None] = lambda: None,
        grows: bool = False,
        server: Server | None = None,
    ) -> None:
        self.name, self.machine, self.call_s, self.server = name, machine, call_s, server
        self.on_call, self.on_start, self.on_stop, self.grows = on_call, on_start, on_stop, grows
        self.calls, self.starts = itertools.count(), itertools.count()
        self.alive = True

    def start(self) -> FakeStarted:
        self.on_start(next(self.starts))
        if not self.grows:
            self.take_room()
        self.machine.log.append(("start", self.name))
        self.machine.up.append(self.name)
        return FakeStarted(self)

    def take_room(self) -> None:
        if len(self.machine.up) == self.machine.room:
            raise TargetError(f"{self.name}: CUDA failure 2: out of memory ; GPU=0")


class FakeStarted:
    local = True
    processes: tuple[int, ...] = ()
    metrics_url = None

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def workload(self, batch_size: int, in_flight: int = 1) -> Workload:  # noqa: ARG002
        if self._fake.server is not None:
            return workload(self._fake.server, batch_size=batch_size)
        return CallWorkload(self._call, batch_size)

    def _call(self) -> None:
        fake = self._fake
        if fake.grows and len(fake.machine.up) > fake.machine.room:
            raise RuntimeError("failed to allocate 2.1 GiB")
        fake.on_call(next(fake.calls))
        if fake.machine.log[-1] != ("call", fake.name):
            fake.machine.log.append(("call", fake.name))
        time.sleep(fake.call_s())

    def under_test(self) -> PlainMapping:
        return {"model": self._fake.name}

    def server_times(self) -> ServerTimes | None:
        return None

    def check(self) -> None:
        if not self._fake.alive:
            raise TargetDied(f"{self._fake.name} is gone.")

    def stop(self) -> None:
        self._fake.machine.log.append(("stop", self._fake.name))
        self._fake.machine.up.remove(self._fake.name)
        self._fake.on_stop()


class Duet:
    """Runs ``measure_duet`` and keeps what it told."""

    def __init__(self) -> None:
        self.runs: dict[str, list[Run]] = {"candidate": [], "reference": []}
        self.described: list[tuple[str, PlainMapping]] = []
        self.reports: list[Progress] = []

    def measure(
        self,
        candidate: Target,
        reference: Target,
        points: Sequence[LoadPoint] = (ONE,),
        plan: MeasurePlan = QUICK,
        arrivals: Mapping[LoadPoint, Arrivals] | None = None,
        *,
        decide: Callable[[int], BlockDecision] | None = None,
    ) -> None:
        measure_duet(
            candidate,
            reference,
            points,
            plan,
            name="duet",
            on_run=lambda side, run: self.runs[side].append(run),
            on_under_test=lambda side, facts: self.described.append((side, facts)),
            on_progress=self.reports.append,
            watch_cpu=False,
            arrivals=arrivals,
            decide=decide,
        )

    def windows(self, side: str) -> list[Window]:
        return [window for run in self.runs[side] for window in run.windows]

    def block_values(self, figure: Callable[[Window], float]) -> list[float]:
        """For each block the mean over its pairs of the log differences."""
        values = []
        for ours, theirs in zip(self.runs["candidate"], self.runs["reference"], strict=True):
            before = {(window.point, window.visit): window for window in theirs.windows}
            differences = [
                math.log(figure(window) / figure(before[window.point, window.visit])) for window in ours.windows
            ]
            values.append(statistics.fmean(differences))
        return values


@pytest.fixture
def duet() -> Duet:
    return Duet()


def sides(machine: Machine, **options: object) -> tuple[Fake, Fake]:
    return Fake("new", machine, **options), Fake("old", machine)  # type: ignore[arg-type]


class TestBlocks:
    def test_a_block_starts_both_and_alternates_windows(self, duet: Duet) -> None:
        machine = Machine()
        duet.measure(*sides(machine), plan=replace(QUICK, visits=4))
        starts = [name for what, name in machine.log if what == "start"]
        assert starts == ["new", "old", "old", "new"]
        first_block = machine.log[: machine.log.index(("stop", "new"))]
        calls = [name for what, name in first_block if what == "call"]
        # Warm-up of both, then A B B A A B B A: neighbours of the same side look like one stretch of calls.
        assert calls == ["new", "old", "new", "old", "new", "old", "new"]
        assert not machine.up

    def test_both_sides_have_the_same_windows(self, duet: Duet) -> None:
        points = [LoadPoint(1), LoadPoint(3)]
        duet.measure(*sides(Machine()), points)
        for ours, theirs in zip(duet.runs["candidate"], duet.runs["reference"], strict=True):
            assert (ours.sweep, ours.index, ours.complete) == (theirs.sweep, theirs.index, True)
            order = [(window.visit, window.point) for window in ours.windows]
            assert order == [(window.visit, window.point) for window in theirs.windows]
            assert sorted(order, key=str) == sorted(itertools.product(range(QUICK.visits), points), key=str)
        assert [run.index for run in duet.runs["candidate"]] == [0, 1]
        assert not any(window.findings for side in duet.runs for window in duet.windows(side))
        assert not any(run.sequential for side in duet.runs for run in duet.runs[side])

    def test_each_side_is_described_once(self, duet: Duet) -> None:
        duet.measure(*sides(Machine()))
        assert duet.described == [("candidate", {"model": "new"}), ("reference", {"model": "old"})]

    def test_measuring_on_counts_blocks_on(self, duet: Duet) -> None:
        duet.measure(*sides(Machine()))
        duet.measure(*sides(Machine()), plan=replace(QUICK, begun=2, runs=3))
        assert [run.index for run in duet.runs["reference"]] == [0, 1, 2]

    @pytest.mark.parametrize("room", [1, 2])
    def test_it_ends_when_it_is_decided_and_each_block_has_its_alternations(self, duet: Duet, room: int) -> None:
        asked: list[int] = []

        def decide(blocks: int) -> BlockDecision:
            asked.append(blocks)
            assert [len(runs) for runs in duet.runs.values()] == [blocks, blocks]
            return BlockDecision(alternations=2 + blocks, expected_blocks=3, ended=blocks == 2)

        machine = Machine(room)
        duet.measure(*sides(machine), plan=replace(QUICK, runs=6), decide=decide)
        assert asked == [0, 1, 2]
        assert [[len(run.windows) for run in runs] for runs in duet.runs.values()] == [[2, 3], [2, 3]]
        assert all(run.complete for runs in duet.runs.values() for run in runs)
        assert not machine.up
        assert all(progress.may_end_early for progress in duet.reports if progress.share)

    def test_progress_goes_from_nothing_to_all(self, duet: Duet) -> None:
        duet.measure(*sides(Machine()))
        shares = [progress.share for progress in duet.reports]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)
        assert [progress.run for progress in duet.reports if progress.stage == "run done"] == [0, 1]

    def test_open_loop_sends_the_same_schedule_to_both(self, duet: Duet) -> None:
        schedule = Constant(200.0)
        point = LoadPoint.open_loop(schedule)
        duet.measure(*sides(Machine()), [point], replace(QUICK, window_s=0.1), arrivals={point: schedule})
        for side in duet.runs:
            assert all(window.service is not None for window in duet.windows(side))

    def test_over_sockets_each_side_keeps_its_own_generator(self, duet: Duet) -> None:
        with Server(answers(response(), after_s=0.002)) as fast, Server(answers(response(), after_s=0.004)) as slow:
            duet.measure(Fake("new", Machine(), server=slow), Fake("old", Machine(), server=fast))
        slower, faster = (
            [window.latency.quantile_ns(0.5) for window in duet.windows(side)] for side in ("candidate", "reference")
        )
        assert min(slower) > 3.9e6
        assert statistics.median(faster) < 0.8 * statistics.median(slower)

    def test_smoke_asks_each_once(self) -> None:
        machine = Machine()
        smoke_duet(*sides(machine), [LoadPoint(2)], QUICK)
        assert machine.log == [(what, name) for name in ("new", "old") for what in ("start", "call", "stop")]


class Weather:
    """A machine whose speed wanders by a third within seconds, the same for everybody on it.

    Its clock is the work that was done, so that the weather is the same however busy the real machine is.
    """

    def __init__(self) -> None:
        self._at_s = 0.0

    def call_s(self, base_s: float) -> float:
        turn = 2 * math.pi * self._at_s
        call_s = base_s * (1 + 0.2 * math.sin(turn / 2.3) + 0.15 * math.sin(turn / 7.7))
        self._at_s += call_s
        return call_s


class TestDrift:
    """What duets are for. The medians are over blocks, since the real machine may spoil one."""

    PLAN = replace(duet_plan(5, 10, 0.05), lead_in_s=0.005)

    def measured(self, duet: Duet, slower: float) -> list[float]:
        weather = Weather()
        candidate = Fake("new", Machine(), lambda: weather.call_s(0.002 * slower))
        duet.measure(candidate, Fake("old", Machine(), lambda: weather.call_s(0.002)), plan=self.PLAN)
        return duet.block_values(lambda window: window.latency.quantile_ns(0.5))

    def test_against_itself_blocks_agree_far_better_than_windows(self, duet: Duet) -> None:
        values = self.measured(duet, 1.0)
        windows = [math.log(window.latency.quantile_ns(0.5)) for window in duet.windows("candidate")]
        spread = statistics.stdev(windows)
        assert spread > 0.08, "the weather was felt"
        assert statistics.median(map(abs, values)) < max(0.025, 0.3 * spread)

    def test_eight_percent_more_work_is_seen(self, duet: Duet) -> None:
        # Sleeping itself costs 0.1 ms of the 2, which are no work.
        assert 0.04 < statistics.median(self.measured(duet, 1.08)) < 0.13


class TestNoRoom:
    """The device holds one side at a time."""

    @pytest.mark.parametrize("grows", [False, True])
    def test_each_is_measured_alone_and_every_run_says_so(self, duet: Duet, grows: bool) -> None:
        machine = Machine(room=1)
        candidate, reference = Fake("new", machine, grows=grows), Fake("old", machine, grows=grows)
        duet.measure(candidate, reference, plan=replace(QUICK, runs=3))
        for side in duet.runs:
            assert [run.index for run in duet.runs[side]] == [0, 1, 2]
            assert all(run.complete and len(run.windows) == QUICK.visits for run in duet.runs[side])
            assert all(run.sequential for run in duet.runs[side])
        stops = [name for what, name in machine.log if what == "stop"]
        assert stops[-4:] == ["old", "new", "new", "old"]
        assert not machine.up

    def test_a_side_that_does_not_fit_alone_is_an_error(self, duet: Duet) -> None:
        def no_room(_: int) -> None:
            raise TargetError("bad_alloc")

        machine = Machine()
        with pytest.raises(TargetError, match="candidate side of the duet: bad_alloc"):
            duet.measure(*sides(machine, on_start=no_room))
        assert machine.log == []
        with pytest.raises(TargetError, match="reference side of the duet: bad_alloc"):
            duet.measure(Fake("new", machine), Fake("old", machine, on_start=no_room))
        assert not machine.up
        # The other one had been measured alone before that was known.
        assert [run.complete for run in duet.runs["candidate"]] == [True]


class TestWrong:
    """One side fails: both end, the message names it, and what was measured is kept."""

    def test_a_side_that_dies(self, duet: Duet) -> None:
        machine = Machine()
        old = Fake("old", machine)

        def die(_: int) -> None:
            if sum(progress.stage == "measuring" for progress in duet.reports) > 20:
                old.alive = False
                raise ConnectionError("reset")

        old.on_call = die
        with pytest.raises(TargetDied, match="reference side of the duet: At concurrency 1: old is gone"):
            duet.measure(Fake("new", machine), old, plan=replace(QUICK, visits=30))
        assert not machine.up
        assert not duet.runs["candidate"][-1].complete
        assert duet.windows("candidate")
        assert abs(len(duet.windows("candidate")) - len(duet.windows("reference"))) <= 1

    def test_a_side_that_does_not_start(self, duet: Duet) -> None:
        def fail(number: int) -> None:
            if number == 1:
                raise TargetError("the driver is gone")

        machine = Machine()
        with pytest.raises(TargetError, match="candidate side of the duet: the driver is gone"):
            duet.measure(*sides(machine, on_start=fail))
        assert not machine.up
        assert [run.complete for run in duet.runs["candidate"]] == [True]
        assert [run.complete for run in duet.runs["reference"]] == [True]

    def test_a_side_that_answers_wrongly(self, duet: Duet) -> None:
        def wrong(_: int) -> None:
            raise ZeroDivisionError

        with pytest.raises(LoadError, match=r"candidate side of the duet: .* no correct answers"):
            duet.measure(*sides(Machine(), on_call=wrong))
        assert duet.runs == {"candidate": [], "reference": []}

    def test_an_interrupt_stops_both(self, duet: Duet) -> None:
        machine = Machine()

        def interrupt(number: int) -> None:
            if number == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            duet.measure(*sides(machine, on_start=interrupt))
        assert not machine.up

    def test_a_stop_that_fails_does_not_keep_the_other_up(self, duet: Duet) -> None:
        def fail() -> None:
            raise TargetError("will not stop")

        machine = Machine()
        with pytest.raises(TargetError, match="will not stop"):
            duet.measure(*sides(machine, on_stop=fail))
        assert not machine.up
        assert duet.windows("candidate")
        assert duet.windows("reference")


class TestMemory:
    whole = Memory(target_bytes=1, device_bytes=2, host_bytes=3)

    @pytest.mark.parametrize(
        ("turn", "processes", "one_process", "left"),
        [
            (Turn(), (), True, whole),
            (Turn(sequential=True), (os.getpid(),), True, whole),
            # The device has that of both sides.
            (Turn(both_started=True), (1,), True, Memory(1, None, 3)),
            (Turn(both_started=True), (os.getpid(),), False, Memory(1, None, 3)),
            # And so has this process, where both are in it.
            (Turn(both_started=True), (os.getpid(),), True, None),
        ],
    )
    def test_what_both_sides_have_in_common_is_told_of_neither(
        self, turn: Turn, processes: tuple[int, ...], one_process: bool, left: Memory | None
    ) -> None:
        started = FakeStarted(Fake("side", Machine()))
        started.processes = processes
        measured = replace(window(), memory=self.whole)
        assert without_common_memory(measured, replace(turn, same_process=one_process), started).memory == left
