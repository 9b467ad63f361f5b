"""What holds for every protocol: rotations, slots, many connections, too few files. HTTP stands for all of them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load import loop as loop_module
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.load.process import WorkerProcesses
from pytest_gpuperf.model import HTTP, Address, Request, WireWorkload
from tests.unit.load.hostile import Behaviour, Exchange, Server, answers, in_turn, response, silence
from tests.unit.load.wire import MS, Replay, column, inside, latencies, measure, outstanding, workload

OK = response()
BUSY = response(b"queue is full", "503 Service Unavailable")


def numbered(count: int, text: bytes = b"%d") -> list[Request]:
    return [Request(text % number) for number in range(count)]


class Slots:
    """Answers after a time, and sees which slots are in flight: a request's body is its slot, then which of them it is.

    Attributes:
        used: requests of each slot.
        collisions: requests whose slot was in flight already.
    """

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self._lock = threading.Lock()
        self._inside: set[bytes] = set()
        self.used = Counter[bytes]()
        self.variants: set[bytes] = set()
        self.collisions = 0

    def __call__(self, exchange: Exchange) -> None:
        slot = exchange.body.split(b"/")[0]
        with self._lock:
            self.collisions += slot in self._inside
            self._inside.add(slot)
            self.used[slot] += 1
            self.variants.add(exchange.body)
        # Out of it before the client can see the answer and use the slot again.
        begin = exchange.begin

        def leave() -> None:
            with self._lock:
                self._inside.discard(slot)
            begin()

        exchange.begin = leave  # type: ignore[method-assign]
        try:
            self._behave(exchange)
        finally:
            leave()


def slotted(count: int, variants: int = 1) -> list[list[Request]]:
    return [numbered(variants, b"%d/" % slot + b"%d") for slot in range(count)]


class TestRotation:
    def test_requests_are_sent_in_turn(self) -> None:
        bodies: list[bytes] = []

        def behave(exchange: Exchange) -> None:
            bodies.append(exchange.body)
            exchange.send(OK)

        with Server(behave) as server:
            measure(server, WindowSpec(1, 0.1), workload(server, rotations=[numbered(7)]))
        assert bodies == [b"%d" % (number % 7) for number in range(len(bodies))]
        assert len(bodies) > 14

    def test_over_several_connections_each_is_sent_as_often(self) -> None:
        with Server(answers(OK, after_s=0.004)) as server:
            seen = Counter[bytes]()
            server._behave = lambda exchange: (seen.update([exchange.body]), exchange.send(OK))[1]  # type: ignore[func-returns-value]
            measure(server, WindowSpec(3, 0.2), workload(server, rotations=[numbered(5)]))
        assert set(seen) == {b"%d" % number for number in range(5)}
        assert max(seen.values()) - min(seen.values()) <= 3

    def test_answers_of_different_lengths_are_told_apart(self) -> None:
        def behave(exchange: Exchange) -> None:
            exchange.send(response(b"x" * (100 * int(exchange.body))))

        def check_of(number: int) -> Request:
            def check(body: bytes, _headers: object) -> str:
                return "" if body == b"x" * (100 * number) else f"{len(body)} bytes"

            return Request(b"%d" % number, check=check)

        with Server(behave) as server:
            load = workload(server, rotations=[[check_of(number) for number in range(4)]])
            recording = measure(server, WindowSpec(3, 0.2), load)
            assert recording.answered == server.requests > 12
        assert not recording.errors

    def test_a_request_has_headers_of_its_own(self) -> None:
        requests = [Request(b"a", (("X-Length", "1"),)), Request(b"bb", (("x-common", "own"),))]
        with Server(answers(OK)) as server:
            measure(server, WindowSpec(1, 0.05), workload(server, rotations=[requests], headers=[("X-Common", "all")]))
            first, second = sorted(server.seen, key=lambda request: request[-1:])
        assert b"\r\nX-Common: all\r\nX-Length: 1\r\n" in first
        assert b"\r\nx-common: own\r\n" in second
        assert b": all" not in second


class TestSlots:
    @pytest.mark.parametrize("variants", [1, 3])
    def test_no_slot_is_in_flight_twice_and_all_are_used(self, variants: int) -> None:
        slots = Slots(answers(OK, after_s=0.005))
        with Server(slots) as server:
            load = workload(server, rotations=slotted(4, variants))
            recording = measure(server, WindowSpec(4, 0.25), load)
            assert server.at_once == 4
        assert not slots.collisions
        assert not recording.errors
        assert set(slots.used) == {b"0", b"1", b"2", b"3"}
        assert len(slots.variants) == 4 * variants

    def test_more_slots_than_requests_in_flight(self) -> None:
        slots = Slots(answers(OK, after_s=0.002))
        with Server(slots) as server, closing(Replay(workload(server, rotations=slotted(8)))) as replay:
            for concurrency in (2, 8, 1):
                assert not replay.window(WindowSpec(concurrency, 0.08)).errors
        assert not slots.collisions

    def test_a_failed_request_gives_its_slot_back(self) -> None:
        def resets(exchange: Exchange) -> None:
            exchange.reset()

        slots = Slots(in_turn(answers(OK), answers(BUSY), resets))
        with Server(slots) as server:
            recording = measure(server, WindowSpec(3, 0.5), workload(server, rotations=slotted(3)))
        assert not slots.collisions
        assert recording.errors.keys() == {"HTTP 503", "connection reset"}
        assert min(slots.used[slot] for slot in (b"0", b"1", b"2")) > 3

    def test_requests_given_up_give_their_slots_back_for_the_next_window(self) -> None:
        with (
            Server(silence) as server,
            closing(Replay(workload(server, rotations=slotted(2)))) as replay,
        ):
            assert replay.window(WindowSpec(2, 0.1, deadline_s=0.1)).errors.keys() <= {"timeout"}
            server._behave = answers(OK, after_s=0.002)
            recording = replay.window(WindowSpec(2, 0.1))
            assert not recording.errors
            assert len(inside(recording)) > 4

    def test_a_workload_without_slots_uses_connections_of_one_that_has_them(self) -> None:
        with Server(answers(OK)) as server, closing(Replay(workload(server, rotations=slotted(4)))) as replay:
            assert not replay.window(WindowSpec(4, 0.1)).errors
            recording = replay.window(WindowSpec(2, 0.1), workload(server, rotations=[numbered(3)]))
            assert not recording.errors
            assert len(inside(recording)) > 4

    @pytest.mark.parametrize("workers", [2, 3])
    def test_several_processes_share_the_slots_out(self, workers: int) -> None:
        slots = Slots(answers(OK, after_s=0.005))
        with Server(slots) as server, closing(WorkerProcesses(workers)) as generator:
            recording = generator.window(workload(server, rotations=slotted(7)), WindowSpec(7, 0.3))
        assert not recording.errors
        assert not slots.collisions


class TestCrowd:
    def test_600_requests_in_flight_against_a_slow_server(self) -> None:
        with Server(answers(OK, after_s=0.4), backlog=1024) as server, closing(WorkerProcesses()) as generator:
            recording = generator.window(workload(server), WindowSpec(600, 0.8, lead_in_s=0.1))
            assert server.connections == server.at_once == 600
        assert not recording.lost
        assert not recording.errors
        assert not recording.error_sample
        assert min(latencies(recording)) >= 400 * MS
        assert 400 < outstanding(recording) <= 600 + 1e-6

    def test_a_network_that_can_not_be_reached_is_an_error_for_each(self) -> None:
        # TCP can't go to a broadcast address: the kernel says so at once.
        load = WireWorkload(HTTP, (Address("255.255.255.255", 9),), "/infer", ((Request(b""),),))
        with closing(Replay(load)) as replay:
            recording = replay.window(WindowSpec(300, 0.1))
        assert recording.error_sample.startswith("connection error (")
        assert not recording.answered

    def test_a_server_that_refuses_a_crowd_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.3)
        with Server(answers(OK)) as server:
            server.die()
            begin = time.monotonic()
            recording = measure(server, WindowSpec(700, 10.0))
            assert time.monotonic() - begin < 5
        assert recording.lost
        assert recording.errors.keys() == {"connection refused"}


_FEW_FILES = """
import json, resource, sys
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.model import Address, Constant, Request, WireWorkload

resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
load = WireWorkload("http", (Address("127.0.0.1", int(sys.argv[1])),), "/infer", ((Request(b""),),))
count = int(sys.argv[2])
spec = WindowSpec(count, 0.4) if count else WindowSpec(0, 0.4, Constant(5000.0), max_in_flight=80)
try:
    tally, _ = Loop(load).window(load, spec)
    print(json.dumps([tally.rows, tally.failures.errors, tally.error_sample, tally.lost]))
except LoadError as error:
    print(json.dumps(str(error)))
"""


def _with_few_files(server: Server, concurrency: int) -> Any:
    command = [sys.executable, "-c", _FEW_FILES, str(server.port), str(concurrency)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("concurrency", [58, 80, 600])
def test_too_few_files_for_a_concurrency_are_an_error_before_any_request(concurrency: int) -> None:
    with Server(answers(OK)) as server:
        message = _with_few_files(server, concurrency)
        assert message.startswith(f"{concurrency} connections can't be opened: the system allows this process 60 open")
        assert "ulimit -n" in message
        assert not server.connections


def test_too_few_files_in_an_open_loop_are_an_error_of_some_requests_and_not_of_the_others() -> None:
    with Server(answers(OK, after_s=0.02)) as server:
        rows, errors, sample, lost = _with_few_files(server, 0)
        assert 30 < server.at_once < 60
    assert not lost
    assert errors.keys() == {"too many open files"}
    assert sample.startswith("too many open files: ")
    assert rows > 100


class TestAddress:
    def test_a_host_that_does_not_exist_is_named(self) -> None:
        load = WireWorkload(HTTP, (Address("no.such.host.invalid", 80),), "/infer", ((Request(b""),),))
        with pytest.raises(LoadError, match=r"Host 'no\.such\.host\.invalid' can't be resolved"):
            Loop(load)

    @pytest.mark.parametrize("headers", [[("X-Bad", "a\r\nX-Forged: b")], [("", "x")], [("X\n", "y")]])
    def test_a_header_that_would_forge_others_is_refused(self, headers: list[tuple[str, str]]) -> None:
        with Server(answers(OK)) as server, pytest.raises(LoadError, match="request can't be written"):
            measure(server, WindowSpec(1, 0.05), workload(server, headers=headers))


class TestTimes:
    def test_the_window_may_be_given(self) -> None:
        with Server(answers(OK, after_s=0.005)) as server:
            start_ns = time.monotonic_ns() + 250 * MS
            recording = measure(server, WindowSpec(2, 0.1, start_ns=start_ns, min_requests=1000))
        assert (recording.start_ns, recording.stop_ns) == (start_ns, start_ns + 100 * MS)
        assert min(column(recording, "due")) < start_ns
        assert inside(recording)

    def test_a_client_that_keeps_answers_waiting_says_so(self) -> None:
        count = itertools.count()

        def check(_body: bytes, _headers: object) -> str:
            if next(count) % 5 == 4:
                time.sleep(0.02)
            return ""

        with Server(answers(OK)) as server:
            recording = measure(server, WindowSpec(2, 0.3), workload(server, rotations=[[Request(b"x", check=check)]]))
        assert recording.stall_s > 0.1
        with Server(answers(OK, after_s=0.02)) as server:
            assert min(measure(server, WindowSpec(1, 0.15)).stall_s for _ in range(2)) < recording.stall_s / 2
