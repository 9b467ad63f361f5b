"""Answers that no request waits for: one too many makes every later answer that to an older request.

Over HTTP/1.1 nothing in an answer says which request it belongs to, so its latency would be far below the truth.
"""

from __future__ import annotations

import contextlib
import socket
import time
from contextlib import closing

import pytest

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.model import GRPC_STREAM, Constant, StreamAnswer
from tests.unit.load import hostile_h2
from tests.unit.load.hostile import Behaviour, Exchange, Server, answers, response
from tests.unit.load.wire import Replay, measure, workload

OK = response()
UNTIMELY = {"untimely answer"}


def twice(numbers: range, pause_s: float = 0.002) -> Behaviour:
    """Return the behaviour of a server that sends some of its answers twice."""

    def behave(exchange: Exchange) -> None:
        time.sleep(0.01)
        exchange.send(*[OK] * (1 + (exchange.number in numbers)), pause_s=pause_s)

    return behave


class Greeting(Server):
    """Sends bytes on each fresh connection before it reads a request."""

    greeting = OK

    def serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(self.greeting)
        super().serve(connection, number)


@pytest.mark.parametrize(
    "spec", [WindowSpec(2, 0.2), WindowSpec(0, 0.2, arrivals=Constant(50))], ids=["closed", "open"]
)
@pytest.mark.parametrize("numbers", [range(1000), range(4, 5)], ids=["each", "the fifth"])
def test_an_answer_that_comes_twice_leaves_no_answer_for_right(numbers: range, spec: WindowSpec) -> None:
    with Server(twice(numbers)) as server:
        recording = measure(server, spec)
    assert not recording.answered
    assert recording.errors.keys() == UNTIMELY
    assert "no request asked for" in recording.error_sample


@pytest.mark.parametrize("length", [1, 20, len(OK)])
def test_an_answer_and_the_beginning_of_another(length: int) -> None:
    """From the second request on: the loop then recognises the head."""

    def behave(exchange: Exchange) -> None:
        exchange.send(OK + OK[:length] if exchange.number == 3 else OK)

    with Server(behave) as server:
        recording = measure(server, WindowSpec(1, 0.1, min_requests=6))
    assert not recording.answered
    assert recording.errors.keys() == UNTIMELY


@pytest.mark.parametrize("number", [0, 3])
def test_an_answer_and_an_announcement_of_another(number: int) -> None:
    """The first answer of a connection is parsed, later ones are recognised: both ways must agree."""

    def behave(exchange: Exchange) -> None:
        exchange.send(OK + b"HTTP/1.1 100 Continue\r\n\r\n" if exchange.number == number else OK)

    with Server(behave) as server:
        recording = measure(server, WindowSpec(1, 0.1, min_requests=6))
    assert recording.errors.keys() == UNTIMELY


def test_an_answer_before_the_first_request() -> None:
    with Greeting(answers(OK, after_s=0.01)) as server:
        recording = measure(server, WindowSpec(2, 0.2))
    assert not recording.answered
    assert recording.errors.keys() == UNTIMELY


def test_a_window_after_such_a_one_stands_for_itself() -> None:
    with Server(twice(range(4, 5))) as server, closing(Replay(workload(server))) as replay:
        assert replay.window(WindowSpec(1, 0.15)).errors.keys() == UNTIMELY
        recording = replay.window(WindowSpec(1, 0.15))
    assert recording.answered
    assert not recording.errors


def test_an_answer_between_two_windows_spoils_the_later_one() -> None:
    """An answer may take longer than a window waits for it."""

    def behave(exchange: Exchange) -> None:
        exchange.send(OK)
        if exchange.number == 0:
            time.sleep(0.1)
            exchange.send(OK)

    with Server(behave) as server, closing(Replay(workload(server))) as replay:
        assert replay.window(WindowSpec(1, 0.0)).answered == 1
        time.sleep(0.2)
        assert replay.window(WindowSpec(1, 0.05)).errors.keys() == UNTIMELY


def test_a_server_may_take_leave_of_an_idle_connection() -> None:
    leave = response(b"", "408 Request Timeout", "Connection: close")

    def behave(exchange: Exchange) -> None:
        exchange.send(OK)
        if exchange.number == 0:
            time.sleep(0.05)
            exchange.send(leave)
            exchange.hang_up()

    with Server(behave) as server, closing(Replay(workload(server))) as replay:
        replay.window(WindowSpec(1, 0.0))
        time.sleep(0.15)
        recording = replay.window(WindowSpec(1, 0.05))
    assert recording.answered
    assert not recording.errors


def test_a_stream_without_a_request_in_flight() -> None:
    def behave(call: hostile_h2.Call) -> None:
        last = hostile_h2.data_frames(call.stream, hostile_h2.message(b"last"))
        head = hostile_h2.head(call.stream) if call.peer.begun != call.stream else b""
        call.peer.begun = call.stream
        call.answer(head + last, last, pause_s=0.002)

    with hostile_h2.Server(behave) as server:
        load = hostile_h2.workload(server, protocol=GRPC_STREAM, read_stream=lambda _body: StreamAnswer(last=True))
        recording = hostile_h2.drive(load, WindowSpec(1, 0.1))
    assert not recording.answered
    assert recording.errors.keys() >= UNTIMELY
