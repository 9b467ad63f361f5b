from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from pytest_gpuperf.errors import LoadError, OptionError, TargetDied, TargetError
from pytest_gpuperf.measure import MeasurePlan, Progress, measure_sweep, smoke_sweep
from pytest_gpuperf.measure import target_under_load as under_load_module
from pytest_gpuperf.measure import window as window_module
from pytest_gpuperf.measure.steady import SteadyRule
from pytest_gpuperf.model import (
    Arrivals,
    Constant,
    Finding,
    LoadPoint,
    PlainMapping,
    Poisson,
    Run,
    ServerTimes,
)
from pytest_gpuperf.model.finding import ERRORS, RATE_NOT_SUSTAINED, REQUESTS_FAILED
from tests.unit.load.hostile import Exchange, Server, answers, response, silence
from tests.unit.load.wire import workload
from tests.unit.measure.fake_target import CALL_S, FakeStarted, FakeTarget

QUICK = MeasurePlan(runs=1, visits=2, window_s=0.03, min_requests=3, max_window_s=0.3, lead_in_s=0.005, deadline_s=2.0)
POINTS = [LoadPoint(1), LoadPoint(2), LoadPoint(1, batch_size=4)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        under_load_module, "SteadyRule", functools.partial(SteadyRule, slice_s=0.01, slices=2, limit_s=3.0)
    )
    monkeypatch.setattr(window_module, "_DYING_S", 0.1)


class Sweep:
    """Runs ``measure_sweep`` and keeps what it told."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.described: list[PlainMapping] = []
        self.reports: list[Progress] = []

    def measure(
        self,
        target: FakeTarget,
        points: Sequence[LoadPoint] = POINTS,
        plan: MeasurePlan = QUICK,
        *,
        watch_cpu: bool = False,
        arrivals: Mapping[LoadPoint, Arrivals] | None = None,
    ) -> None:
        measure_sweep(
            target,
            points,
            plan,
            name="sweep",
            on_run=self.runs.append,
            on_under_test=self.described.append,
            on_progress=self.reports.append,
            watch_cpu=watch_cpu,
            arrivals=arrivals,
        )


@pytest.fixture
def sweep() -> Sweep:
    return Sweep()


class TestRuns:
    def test_every_run_is_a_start_and_a_stop_of_its_own(self, sweep: Sweep) -> None:
        target = FakeTarget()
        plan = replace(QUICK, runs=3)
        sweep.measure(target, [LoadPoint(1), LoadPoint(2)], plan)
        assert [step for step in target.log if step != "under_test"] == ["start", "stop"] * 3
        assert [run.index for run in sweep.runs] == [0, 1, 2]
        for run in sweep.runs:
            assert run.complete
            assert run.sweep == "sweep"
            order = list(plan.order([LoadPoint(1), LoadPoint(2)], run.index))
            assert [(window.visit, window.point) for window in run.windows] == order

    def test_what_is_under_test_is_described_once_and_first(self, sweep: Sweep) -> None:
        target = FakeTarget()
        sweep.measure(target, [LoadPoint(1)], replace(QUICK, runs=2, visits=1))
        assert target.log == ["start", "under_test", "stop", "start", "stop"]
        assert sweep.described == [{"model": "fake"}]

    def test_a_window_says_what_happened_in_it(self, sweep: Sweep) -> None:
        sweep.measure(FakeTarget())
        (run,) = sweep.runs
        assert len(run.windows) == QUICK.visits * len(POINTS)
        for window in run.windows:
            point = window.point
            assert window.window_s >= QUICK.window_s
            assert window.requests >= 3
            assert window.requests == window.latency.total
            assert window.latency_mean_ns >= CALL_S * 1e9
            assert window.latency.quantile_ns(0.5) >= CALL_S * 1e9 * 0.995
            assert 0 < window.throughput <= point.concurrency * point.batch_size / CALL_S * 1.001
            assert not window.errors
            assert not window.findings

    def test_a_request_of_a_batch_counts_for_all_its_inferences(self, sweep: Sweep) -> None:
        sweep.measure(FakeTarget(), [LoadPoint(1, batch_size=50)])
        for window in sweep.runs[0].windows:
            # In flight without a pause: mean latency x request rate is the concurrency (Little's law).
            assert 0.7 < window.throughput / 50 * window.latency_mean_ns / 1e9 < 1.3

    def test_startup_and_warm_up_are_timed_apart(self, sweep: Sweep) -> None:
        sweep.measure(FakeTarget(on_start=lambda: time.sleep(0.2)), [LoadPoint(1)])
        (run,) = sweep.runs
        assert 0.2 <= (run.start.startup_s or 0.0) < 2
        assert run.warmup_s >= 0.02, "two slices"

    def test_every_window_takes_the_servers_times_of_its_own_stretch(self, sweep: Sweep) -> None:
        sweep.measure(FakeTarget(), [LoadPoint(1)])
        for window in sweep.runs[0].windows:
            assert window.server == ServerTimes(10, 5, 1, 2, 3, 4)

    def test_a_server_without_times_has_none(self, sweep: Sweep) -> None:
        sweep.measure(FakeTarget(gives_times=False), [LoadPoint(1)])
        assert all(window.server is None for window in sweep.runs[0].windows)

    def test_progress_goes_from_nothing_to_all(self, sweep: Sweep) -> None:
        plan = replace(QUICK, runs=2)
        sweep.measure(FakeTarget(), [LoadPoint(1), LoadPoint(2)], plan)
        shares = [progress.share for progress in sweep.reports]
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)
        assert sweep.reports[0].left_s is None
        assert sweep.reports[-1].left_s == 0
        assert all(progress.left_s is not None and progress.left_s >= 0 for progress in sweep.reports if progress.share)
        assert {progress.stage for progress in sweep.reports} == {"starting", "warming up", "measuring", "run done"}

    def test_works_over_http_in_the_same_way(self, sweep: Sweep) -> None:
        with Server(answers(response(), after_s=CALL_S)) as server:
            sweep.measure(FakeTarget(server=server), [LoadPoint(1), LoadPoint(3)])
        (run,) = sweep.runs
        assert run.complete
        for window in run.windows:
            assert window.latency_mean_ns >= CALL_S * 1e9
            assert window.throughput <= window.point.concurrency / CALL_S * 1.001
            assert window.client_cpu_s > 0


class TestOpenLoop:
    """Points that send by the clock."""

    SCHEDULE = Constant(200.0)
    POINT = LoadPoint.open_loop(SCHEDULE)
    PLAN = replace(QUICK, window_s=0.2, lead_in_s=0.05)

    @pytest.mark.parametrize("wire", [False, True], ids=["call", "http"])
    def test_a_window_tells_response_service_and_lateness(self, sweep: Sweep, wire: bool) -> None:
        with Server(answers(response(), after_s=CALL_S)) as server:
            target = FakeTarget(server=server if wire else None)
            sweep.measure(target, [self.POINT], self.PLAN, arrivals={self.POINT: self.SCHEDULE})
        (run,) = sweep.runs
        assert len(run.windows) == 2
        for window in run.windows:
            assert window.point == self.POINT
            assert window.requests == 40
            assert window.service is not None
            assert window.service.total == window.requests
            assert CALL_S * 1e9 * 0.995 <= window.service.quantile_ns(0.5) <= window.latency.quantile_ns(0.5)
            assert 0 <= window.late <= window.requests
            assert not window.errors

    def test_closed_and_open_points_of_one_sweep(self, sweep: Sweep) -> None:
        points = [LoadPoint(2), self.POINT]
        sweep.measure(FakeTarget(), points, self.PLAN, arrivals={self.POINT: self.SCHEDULE})
        for window in sweep.runs[0].windows:
            assert (window.service is None) is (window.point == LoadPoint(2))

    def test_an_overloaded_target_is_found_and_leaves_no_request_out(self, sweep: Sweep) -> None:
        # Four callers of 3 ms each, behind one lock: at most 333 calls a second.
        lock = threading.Lock()

        def one_at_a_time(_: int) -> None:
            with lock:
                time.sleep(CALL_S)

        schedule = Poisson(1200.0, seed=1)
        point = LoadPoint.open_loop(schedule)
        sweep.measure(FakeTarget(on_call=one_at_a_time), [point], self.PLAN, arrivals={point: schedule})
        for window in sweep.runs[0].windows:
            # Poisson around 240, five standard deviations.
            assert abs(window.requests - 240) < 80
            assert window.throughput < 0.6 * 1200
            assert any(finding.kind == RATE_NOT_SUSTAINED for finding in window.findings)
            assert window.service is not None
            assert window.latency.quantile_ns(0.9) > window.service.quantile_ns(0.9)

    def test_a_smoke_run_sends_one_request(self) -> None:
        target = FakeTarget()
        smoke_sweep(target, [self.POINT], QUICK)
        assert target.calls == 1


class TestInFlight:
    def test_a_target_is_told_the_most_that_each_batch_size_will_see(self, sweep: Sweep) -> None:
        target = FakeTarget()
        sweep.measure(target, [LoadPoint(3), LoadPoint(1), LoadPoint(2, 4)], replace(QUICK, visits=1))
        assert target.in_flight == {1: 3, 4: 2}

    def test_open_loop_gets_room_of_its_own(self, sweep: Sweep) -> None:
        schedule = Constant(100.0)
        point = LoadPoint.open_loop(schedule)
        target = FakeTarget()
        sweep.measure(target, [LoadPoint(3), point], replace(QUICK, visits=1), arrivals={point: schedule})
        assert target.in_flight[1] > 100


class TestSeveral:
    def test_several_workers_share_the_load_of_every_window(self, sweep: Sweep) -> None:
        with Server(answers(response(), after_s=0.01)) as server:
            target = FakeTarget(server=server)
            sweep.measure(target, [LoadPoint(4), LoadPoint(1)], replace(QUICK, workers=2, window_s=0.1))
            assert server.connections <= 5
        for window in sweep.runs[0].windows:
            assert 0 < window.throughput <= window.point.concurrency / 0.01 * 1.001
            assert not window.errors

    def test_endpoints_have_figures_of_their_own(self, sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
        with Server(answers(response(), after_s=CALL_S)) as one, Server(answers(response(), after_s=0.01)) as other:
            monkeypatch.setattr(FakeStarted, "workload", lambda *_: workload(one, other, weights=(2, 1)))
            sweep.measure(FakeTarget(), [LoadPoint(3)], replace(QUICK, window_s=0.2))
        for window in sweep.runs[0].windows:
            quick, slow = window.endpoints
            assert quick.requests + slow.requests == window.requests
            assert quick.throughput + slow.throughput == pytest.approx(window.throughput)
            assert quick.requests == pytest.approx(2 * slow.requests, abs=8)
            assert slow.p50_ns >= 10e6 * 0.995


class TestOthers:
    """Where the CPU is the device under test."""

    def test_windows_say_what_others_took_and_disturbed_ones_come_again(self, sweep: Sweep) -> None:
        sweep.measure(FakeTarget(), watch_cpu=True)
        (run,) = sweep.runs
        order = list(QUICK.order(POINTS, 0))
        visits = [(window.visit, window.point) for window in run.windows]
        assert visits[: len(order)] == order
        again = visits[len(order) :]
        disturbed = [(window.visit, window.point) for window in run.windows if not window.undisturbed]
        assert again == disturbed[: len(again)]
        assert len(again) == min(len(disturbed), QUICK.repeats(POINTS))
        for window in run.windows:
            assert window.others_cpu_share is not None
            assert 0 <= window.others_cpu_share <= 1
        assert sweep.reports[-1].share == 1

    @pytest.mark.parametrize(("watch_cpu", "local"), [(False, True), (True, False)])
    def test_but_not_on_a_gpu_nor_for_a_server_elsewhere(self, sweep: Sweep, watch_cpu: bool, local: bool) -> None:
        sweep.measure(FakeTarget(local=local), [LoadPoint(1)], watch_cpu=watch_cpu)
        (run,) = sweep.runs
        assert all(window.others_cpu_share is None for window in run.windows)
        assert len(run.windows) == QUICK.visits


class TestWarmUp:
    def test_a_cold_target_is_warmed_up_before_the_first_window(self, sweep: Sweep) -> None:
        target = FakeTarget()

        def cold(_: int) -> None:
            if target.calls <= 6:
                time.sleep(0.02)

        target.on_call = cold
        sweep.measure(target, [LoadPoint(1)])
        (run,) = sweep.runs
        assert run.warmed_up
        assert all(window.latency_mean_ns < 20e6 for window in run.windows)

    def test_a_target_that_never_settles_is_measured_and_marked(
        self, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_load_module, "SteadyRule", functools.partial(SteadyRule, slice_s=0.01, limit_s=0.4))
        target = FakeTarget()
        begin = time.monotonic()
        # Slower and slower: no three slices agree.
        target.on_call = lambda _: time.sleep((time.monotonic() - begin) / 20)
        sweep.measure(target, [LoadPoint(1)])
        (run,) = sweep.runs
        assert not run.warmed_up
        assert run.complete
        assert 0.4 <= run.warmup_s < 10

    def test_every_batch_size_is_warmed_up_at_its_heaviest_point(self, sweep: Sweep) -> None:
        seen: dict[int, int] = {}
        inside = {1: 0, 4: 0}
        lock = threading.Lock()
        warming = True

        def watch(batch_size: int) -> None:
            if not warming:
                return
            with lock:
                inside[batch_size] += 1
                seen[batch_size] = max(seen.get(batch_size, 0), inside[batch_size])
            time.sleep(CALL_S)
            with lock:
                inside[batch_size] -= 1

        def measuring(_: int) -> None:
            nonlocal warming
            warming = False

        points = [LoadPoint(1), LoadPoint(3), LoadPoint(2, batch_size=4)]
        sweep.measure(FakeTarget(on_call=watch, on_times=measuring), points)
        assert seen == {1: 3, 4: 2}


class TestTrouble:
    def test_a_target_that_does_not_start_leaves_nothing_to_record(self, sweep: Sweep) -> None:
        def refuse() -> None:
            raise TargetError("no such model")

        with pytest.raises(TargetError, match="no such model"):
            sweep.measure(FakeTarget(on_start=refuse))
        assert not sweep.runs

    def test_an_impossible_batch_size_stops_the_target(self, sweep: Sweep) -> None:
        def refuse(batch_size: int) -> None:
            if batch_size == 4:
                raise OptionError("above max_batch_size")

        target = FakeTarget(on_workload=refuse)
        with pytest.raises(OptionError):
            sweep.measure(target)
        assert target.log == ["start", "stop"]
        assert not sweep.runs

    def test_a_target_that_dies_in_mid_run_leaves_an_incomplete_run(self, sweep: Sweep) -> None:
        target = FakeTarget()

        def die(number: int) -> None:
            target.alive = number < 6

        def gone(_: int) -> None:
            if not target.alive:
                raise ConnectionError

        target.on_times, target.on_call = die, gone
        with pytest.raises(TargetDied, match=r"At concurrency .*: the fake is gone"):
            sweep.measure(target)
        (run,) = sweep.runs
        assert not run.complete
        assert len(run.windows) == 3
        assert target.log == ["start", "under_test", "stop"]

    def test_a_target_that_dies_in_its_second_run_keeps_the_first(self, sweep: Sweep) -> None:
        target = FakeTarget()

        def gone(_: int) -> None:
            if target.log.count("start") == 2:
                target.alive = False
                raise ConnectionError

        target.on_call = gone
        with pytest.raises(TargetDied):
            sweep.measure(target, [LoadPoint(1)], replace(QUICK, runs=3, visits=1))
        assert [run.complete for run in sweep.runs] == [True], "it never got to a window in the second"
        assert target.log == ["start", "under_test", "stop", "start", "stop"]

    def test_a_server_that_dies_in_mid_run(self, sweep: Sweep) -> None:
        with Server(answers(response(), after_s=CALL_S)) as server:
            target = FakeTarget(server=server)

            def die(number: int) -> None:
                if number == 4:
                    target.alive = False
                    server.die()

            target.on_times = die
            begin = time.monotonic()
            with pytest.raises(TargetDied):
                sweep.measure(target, [LoadPoint(1), LoadPoint(2)])
            assert time.monotonic() - begin < 10
        (run,) = sweep.runs
        assert not run.complete
        assert len(run.windows) == 2
        assert target.log[-1] == "stop"

    def test_a_living_target_with_wrong_answers_is_a_load_error_that_shows_one(self, sweep: Sweep) -> None:
        with Server(answers(response(b"shape mismatch", "400 Bad Request"))) as server:
            target = FakeTarget(server=server)
            with pytest.raises(LoadError, match="HTTP 400: shape mismatch"):
                sweep.measure(target, [LoadPoint(1)])
        assert target.log[-1] == "stop"

    def test_a_hanging_call_is_a_load_error(self, sweep: Sweep) -> None:
        free = threading.Event()

        def hang(_: int) -> None:
            free.wait(10)

        target = FakeTarget(on_call=hang)
        plan = replace(QUICK, deadline_s=0.2)
        try:
            with pytest.raises(LoadError, match="did not return within"):
                sweep.measure(target, [LoadPoint(1)], plan)
        finally:
            free.set()
        assert target.log[-1] == "stop"

    def test_a_few_failed_requests_are_counted_and_found(self, sweep: Sweep) -> None:
        target = FakeTarget()

        def sometimes(_: int) -> None:
            if target.calls % 5 == 0:
                raise MemoryError("no room")

        target.on_call = sometimes
        sweep.measure(target, [LoadPoint(1)], replace(QUICK, visits=1, window_s=0.2))
        (window,) = sweep.runs[0].windows
        assert window.errors.keys() == {"MemoryError"}
        assert window.findings == (
            Finding(REQUESTS_FAILED, ERRORS, window.error_count, window.requests + window.error_count),
        )

    @pytest.mark.parametrize("reading", [0, 5])
    def test_ctrl_c_between_windows_stops_the_target(self, sweep: Sweep, reading: int) -> None:
        def interrupt(number: int) -> None:
            if number == reading:
                signal.raise_signal(signal.SIGINT)

        target = FakeTarget(on_times=interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep.measure(target)
        assert target.log == ["start", "under_test", "stop"]
        # Windows take two readings each, and are there after the second.
        assert [(run.complete, len(run.windows)) for run in sweep.runs] == (
            [(False, reading // 2)] if reading > 1 else []
        )

    def test_ctrl_c_in_mid_window_stops_the_target_and_the_callers(self, sweep: Sweep) -> None:
        def interrupt(number: int) -> None:
            if number == 2:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()

        target = FakeTarget(on_times=interrupt)
        plan = replace(QUICK, window_s=0.4)
        with pytest.raises(KeyboardInterrupt):
            sweep.measure(target, [LoadPoint(2), LoadPoint(1)], plan)
        assert target.log == ["start", "under_test", "stop"]
        assert [(run.complete, len(run.windows)) for run in sweep.runs] == [(False, 1)]
        calls = target.calls
        time.sleep(0.1)
        assert target.calls <= calls + 2, "the callers are still at it"

    def test_ctrl_c_during_warm_up_stops_the_target(self, sweep: Sweep) -> None:
        target = FakeTarget()

        def interrupt(_: int) -> None:
            if target.calls == 30:
                os.kill(os.getpid(), signal.SIGINT)

        target.on_call = interrupt
        with pytest.raises(KeyboardInterrupt):
            sweep.measure(target, [LoadPoint(2)])
        assert target.log == ["start", "under_test", "stop"]
        assert not sweep.runs

    def test_a_run_is_recorded_even_when_the_target_can_not_be_stopped(self, sweep: Sweep) -> None:
        def stuck() -> None:
            raise TargetError("it won't end")

        with pytest.raises(TargetError, match="won't end"):
            sweep.measure(FakeTarget(on_stop=stuck), [LoadPoint(1)])
        assert len(sweep.runs) == 1


class TestSmoke:
    def test_starts_once_and_asks_once_per_caller_and_point(self) -> None:
        target = FakeTarget()
        smoke_sweep(target, POINTS, QUICK)
        assert target.log == ["start", "stop"]
        assert target.calls == sum(point.concurrency for point in POINTS)

    def test_over_http_too(self) -> None:
        with Server(answers(response(), after_s=CALL_S)) as server:
            smoke_sweep(FakeTarget(server=server), [LoadPoint(1), LoadPoint(3)], QUICK)
            assert server.requests == 4

    def test_a_call_that_fails_is_an_error_that_shows_it(self) -> None:
        def wrong(_: int) -> None:
            raise ValueError("wrong shape")

        target = FakeTarget(on_call=wrong)
        with pytest.raises(LoadError, match="ValueError: wrong shape"):
            smoke_sweep(target, POINTS, QUICK)
        assert target.log == ["start", "stop"]

    def test_one_failed_request_among_good_ones_is_an_error(self) -> None:
        target = FakeTarget()

        def second_fails(_: int) -> None:
            if target.calls == 2:
                raise ValueError("now and then")

        target.on_call = second_fails
        with pytest.raises(LoadError, match="now and then"):
            smoke_sweep(target, [LoadPoint(4)], QUICK)

    def test_a_dead_target_is_told_from_a_wrong_one(self) -> None:
        def gone(_: int) -> None:
            raise ConnectionError

        target = FakeTarget(on_call=gone, alive=False)
        with pytest.raises(TargetDied):
            smoke_sweep(target, POINTS, QUICK)
        assert target.log == ["start", "stop"]

    def test_ctrl_c_stops_the_target(self) -> None:
        def interrupt(_: int) -> None:
            signal.raise_signal(signal.SIGINT)

        target = FakeTarget(on_call=interrupt)
        with pytest.raises(KeyboardInterrupt):
            smoke_sweep(target, POINTS, QUICK)
        assert target.log == ["start", "stop"]


def test_a_sweep_whose_requests_get_no_answer_ends_after_the_first_window() -> None:
    """One request in 40 is never answered: each of the 18 windows would wait for the deadline."""

    def behave(exchange: Exchange) -> None:
        if exchange.number % 40 == 39:
            silence(exchange)
        time.sleep(0.002)
        exchange.send(response())

    plan = replace(QUICK, visits=6, runs=3, window_s=0.3, deadline_s=1.0)
    with Server(behave) as server:
        begin = time.monotonic()
        with pytest.raises(
            LoadError, match=r"(?s)At concurrency 4, \d+ of \d+ requests got no answer within 1 s\..*See its"
        ):
            Sweep().measure(FakeTarget(server=server), [LoadPoint(4)], plan)
        assert time.monotonic() - begin < 12
