from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile

import pytest

from pytest_gpuperf.load import Recording, WindowSpec, open_generator
from pytest_gpuperf.load.inprocess import ThreadLoop
from pytest_gpuperf.model import Arrivals, CallWorkload, Constant, Intervals, Poisson, Ramp
from tests.unit.load.wire import MS, column, inside, latencies, outstanding


class Call:
    """Sleeps, and counts how often and how often at once it was called."""

    def __init__(self, sleep_s: float, before: Callable[[int], None] = lambda _: None) -> None:
        self._sleep_s, self._before = sleep_s, before
        self._lock = threading.Lock()
        self._inside = 0
        self.calls = self.at_once = 0

    def __call__(self) -> None:
        with self._lock:
            number = self.calls
            self.calls += 1
            self._inside += 1
            self.at_once = max(self.at_once, self._inside)
        try:
            self._before(number)
            time.sleep(self._sleep_s)
        finally:
            with self._lock:
                self._inside -= 1


def measure(call: Callable[[], object], spec: WindowSpec) -> Recording:
    return ThreadLoop().window(CallWorkload(call), spec)


async def awaited() -> None: ...


async def read_async() -> AsyncIterator[int]:
    yield 1


def callers() -> int:
    return sum(1 for thread in threading.enumerate() if thread.name == "gpuperf-load")


class TestWindow:
    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_records_every_call_once_and_none_shorter_than_it_was(self, concurrency: int) -> None:
        call = Call(0.01)
        recording = measure(call, WindowSpec(concurrency, 0.1))
        assert len(column(recording, "sent")) == recording.answered == call.calls
        assert min(latencies(recording)) >= 10 * MS
        assert not recording.errors
        assert not recording.lost

    @pytest.mark.parametrize("concurrency", [1, 6])
    def test_concurrency_is_the_number_of_calls_in_flight(self, concurrency: int) -> None:
        call = Call(0.02)
        recording = measure(call, WindowSpec(concurrency, 0.2))
        assert call.at_once == concurrency
        assert 0.7 * concurrency < outstanding(recording) <= concurrency

    def test_the_window_is_as_long_as_asked_and_begins_after_the_lead_in(self) -> None:
        recording = measure(Call(0.005), WindowSpec(2, 0.2, lead_in_s=0.1))
        assert recording.stop_ns - recording.start_ns == 200 * MS
        assert recording.start_ns - min(column(recording, "sent")) >= 95 * MS

    def test_the_window_begins_after_every_caller_was_answered(self) -> None:
        callers: dict[int, int] = {}

        def second_is_slow(_: int) -> None:
            if callers.setdefault(threading.get_ident(), len(callers)) == 1:
                time.sleep(0.2)

        recording = measure(Call(0.005, second_is_slow), WindowSpec(3, 0.1, lead_in_s=0.0001))
        assert recording.start_ns - min(column(recording, "sent")) >= 200 * MS

    def test_calls_of_the_window_are_followed_to_their_end_under_load(self) -> None:
        call = Call(0.1)
        recording = measure(call, WindowSpec(2, 0.12))
        assert inside(recording)
        assert recording.answered == call.calls
        assert max(column(recording, "done")) >= recording.stop_ns
        assert recording.stop_ns - recording.start_ns == 120 * MS

    def test_a_window_with_too_few_calls_is_lengthened_in_steps_of_half(self) -> None:
        recording = measure(Call(0.03), WindowSpec(1, 0.1, min_requests=6))
        length_ns = recording.stop_ns - recording.start_ns
        assert len(inside(recording)) >= 6
        assert length_ns >= 5 * 30 * MS
        assert (length_ns - 100 * MS) % (50 * MS) == 0

    def test_but_not_beyond_the_longest_window(self) -> None:
        recording = measure(Call(0.03), WindowSpec(1, 0.1, min_requests=1000, max_window_s=0.2))
        assert 200 * MS <= recording.stop_ns - recording.start_ns <= 250 * MS

    def test_callers_end_with_the_window(self) -> None:
        measure(Call(0.002), WindowSpec(4, 0.05))
        assert not callers()

    @pytest.mark.parametrize("collecting", [True, False])
    def test_the_garbage_collector_rests_during_the_window_only(self, collecting: bool) -> None:
        seen: list[tuple[int, bool]] = []
        before = gc.isenabled()
        try:
            (gc.enable if collecting else gc.disable)()
            recording = measure(
                Call(0.005, lambda _: seen.append((time.monotonic_ns(), gc.isenabled()))), WindowSpec(1, 0.05)
            )
            assert gc.isenabled() is collecting
        finally:
            (gc.enable if before else gc.disable)()
        assert not any(enabled for at_ns, enabled in seen if at_ns < recording.stop_ns)

    def test_call_workloads_are_called_in_this_process(self) -> None:
        names = set()
        call = CallWorkload(lambda: names.add(threading.current_thread().name))
        generator = open_generator(call)
        generator.window(call, WindowSpec(2, 0.02))
        generator.close()
        generator.close()
        assert names == {"gpuperf-load"}

    def test_tells_how_many_callers_shared_the_work(self) -> None:
        assert measure(Call(0.005), WindowSpec(3, 0.05)).workers == 3


class TestFailures:
    def test_a_call_that_raises_is_counted_by_type_and_never_a_latency(self) -> None:
        def raises(number: int) -> None:
            raise (ValueError("odd") if number % 2 else KeyError("even"))

        recording = measure(Call(0.0, raises), WindowSpec(2, 0.15))
        assert recording.errors.keys() == {"ValueError", "KeyError"}
        assert not recording.answered
        assert recording.error_sample in ("ValueError: odd", "KeyError: 'even'")
        assert not recording.lost

    def test_failures_between_good_calls_are_told_apart(self) -> None:
        failed = 0

        def every_third_raises(number: int) -> None:
            nonlocal failed
            if number % 3 == 1:
                failed += 1
                raise RuntimeError("out of memory")

        call = Call(0.005, every_third_raises)
        recording = measure(call, WindowSpec(1, 0.2, lead_in_s=0.001))
        assert recording.answered == call.calls - failed
        assert recording.errors.keys() == {"RuntimeError"}
        assert 0 < recording.errors["RuntimeError"] <= failed
        assert min(latencies(recording)) >= 5 * MS

    def test_errors_before_the_window_are_not_the_windows(self) -> None:
        def first_raise(number: int) -> None:
            if number < 3:
                raise RuntimeError("cold")

        recording = measure(Call(0.002, first_raise), WindowSpec(1, 0.1, lead_in_s=0.25))
        assert not recording.errors
        assert recording.error_sample == "RuntimeError: cold"

    def test_errors_do_not_drown_the_answers(self) -> None:
        def raises(_: int) -> None:
            raise RuntimeError

        call = Call(0.0, raises)
        measure(call, WindowSpec(2, 0.2))
        assert call.calls < 60

    @pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
    @pytest.mark.parametrize("spec", [WindowSpec(2, 0.05), WindowSpec(0, 0.1, Constant(100.0)), WindowSpec(2, 0.0)])
    @pytest.mark.parametrize(
        ("call", "why"),
        [
            (awaited, "the call returns a coroutine, .*write lambda: asyncio.run"),
            (lambda: (number for number in range(3)), "the call returns a generator, .*write lambda: list"),
            (read_async, "the call returns an async generator, "),
        ],
        ids=["coroutine", "generator", "async-generator"],
    )
    def test_a_call_that_gives_back_work_not_begun_has_failed(
        self, call: Callable[[], object], why: str, spec: WindowSpec
    ) -> None:
        recording = measure(call, spec)
        assert not recording.answered
        assert recording.errors.keys() == {"not begun"}
        assert re.match(f"not begun: {why}", recording.error_sample)


@contextmanager
def hanging(from_call: int, until_call: int = 1 << 30) -> Iterator[Call]:
    """A call that stops returning, until the end of the test."""
    free = threading.Event()

    def hang(number: int) -> None:
        if from_call <= number < until_call:
            free.wait(30)

    try:
        yield Call(0.002, hang)
    finally:
        free.set()
        deadline = time.monotonic() + 5
        while callers() and time.monotonic() < deadline:
            time.sleep(0.01)


class TestHanging:
    @pytest.mark.parametrize("from_call", [0, 5, 40])
    def test_a_call_that_does_not_return_is_lost_after_the_deadline(self, from_call: int) -> None:
        with hanging(from_call) as call:
            begin = time.monotonic()
            recording = measure(call, WindowSpec(1, 0.2, max_window_s=0.3, deadline_s=0.2))
            took_s = time.monotonic() - begin
        assert "did not return within 0.2 s" in recording.lost
        assert recording.answered == from_call
        assert 0.2 < took_s < 3

    def test_one_hanging_caller_among_good_ones_is_enough(self) -> None:
        with hanging(40, 41) as call:
            recording = measure(call, WindowSpec(3, 0.1, deadline_s=0.3))
        assert "did not return" in recording.lost
        assert len(inside(recording)) > 10

    def test_many_hanging_callers_take_no_longer_than_one(self) -> None:
        with hanging(0) as call:
            begin = time.monotonic()
            recording = measure(call, WindowSpec(8, 0.1, deadline_s=0.3))
            took_s = time.monotonic() - begin
        assert "did not return" in recording.lost
        assert took_s < 1.5


def open_spec(arrivals: Arrivals, window_s: float, **others: float) -> WindowSpec:
    return WindowSpec(0, window_s, arrivals=arrivals, **others)  # type: ignore[arg-type]


def scheduled(arrivals: Arrivals, recording: Recording) -> list[int]:
    """What was due in the window, where the very first call came back."""
    begin_ns = min(column(recording, "due")) - next(arrivals.instants())
    due = takewhile(lambda at_ns: at_ns < recording.stop_ns, (begin_ns + at_ns for at_ns in arrivals.instants()))
    return [at_ns for at_ns in due if at_ns >= recording.start_ns]


class TestOpenLoop:
    @pytest.mark.parametrize(
        "arrivals",
        [Constant(100.0), Poisson(100.0, seed=3), Ramp(50.0, 200.0, 0.3), Intervals((0, 15 * MS, 5 * MS))],
        ids=lambda value: str(value.label),
    )
    def test_calls_when_they_are_due_and_leaves_none_out(self, arrivals: Arrivals) -> None:
        call = Call(0.003)
        recording = measure(call, open_spec(arrivals, 0.3))
        assert recording.answered == call.calls
        assert sorted(inside(recording)) == scheduled(arrivals, recording)
        assert all(sent >= due for due, sent in zip(column(recording, "due"), column(recording, "sent"), strict=True))
        assert not recording.errors
        assert not callers()

    def test_slow_calls_delay_no_other(self) -> None:
        call = Call(0.2)
        recording = measure(call, open_spec(Constant(50.0), 0.25))
        assert call.at_once > 6, "10 by Little's law"
        lags = sorted(s - d for d, s in zip(column(recording, "due"), column(recording, "sent"), strict=True))
        assert lags[len(lags) // 2] < 100 * MS

    def test_no_more_than_the_cap_are_made_at_once_and_the_wait_counts(self) -> None:
        arrivals, call = Constant(100.0), Call(0.04)
        recording = measure(call, open_spec(arrivals, 0.3, max_in_flight=2))
        assert call.at_once == 2
        assert sorted(inside(recording)) == scheduled(arrivals, recording)
        service = sorted(d - s for s, d in zip(column(recording, "sent"), column(recording, "done"), strict=True))
        response = sorted(latencies(recording))
        assert response[len(response) // 2] > 2 * service[len(service) // 2]

    def test_what_waits_too_long_is_a_timeout(self) -> None:
        arrivals = Constant(200.0)
        recording = measure(Call(0.05), open_spec(arrivals, 0.4, max_in_flight=1, deadline_s=0.3))
        assert not recording.lost
        assert recording.errors.keys() == {"timeout"}
        assert len(inside(recording)) + recording.errors["timeout"] == len(scheduled(arrivals, recording))
        assert "not called within 0.3 s" in recording.error_sample

    def test_failures_are_counted_by_the_instant_at_which_they_were_due(self) -> None:
        def every_fourth_raises(number: int) -> None:
            if number % 4 == 3:
                raise RuntimeError("out of memory")

        arrivals = Constant(100.0)
        recording = measure(Call(0.001, every_fourth_raises), open_spec(arrivals, 0.4))
        assert recording.errors.keys() == {"RuntimeError"}
        assert len(inside(recording)) + recording.errors["RuntimeError"] == len(scheduled(arrivals, recording))
        assert recording.errors["RuntimeError"] == pytest.approx(10, abs=1)

    def test_a_call_that_does_not_return_is_lost(self) -> None:
        with hanging(20, 21) as call:
            begin = time.monotonic()
            recording = measure(call, open_spec(Constant(100.0), 0.3, deadline_s=0.15))
            assert time.monotonic() - begin < 4
        assert "did not return within 0.15 s" in recording.lost

    def test_the_schedule_begins_with_the_load(self) -> None:
        recording = measure(Call(0.001), open_spec(Constant(50.0), 0.1, lead_in_s=0.2))
        assert recording.start_ns - min(column(recording, "due")) >= 200 * MS


class TestSmoke:
    @pytest.mark.parametrize("calls", [1, 5])
    def test_calls_exactly_as_often_as_asked(self, calls: int) -> None:
        call = Call(0.002)
        recording = measure(call, WindowSpec(calls, 0.0, lead_in_s=0.0, min_requests=calls))
        assert call.calls == recording.answered == calls
        assert min(latencies(recording)) >= 2 * MS
        assert not callers()

    def test_shows_the_error(self) -> None:
        def raises(_: int) -> None:
            raise ValueError("wrong shape")

        recording = measure(Call(0.0, raises), WindowSpec(1, 0.0, lead_in_s=0.0))
        assert not recording.answered
        assert recording.errors == {"ValueError": 1}
        assert recording.error_sample == "ValueError: wrong shape"
