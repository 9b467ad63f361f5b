from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import pytest

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load.agreement import Agreement
from tests.unit.load.wire import MS

#: More than the notice that several processes need.
SOON = 100 * MS


@dataclass
class Processes:
    """Several processes in front of the same numbers, and a clock that the test sets."""

    spec: WindowSpec
    count: int
    now: int = 1_000_000_000_000
    views: list[Agreement] = field(init=False)

    def __post_init__(self) -> None:
        cells = memoryview(array("q", bytes(8 * Agreement.cells(self.count))))
        self.views = [Agreement(cells, index, self.count) for index in range(self.count)]

    def at(self, now: int) -> None:
        """Let all of them decide what they can."""
        self.now = now
        for view in self.views:
            view.lead(now, self.spec)

    def begin(self) -> int:
        for view in self.views:
            view.arrive()
        self.at(self.now)
        return self.views[0].begin_ns

    def start(self) -> int:
        self.begin()
        for view in self.views:
            view.ready()
        self.at(self.now + int(self.spec.lead_in_s * 1e9) + SOON)
        return self.views[0].start_ns


@pytest.fixture(params=[1, 2, 3])
def processes(request: pytest.FixtureRequest) -> Processes:
    return Processes(WindowSpec(4, 0.2, lead_in_s=0.05, min_requests=10, max_window_s=0.45), request.param)


class TestBegin:
    def test_waits_for_the_last_to_arrive(self, processes: Processes) -> None:
        for view in processes.views[1:]:
            view.arrive()
        processes.at(processes.now)
        assert not any(view.begin_ns for view in processes.views)
        processes.views[0].arrive()
        processes.at(processes.now + 7)
        assert len({view.begin_ns for view in processes.views}) == 1
        assert processes.views[0].begin_ns >= processes.now

    def test_lies_ahead_where_others_have_yet_to_see_it(self, processes: Processes) -> None:
        begin_ns = processes.begin()
        assert (begin_ns > processes.now) is (processes.count > 1)

    def test_only_the_first_decides(self) -> None:
        processes = Processes(WindowSpec(1, 0.1), 2)
        for view in processes.views:
            view.arrive()
        processes.views[1].lead(processes.now, processes.spec)
        assert not processes.views[1].begin_ns


class TestStart:
    def test_waits_for_the_lead_in(self, processes: Processes) -> None:
        begin_ns = processes.begin()
        for view in processes.views:
            view.ready()
        processes.at(begin_ns + 49 * MS)
        assert not processes.views[-1].start_ns
        processes.at(begin_ns + 50 * MS)
        assert processes.views[-1].start_ns >= begin_ns + 50 * MS

    def test_waits_for_the_last_answer_everywhere(self, processes: Processes) -> None:
        begin_ns = processes.begin()
        for view in processes.views[:-1]:
            view.ready()
        processes.at(begin_ns + 60 * MS)
        assert not processes.views[0].start_ns
        processes.views[-1].ready()
        processes.at(begin_ns + 70 * MS)
        assert processes.views[0].start_ns >= begin_ns + 70 * MS

    def test_is_told_with_its_stop_and_before_it_comes(self, processes: Processes) -> None:
        start_ns = processes.start()
        assert {(view.start_ns, view.stop_ns) for view in processes.views} == {(start_ns, start_ns + 200 * MS)}
        assert (start_ns > processes.now) is (processes.count > 1)

    def test_may_be_given_and_then_waits_for_nobody(self) -> None:
        processes = Processes(WindowSpec(4, 0.2, min_requests=1000, max_window_s=9.0), 2)
        processes.spec = WindowSpec(4, 0.2, min_requests=1000, max_window_s=9.0, start_ns=processes.now + 3)
        processes.begin()
        processes.at(processes.now + 1)
        assert {(p.start_ns, p.stop_ns, p.closed) for p in processes.views} == {
            (processes.spec.start_ns, processes.spec.start_ns + 200 * MS, True)
        }
        processes.at(processes.now + 10**10)
        assert processes.views[1].stop_ns == processes.spec.start_ns + 200 * MS


class TestStop:
    def test_stays_open_until_it_has_come(self, processes: Processes) -> None:
        start_ns = processes.start()
        for view in processes.views:
            view.sent(10)
        processes.at(start_ns + 199 * MS)
        assert not any(view.closed for view in processes.views)
        processes.at(start_ns + 200 * MS)
        assert all(view.closed for view in processes.views)
        assert processes.views[0].stop_ns == start_ns + 200 * MS

    def test_counts_the_requests_of_all(self, processes: Processes) -> None:
        start_ns = processes.start()
        for index, view in enumerate(processes.views):
            view.sent(10 if processes.count == 1 else (9, 1, 0)[index])
        processes.at(start_ns + 200 * MS)
        assert processes.views[-1].closed

    def test_moves_in_steps_of_half_until_there_are_enough(self, processes: Processes) -> None:
        start_ns = processes.start()
        processes.views[-1].sent(9)
        processes.at(start_ns + 200 * MS)
        assert {view.stop_ns for view in processes.views} == {start_ns + 300 * MS}
        processes.views[-1].sent(10)
        processes.at(start_ns + 299 * MS)
        assert not processes.views[0].closed
        processes.at(start_ns + 305 * MS)
        assert processes.views[-1].closed
        assert processes.views[-1].stop_ns == start_ns + 300 * MS

    def test_always_into_the_future(self, processes: Processes) -> None:
        start_ns = processes.start()
        processes.at(start_ns + 375 * MS)
        assert processes.views[-1].stop_ns == start_ns + 400 * MS, "the next whole step after a late look"
        assert not processes.views[-1].closed

    def test_but_not_beyond_the_longest(self, processes: Processes) -> None:
        start_ns = processes.start()
        for elapsed in range(200, 2000, 10):
            processes.at(start_ns + elapsed * MS)
        assert processes.views[-1].closed
        assert 450 * MS <= processes.views[-1].stop_ns - start_ns < 550 * MS

    def test_a_closed_window_never_moves(self, processes: Processes) -> None:
        start_ns = processes.start()
        processes.views[0].sent(10)
        processes.at(start_ns + 200 * MS)
        processes.views[0].sent(0)
        processes.at(start_ns + 10**11)
        assert processes.views[0].stop_ns == start_ns + 200 * MS


def test_a_window_is_followed_until_the_last_has_followed(processes: Processes) -> None:
    processes.start()
    for view in processes.views:
        assert not any(view.all_followed for view in processes.views)
        view.followed()
    assert all(view.all_followed for view in processes.views)


def test_who_gives_up_gives_up_for_all(processes: Processes) -> None:
    processes.start()
    processes.views[-1].abort()
    assert all(view.aborted for view in processes.views)
