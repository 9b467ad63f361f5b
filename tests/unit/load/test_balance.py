from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gpuperf.analysis.window import endpoint_figures, window_figures
from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.load import loop as loop_module
from pytest_gpuperf.load.balance import LeastOutstanding, RoundRobin, balance_of
from pytest_gpuperf.model import LEAST_OUTSTANDING, Constant, EndpointFigures, WireWorkload
from tests.unit.load.hostile import Exchange, Server, answers, response
from tests.unit.load.listening import HOST
from tests.unit.load.wire import MS, Port, column, inside, latencies, lives, measure, workload

OK = response()


class TestRoundRobin:
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 4))
    def test_every_round_has_the_weights_exactly(self, weights: list[int], rounds: int) -> None:
        balance = RoundRobin(weights)
        picks = [balance.pick() for _ in range(rounds * sum(weights))]
        assert [picks.count(address) for address in range(len(weights))] == [rounds * weight for weight in weights]

    @given(st.lists(st.integers(1, 9), min_size=2, max_size=5))
    def test_is_never_far_from_the_weights_in_between(self, weights: list[int]) -> None:
        balance, counts = RoundRobin(weights), Counter[int]()
        for picked in range(1, 2 * sum(weights) + 1):
            counts[balance.pick()] += 1
            for address, weight in enumerate(weights):
                assert abs(counts[address] - picked * weight / sum(weights)) < len(weights)

    def test_equal_weights_are_in_turn(self) -> None:
        balance = RoundRobin([1.0, 1.0, 1.0])
        assert [balance.pick() for _ in range(6)] == [0, 1, 2, 0, 1, 2]

    def test_a_heavy_address_does_not_come_in_a_bunch(self) -> None:
        balance = RoundRobin([5, 1, 1])
        picks = "".join(str(balance.pick()) for _ in range(14))
        assert "00000" not in picks, "all five at once"

    def test_fractions_are_weights_too(self) -> None:
        balance = RoundRobin([0.1, 0.2, 0.7])
        counts = Counter(balance.pick() for _ in range(10_000))
        assert [counts[address] for address in range(3)] == [pytest.approx(n, abs=2) for n in (1000, 2000, 7000)]


class TestLeastOutstanding:
    def test_takes_turns_where_all_are_equal(self) -> None:
        balance = LeastOutstanding([1, 1, 1])
        assert [balance.pick() for _ in range(6)] == [0, 1, 2, 0, 1, 2]

    def test_an_answer_makes_room(self) -> None:
        balance = LeastOutstanding([1, 1, 1])
        for _ in range(6):
            balance.pick()
        balance.done(1)
        balance.done(1)
        assert [balance.pick(), balance.pick()] == [1, 1]

    def test_weights_are_shares_of_what_is_unanswered(self) -> None:
        balance = LeastOutstanding([3, 1])
        counts = Counter(balance.pick() for _ in range(40))
        assert counts == {0: 30, 1: 10}

    @given(st.lists(st.booleans(), max_size=60))
    def test_is_never_out_by_more_than_one(self, steps: list[bool]) -> None:
        balance, unanswered = LeastOutstanding([1, 1, 1]), [0, 0, 0]
        for answered in steps:
            # The busiest one answers: nobody else can be behind by more than the next pick.
            if answered and any(unanswered):
                busiest = unanswered.index(max(unanswered))
                unanswered[busiest] -= 1
                balance.done(busiest)
            else:
                unanswered[balance.pick()] += 1
            assert max(unanswered) - min(unanswered) <= 1


def test_a_single_address_needs_no_balance() -> None:
    assert balance_of(workload(Port(1))) is None
    assert isinstance(balance_of(workload(Port(1), Port(2))), RoundRobin)
    assert isinstance(balance_of(workload(Port(1), Port(2), balance=LEAST_OUTSTANDING)), LeastOutstanding)


def endpoints(load: WireWorkload, recording: Recording) -> tuple[EndpointFigures, ...]:
    return endpoint_figures(
        [(lane.due_ns, lane.done_ns, lane.address) for lane in recording.lanes],
        [address.label for address in load.addresses],
        recording.address_errors,
        (recording.start_ns, recording.stop_ns),
        load.batch_size,
    )


class Fleet(ExitStack):
    """Servers that answer after different times."""

    def __init__(self, *after_s: float) -> None:
        super().__init__()
        self.servers = [self.enter_context(Server(answers(OK, after_s=each))) for each in after_s]


def _refusing() -> int:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        return int(unused.getsockname()[1])


class TestOverSockets:
    @pytest.mark.parametrize("weights", [(1, 1), (3, 1), (5, 2, 1)])
    def test_round_robin_is_exact(self, weights: Sequence[float]) -> None:
        with Fleet(*([0.003] * len(weights))) as fleet:
            recording = measure(fleet.servers[0], WindowSpec(3, 0.2), workload(*fleet.servers, weights=weights))
            counts = [server.requests for server in fleet.servers]
        total = sum(counts)
        assert total == recording.answered
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - total * weight / sum(weights)) < len(weights)

    def test_every_answer_knows_its_address(self) -> None:
        with Fleet(0.002, 0.03) as fleet:
            recording = measure(fleet.servers[0], WindowSpec(4, 0.2), workload(*fleet.servers))
            counts = Counter(column(recording, "address"))
            assert counts == {0: fleet.servers[0].requests, 1: fleet.servers[1].requests}
        slow = [d - s for a, (s, d) in zip(column(recording, "address"), lives(recording), strict=True) if a == 1]
        assert min(slow) >= 30 * MS

    def test_least_outstanding_prefers_the_faster_server(self) -> None:
        with Fleet(0.005, 0.05) as fleet:
            load = workload(*fleet.servers, balance=LEAST_OUTSTANDING)
            recording = measure(fleet.servers[0], WindowSpec(4, 0.4), load)
            fast, slow = (server.requests for server in fleet.servers)
        assert not recording.errors
        assert fast > 3 * slow > 0

    def test_round_robin_does_not(self) -> None:
        with Fleet(0.005, 0.05) as fleet:
            measure(fleet.servers[0], WindowSpec(4, 0.4), workload(*fleet.servers))
            fast, slow = (server.requests for server in fleet.servers)
        assert abs(fast - slow) <= 4

    def test_the_figures_of_the_endpoints_add_up(self) -> None:
        def fails_sometimes(exchange: Exchange) -> None:
            time.sleep(0.004)
            exchange.send(response(b"", "503 Service Unavailable") if exchange.number % 4 == 0 else OK)

        with Fleet(0.002) as fleet:
            fleet.servers.append(fleet.enter_context(Server(fails_sometimes)))
            load = workload(*fleet.servers, batch_size=8)
            recording = measure(fleet.servers[0], WindowSpec(4, 0.5), load)
        healthy, failing = by_address = endpoints(load, recording)
        whole = window_figures(
            ((lane.due_ns, lane.sent_ns, lane.done_ns) for lane in recording.lanes),
            recording.start_ns,
            recording.stop_ns,
            8,
        )
        assert healthy.requests + failing.requests == whole.requests == len(inside(recording))
        assert healthy.throughput + failing.throughput == pytest.approx(whole.throughput)
        assert (healthy.errors, failing.errors) == (0, recording.errors["HTTP 503"])
        assert failing.errors > 0
        assert [endpoint.address for endpoint in by_address] == [f"{HOST}:{server.port}" for server in fleet.servers]
        assert failing.p50_ns >= 4 * MS * 0.995

    def test_a_dead_endpoint_is_counted_and_does_not_end_the_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.3)
        with Fleet(0.005) as fleet:
            load = workload(fleet.servers[0], Port(_refusing()))
            # Longer than the patience with a server that is gone altogether.
            recording = measure(fleet.servers[0], WindowSpec(4, 1.0), load)
        assert not recording.lost
        living, dead = endpoints(load, recording)
        assert recording.errors == {"connection refused": dead.errors}
        assert (living.errors, dead.requests) == (0, 0)
        assert living.requests > 10
        assert dead.errors > 5

    def test_an_endpoint_that_dies_in_mid_window_leaves_the_load_to_the_others(self) -> None:
        with Fleet(0.005, 0.005) as fleet:
            timer = threading.Timer(0.4, fleet.servers[1].die)
            timer.start()
            load = workload(*fleet.servers)
            recording = measure(fleet.servers[0], WindowSpec(4, 1.0, lead_in_s=0.05), load)
            timer.join()
        assert not recording.lost
        living, dead = endpoints(load, recording)
        assert living.errors == 0
        assert dead.errors > 0
        assert dead.requests > 0
        assert recording.errors.keys() <= {"connection refused", "connection closed", "connection reset"}
        assert sum(recording.errors.values()) == dead.errors

    def test_no_endpoint_at_all_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.3)
        load = workload(Port(_refusing()), Port(_refusing()))
        begin = time.monotonic()
        recording = measure(load.addresses[0], WindowSpec(4, 30.0), load)
        assert time.monotonic() - begin < 5
        assert all(address.label in recording.lost for address in load.addresses)
        assert not recording.answered

    def test_connects_that_hang_do_not_hold_up_other_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "CONNECT_NS", 300 * MS)
        with socket.socket() as full, Fleet(0.001) as fleet, ExitStack() as fillers:
            full.bind((HOST, 0))
            full.listen(0)
            for _ in range(4):
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            time.sleep(0.05)
            load = workload(Port(full.getsockname()[1]), fleet.servers[0])
            spec = WindowSpec(0, 0.5, arrivals=Constant(100.0), lead_in_s=0.05)
            recording = measure(fleet.servers[0], spec, load)
        assert not recording.lost
        assert set(column(recording, "address")) == {1}
        assert len(inside(recording)) == pytest.approx(25, abs=1)
        waits = sorted(latencies(recording))
        assert waits[len(waits) // 2] < 150 * MS, "less than one of the hanging connects takes"
        assert recording.errors.keys() == {"connection timeout"}
        assert recording.address_errors == (recording.errors["connection timeout"], 0)
        assert recording.address_errors[0] == pytest.approx(25, abs=1)
