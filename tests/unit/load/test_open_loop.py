from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest

from pytest_gpuperf.analysis.window import WindowFigures, window_figures
from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.load import loop as loop_module
from pytest_gpuperf.model import Arrivals, Constant, Intervals, Poisson, Ramp, Request
from tests.unit.load.hostile import Exchange, Server, answers, in_turn, response, silence
from tests.unit.load.wire import MS, Replay, column, inside, latencies, measure, workload

OK = response()
BUSY = response(b"queue is full", "503 Service Unavailable")


def spec(arrivals: Arrivals, window_s: float, **others: float) -> WindowSpec:
    return WindowSpec(0, window_s, arrivals=arrivals, **others)  # type: ignore[arg-type]


def scheduled(arrivals: Arrivals, recording: Recording, begin_ns: int) -> list[int]:
    """What was due in the window, if the load began then."""
    instants: list[int] = []
    for instant in arrivals.instants():
        if begin_ns + instant >= recording.stop_ns:
            return instants
        if begin_ns + instant >= recording.start_ns:
            instants.append(begin_ns + instant)
    raise AssertionError("a schedule has no end")


def begin_of(arrivals: Arrivals, recording: Recording) -> int:
    """When the load began, where its very first request was answered."""
    return min(column(recording, "due")) - next(arrivals.instants())


def by_due(recording: Recording) -> list[tuple[int, int, int]]:
    """Due, sent and done times in the order of the schedule."""
    return sorted(zip(*(column(recording, name) for name in ("due", "sent", "done")), strict=True))


def figures_of(recording: Recording) -> WindowFigures:
    lanes = ((lane.due_ns, lane.sent_ns, lane.done_ns) for lane in recording.lanes)
    return window_figures(lanes, recording.start_ns, recording.stop_ns, 1)


def p99(values: list[int]) -> float:
    return float(np.quantile(values, 0.99))


SCHEDULES: dict[str, Arrivals] = {
    "constant": Constant(150.0),
    "poisson": Poisson(150.0, seed=11),
    "ramp": Ramp(50.0, 250.0, 0.3, hold_s=0.1),
    "poisson ramp": Ramp(250.0, 50.0, 0.3, poisson=True),
    "intervals": Intervals((0, 0, 20 * MS, 3 * MS, 7 * MS)),
}


class TestSchedule:
    @pytest.mark.parametrize("name", SCHEDULES)
    def test_every_request_is_due_to_the_nanosecond_and_all_of_the_window_are_there(self, name: str) -> None:
        arrivals = SCHEDULES[name]
        with Server(answers(OK, after_s=0.004)) as server:
            recording = measure(server, spec(arrivals, 0.25))
            assert recording.answered == server.requests
        begin_ns = begin_of(arrivals, recording)
        due = sorted(column(recording, "due"))
        assert due == [begin_ns + instant for instant in itertools.islice(arrivals.instants(), len(due))]
        assert sorted(inside(recording)) == scheduled(arrivals, recording, begin_ns)
        assert not recording.errors
        assert not recording.lost

    def test_nothing_is_sent_before_it_is_due_nor_by_the_answers(self) -> None:
        medians = []
        with Server(answers(OK)) as server, closing(Replay(workload(server))) as replay:
            for _ in range(3):
                lags = sorted(sent - due for due, sent, _ in by_due(replay.window(spec(Constant(25.0), 0.25))))
                assert lags[0] >= 0
                medians.append(lags[len(lags) // 2])
        # Halfway to the next one would be no schedule at all.
        assert min(medians) < 15 * MS

    def test_slow_answers_delay_no_request(self) -> None:
        with Server(answers(OK, after_s=0.2)) as server:
            recording = measure(server, spec(Constant(100.0), 0.3))
            assert server.at_once > 12, "20 by Little's law"
        lags = sorted(sent - due for due, sent, _ in by_due(recording))
        assert lags[len(lags) // 2] < 100 * MS
        assert min(latencies(recording)) >= 200 * MS

    def test_connections_are_used_again(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server, closing(Replay(workload(server))) as replay:
            for _ in range(3):
                recording = replay.window(spec(Constant(100.0), 0.15))
                assert not recording.errors
            assert server.connections < server.requests / 3

    def test_the_window_is_as_long_as_asked_and_begins_after_the_lead_in(self) -> None:
        with Server(answers(OK)) as server:
            recording = measure(server, spec(Constant(100.0), 0.17, lead_in_s=0.1))
        assert recording.stop_ns - recording.start_ns == 170 * MS
        assert recording.start_ns - begin_of(Constant(100.0), recording) >= 100 * MS

    def test_the_window_begins_after_the_first_answer(self) -> None:
        with Server(answers(OK, after_s=0.15)) as server:
            recording = measure(server, spec(Constant(50.0), 0.05, lead_in_s=0.01))
        assert recording.start_ns - begin_of(Constant(50.0), recording) >= 150 * MS

    def test_a_window_of_few_arrivals_is_lengthened(self) -> None:
        with Server(answers(OK)) as server:
            recording = measure(server, spec(Constant(40.0), 0.1, min_requests=9))
        length_ns = recording.stop_ns - recording.start_ns
        assert len(inside(recording)) >= 9
        assert length_ns > 100 * MS
        assert (length_ns - 100 * MS) % (50 * MS) == 0

    def test_a_given_start_is_kept(self) -> None:
        with Server(answers(OK)) as server:
            start_ns = time.monotonic_ns() + 300 * MS
            recording = measure(server, spec(Constant(100.0), 0.1, start_ns=start_ns, min_requests=1000))
        assert (recording.start_ns, recording.stop_ns) == (start_ns, start_ns + 100 * MS)
        assert len(inside(recording)) == pytest.approx(10, abs=1)

    def test_requests_in_rotation_are_sent_in_the_order_of_the_schedule(self) -> None:
        bodies: list[bytes] = []

        def behave(exchange: Exchange) -> None:
            bodies.append(exchange.body)
            exchange.send(OK)

        rotation = [[Request(b"%d" % number) for number in range(5)]]
        with Server(behave) as server:
            measure(server, spec(Constant(100.0), 0.3, max_in_flight=1), workload(server, rotations=rotation))
        assert bodies == [b"%d" % (number % 5) for number in range(len(bodies))]
        assert len(bodies) > 25


class TestCap:
    def test_no_more_than_the_cap_are_unanswered(self) -> None:
        with Server(answers(OK, after_s=0.02)) as server:
            recording = measure(server, spec(Constant(250.0), 0.2, max_in_flight=3))
            assert server.at_once == 3
            assert server.connections == 3
        assert not recording.errors

    def test_what_waits_is_sent_first_come_first_served(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server:
            recording = measure(server, spec(Poisson(200.0), 0.2, max_in_flight=1))
        rows = by_due(recording)
        sent = [row[1] for row in rows]
        assert sent == sorted(sent)
        # Held back by the one before, and by nothing else.
        for (_, _, done), (_, next_sent, _) in itertools.pairwise(rows):
            assert next_sent >= done

    def test_an_overloaded_server_leaves_no_request_of_the_window_out(self) -> None:
        arrivals = Constant(400.0)
        with Server(answers(OK, after_s=0.02)) as server:
            recording = measure(server, spec(arrivals, 0.2, max_in_flight=2))
        expected = scheduled(arrivals, recording, begin_of(arrivals, recording))
        assert len(expected) == pytest.approx(80, abs=1)
        assert sorted(inside(recording)) == expected
        assert not recording.errors
        seen = figures_of(recording)
        assert seen.late > 0.9 * seen.requests
        assert seen.throughput < 0.5 * 400
        # The wait counts: from due, not from the send.
        assert seen.latency.quantile_ns(0.5) > 4 * seen.service.quantile_ns(0.5)
        assert seen.lag_p99_ns > 200 * MS

    def test_what_waits_too_long_is_a_timeout_and_never_forgotten(self) -> None:
        arrivals = Constant(400.0)
        with Server(answers(OK, after_s=0.05)) as server:
            recording = measure(server, spec(arrivals, 0.3, max_in_flight=2, deadline_s=0.2))
        expected = scheduled(arrivals, recording, begin_of(arrivals, recording))
        assert recording.errors.keys() == {"timeout"}
        assert len(inside(recording)) + recording.errors["timeout"] == len(expected)
        assert set(inside(recording)) <= set(expected)
        assert recording.errors["timeout"] > len(inside(recording)) > 0
        assert "not sent within 0.2 s, since 2 others were unanswered" in recording.error_sample
        assert not recording.lost

    def test_as_many_rotations_as_may_be_in_flight_are_a_cap(self) -> None:
        rotations = [[Request(b"%d" % slot)] for slot in range(3)]
        with Server(answers(OK, after_s=0.03)) as server:
            measure(server, spec(Constant(200.0), 0.2), workload(server, rotations=rotations))
            assert server.at_once == 3

    def test_a_window_without_a_cap_follows_the_same_requests(self) -> None:
        arrivals = Poisson(200.0, seed=5)
        with Server(answers(OK, after_s=0.1)) as server:
            recording = measure(server, spec(arrivals, 0.1))
        assert sorted(inside(recording)) == scheduled(arrivals, recording, begin_of(arrivals, recording))
        assert max(column(recording, "done")) >= recording.stop_ns


def stalling(stall_s: float, at_s: float) -> Callable[[Exchange], None]:
    """All answers wait from some time after the first request on."""
    first = threading.Event()
    begin: list[float] = []

    def behave(exchange: Exchange) -> None:
        if not first.is_set():
            begin.append(time.monotonic())
            first.set()
        into_s = time.monotonic() - begin[0] - at_s
        if 0 <= into_s < stall_s:
            time.sleep(stall_s - into_s)
        exchange.send(OK)

    return behave


class TestResponseTime:
    def test_runs_from_the_schedule_during_a_stall_of_the_server(self) -> None:
        stall_s, window_s = 0.8, 1.2
        with Server(stalling(stall_s, 0.3)) as server:
            recording = measure(server, spec(Constant(100.0), window_s, lead_in_s=0.2))
        responses = [done - due for due, _, done in by_due(recording) if recording.start_ns <= due < recording.stop_ns]
        # Whoever is due x seconds before the stall's end waits for x seconds: 80 of the 120 requests are spread evenly
        # over the stall, and the slowest 1% of all are the slowest 1.5% of them.
        expected_ns = stall_s * 1e9 * (1 - 0.01 * window_s / stall_s)
        assert len(responses) == 120
        assert 0.9 * expected_ns <= p99(responses) <= 1.1 * expected_ns + 100 * MS
        waiting = sum(response_ns > 50 * MS for response_ns in responses)
        assert waiting >= 0.9 * 75

    def test_of_a_single_lane_is_what_queueing_says(self) -> None:
        ratios = []
        for _ in range(5):
            with Server(answers(OK, after_s=0.012)) as server:
                recording = measure(server, spec(Poisson(60.0, seed=2), 0.8, max_in_flight=1))
            rows = by_due(recording)
            # Lindley's recursion over the service times that were seen.
            free_ns, expected = 0, []
            for due, sent, done in rows:
                free_ns = max(free_ns, due) + done - sent
                expected.append(free_ns - due)
            responses = [done - due for due, _, done in rows]
            ratios.append(p99(responses) / p99(expected))
            assert ratios[-1] >= 0.9999, "nothing can be faster than that"
            assert p99(responses) > 1.5 * p99([done - sent for _, sent, done in rows]), "there was a queue"
            if ratios[-1] <= 1.1:
                break
        # A machine that was elsewhere for a while only ever adds to it.
        assert min(ratios) <= 1.1

    def test_a_stalled_lane_counts_for_all_that_wait_behind_it(self) -> None:
        # A closed loop would see one slow request.
        def behave(exchange: Exchange) -> None:
            time.sleep(0.5 if exchange.number == 20 else 0.001)
            exchange.send(OK)

        with Server(behave) as server:
            recording = measure(server, spec(Constant(100.0), 0.6, lead_in_s=0.1, max_in_flight=1))
        rows = by_due(recording)
        slow = sum(done - sent > 400 * MS for _, sent, done in rows)
        behind = sum(done - due > 100 * MS for due, _, done in rows)
        assert slow == 1
        assert behind >= 35
        seen = figures_of(recording)
        assert seen.latency.quantile_ns(0.5) > 3 * seen.service.quantile_ns(0.5)

    def test_a_client_that_is_late_is_seen(self) -> None:
        """The check of every tenth answer takes the client's time."""
        arrivals = Constant(100.0)
        count = itertools.count()

        def check(_body: bytes, _headers: object) -> str:
            if next(count) % 10 == 9:
                time.sleep(0.06)
            return ""

        load_requests = [[Request(b"x", check=check)]]
        with Server(answers(OK)) as server:
            recording = measure(server, spec(arrivals, 0.5), workload(server, rotations=load_requests))
        seen = figures_of(recording)
        assert seen.late >= 0.2 * seen.requests
        assert 30 * MS < seen.lag_p99_ns < 300 * MS
        assert recording.stall_s > 0.1
        assert sorted(inside(recording)) == scheduled(arrivals, recording, begin_of(arrivals, recording))

    def test_requests_that_a_late_client_had_yet_to_send_at_the_windows_end_are_there(self) -> None:
        arrivals = Constant(200.0)

        def check(_body: bytes, _headers: object) -> str:
            time.sleep(0.03)
            return ""

        # The client is busy for longer than what lies between two requests, so it is behind when the window ends.
        load_requests = [[Request(b"x", check=check), *(Request(b"y") for _ in range(9))]]
        with Server(answers(OK)) as server, closing(Replay(workload(server, rotations=load_requests))) as replay:
            for _ in range(5):
                recording = replay.window(spec(arrivals, 0.107))
                assert sorted(inside(recording)) == scheduled(arrivals, recording, begin_of(arrivals, recording))


class TestFailures:
    def test_errors_are_counted_in_the_window_in_which_they_were_due(self) -> None:
        arrivals = Constant(100.0)
        with Server(in_turn(answers(OK), answers(BUSY), answers(OK), answers(OK))) as server:
            recording = measure(server, spec(arrivals, 0.4))
        expected = scheduled(arrivals, recording, begin_of(arrivals, recording))
        assert recording.errors.keys() == {"HTTP 503"}
        assert len(inside(recording)) + recording.errors["HTTP 503"] == len(expected)
        assert recording.errors["HTTP 503"] == pytest.approx(10, abs=2)

    def test_a_failing_server_is_asked_on_schedule_and_no_more(self) -> None:
        with Server(answers(BUSY)) as server:
            recording = measure(server, spec(Constant(100.0), 0.3))
            assert server.requests < 70
        assert recording.errors["HTTP 503"] == pytest.approx(30, abs=1)
        assert not recording.answered

    def test_a_silent_server_is_a_timeout_for_each(self) -> None:
        with Server(silence) as server:
            recording = measure(server, spec(Constant(50.0), 0.2, deadline_s=0.15, max_in_flight=4))
        assert recording.errors.keys() == {"timeout"}
        assert recording.errors["timeout"] == pytest.approx(10, abs=1)
        assert not recording.answered

    def test_a_server_that_dies_behind_a_long_queue_ends_the_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.3)
        with Server(answers(OK, after_s=0.3)) as server:
            timer = threading.Timer(0.6, server.die)
            timer.start()
            # Some 1,200 are waiting when it dies, and each is refused at once.
            recording = measure(server, spec(Constant(2000.0), 30.0, max_in_flight=2))
            timer.join()
        assert recording.lost
        assert recording.errors.keys() <= {"connection refused", "connection closed", "connection reset"}
        assert recording.errors["connection refused"] > 500

    def test_nothing_listening_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.3)
        with Server(answers(OK)) as server:
            server.die()
            begin = time.monotonic()
            recording = measure(server, spec(Constant(100.0), 30.0))
        assert time.monotonic() - begin < 3
        assert "no connection to" in recording.lost
        assert recording.errors.keys() == {"connection refused"}
