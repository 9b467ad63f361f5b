from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import pytest

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load.pace import Pace
from tests.unit.load.wire import MS

#: More than the notice that several processes need.
SOON = 100 * MS


@dataclass
class Processes:
    """Several processes in front of the same numbers, and a clock that the test sets."""

    spec: WindowSpec
    count: int
    now: int = 1_000_000_000_000
    paces: list[Pace] = field(init=False)

    def __post_init__(self) -> None:
        cells = memoryview(array("q", bytes(8 * Pace.cells(self.count))))
        self.paces = [Pace(cells, index, self.count) for index in range(self.count)]

    def at(self, now: int) -> None:
        """Let all of them decide what they can."""
        self.now = now
        for pace in self.paces:
            pace.lead(now, self.spec)

    def begin(self) -> int:
        for pace in self.paces:
            pace.arrive()
        self.at(self.now)
        return self.paces[0].begin_ns

    def start(self) -> int:
        self.begin()
        for pace in self.paces:
            pace.ready()
        self.at(self.now + int(self.spec.lead_in_s * 1e9) + SOON)
        return self.paces[0].start_ns


@pytest.fixture(params=[1, 2, 3])
def processes(request: pytest.FixtureRequest) -> Processes:
    return Processes(WindowSpec(4, 0.2, lead_in_s=0.05, min_requests=10, max_window_s=0.45), request.param)


class TestBegin:
    def test_waits_for_the_last_to_arrive(self, processes: Processes) -> None:
        for pace in processes.paces[1:]:
            pace.arrive()
        processes.at(processes.now)
        assert not any(pace.begin_ns for pace in processes.paces)
        processes.paces[0].arrive()
        processes.at(processes.now + 7)
        assert len({pace.begin_ns for pace in processes.paces}) == 1
        assert processes.paces[0].begin_ns >= processes.now

    def test_lies_ahead_where_others_have_yet_to_see_it(self, processes: Processes) -> None:
        begin_ns = processes.begin()
        assert (begin_ns > processes.now) is (processes.count > 1)

    def test_only_the_first_decides(self) -> None:
        processes = Processes(WindowSpec(1, 0.1), 2)
        for pace in processes.paces:
            pace.arrive()
        processes.paces[1].lead(processes.now, processes.spec)
        assert not processes.paces[1].begin_ns


class TestStart:
    def test_waits_for_the_lead_in(self, processes: Processes) -> None:
        begin_ns = processes.begin()
        for pace in processes.paces:
            pace.ready()
        processes.at(begin_ns + 49 * MS)
        assert not processes.paces[-1].start_ns
        processes.at(begin_ns + 50 * MS)
        assert processes.paces[-1].start_ns >= begin_ns + 50 * MS

    def test_waits_for_the_last_answer_everywhere(self, processes: Processes) -> None:
        begin_ns = processes.begin()
        for pace in processes.paces[:-1]:
            pace.ready()
        processes.at(begin_ns + 60 * MS)
        assert not processes.paces[0].start_ns
        processes.paces[-1].ready()
        processes.at(begin_ns + 70 * MS)
        assert processes.paces[0].start_ns >= begin_ns + 70 * MS

    def test_is_told_with_its_stop_and_before_it_comes(self, processes: Processes) -> None:
        start_ns = processes.start()
        assert {(pace.start_ns, pace.stop_ns) for pace in processes.paces} == {(start_ns, start_ns + 200 * MS)}
        assert (start_ns > processes.now) is (processes.count > 1)

    def test_may_be_given_and_then_waits_for_nobody(self) -> None:
        processes = Processes(WindowSpec(4, 0.2, min_requests=1000, max_window_s=9.0), 2)
        processes.spec = WindowSpec(4, 0.2, min_requests=1000, max_window_s=9.0, start_ns=processes.now + 3)
        processes.begin()
        processes.at(processes.now + 1)
        assert {(p.start_ns, p.stop_ns, p.closed) for p in processes.paces} == {
            (processes.spec.start_ns, processes.spec.start_ns + 200 * MS, True)
        }
        processes.at(processes.now + 10**10)
        assert processes.paces[1].stop_ns == processes.spec.start_ns + 200 * MS


class TestStop:
    def test_stays_open_until_it_has_come(self, processes: Processes) -> None:
        start_ns = processes.start()
        for pace in processes.paces:
            pace.sent(10)
        processes.at(start_ns + 199 * MS)
        assert not any(pace.closed for pace in processes.paces)
        processes.at(start_ns + 200 * MS)
        assert all(pace.closed for pace in processes.paces)
        assert processes.paces[0].stop_ns == start_ns + 200 * MS

    def test_counts_the_requests_of_all(self, processes: Processes) -> None:
        start_ns = processes.start()
        for index, pace in enumerate(processes.paces):
            pace.sent(10 if processes.count == 1 else (9, 1, 0)[index])
        processes.at(start_ns + 200 * MS)
        assert processes.paces[-1].closed

    def test_moves_in_steps_of_half_until_there_are_enough(self, processes: Processes) -> None:
        start_ns = processes.start()
        processes.paces[-1].sent(9)
        processes.at(start_ns + 200 * MS)
        assert {pace.stop_ns for pace in processes.paces} == {start_ns + 300 * MS}
        processes.paces[-1].sent(10)
        processes.at(start_ns + 299 * MS)
        assert not processes.paces[0].closed
        processes.at(start_ns + 305 * MS)
        assert processes.paces[-1].closed
        assert processes.paces[-1].stop_ns == start_ns + 300 * MS

    def test_always_into_the_future(self, processes: Processes) -> None:
        start_ns = processes.start()
        processes.at(start_ns + 375 * MS)
        assert processes.paces[-1].stop_ns == start_ns + 400 * MS, "the next whole step after a late look"
        assert not processes.paces[-1].closed

    def test_but_not_beyond_the_longest(self, processes: Processes) -> None:
        start_ns = processes.start()
        for elapsed in range(200, 2000, 10):
            processes.at(start_ns + elapsed * MS)
        assert processes.paces[-1].closed
        assert 450 * MS <= processes.paces[-1].stop_ns - start_ns < 550 * MS

    def test_a_closed_window_never_moves(self, processes: Processes) -> None:
        start_ns = processes.start()
        processes.paces[0].sent(10)
        processes.at(start_ns + 200 * MS)
        processes.paces[0].sent(0)
        processes.at(start_ns + 10**11)
        assert processes.paces[0].stop_ns == start_ns + 200 * MS


def test_a_window_is_followed_until_the_last_has_followed(processes: Processes) -> None:
    processes.start()
    for pace in processes.paces:
        assert not any(one.all_followed for one in processes.paces)
        pace.followed()
    assert all(one.all_followed for one in processes.paces)


def test_who_gives_up_gives_up_for_all(processes: Processes) -> None:
    processes.start()
    processes.paces[-1].abort()
    assert all(pace.aborted for pace in processes.paces)
