from __future__ import annotations

import gzip
import os
import socket
import time
import zlib
from collections.abc import Mapping
from contextlib import closing
from itertools import chain

import pytest

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load import loop as loop_module
from pytest_gpuperf.load import response as response_module
from pytest_gpuperf.load.http1 import prepare
from pytest_gpuperf.model import Address, Request, WireWorkload
from tests.unit.load.hostile import (
    Behaviour,
    Exchange,
    Server,
    answers,
    endless,
    hang_up_after,
    in_turn,
    reset_after,
    response,
    silence,
    silent_after,
)
from tests.unit.load.listening import HOST
from tests.unit.load.wire import (
    MS,
    Port,
    Replay,
    column,
    inside,
    latencies,
    measure,
    outstanding,
    request_bytes,
    workload,
)

OK = response()
LARGE = response(bytes(1_000_000))
BUSY = response(b"queue is full", "503 Service Unavailable")
# More than the kernel takes at once (tcp_wmem, 4 MB by default).
LARGE_BODY = b"x" * 8_000_000


class TestGoodServer:
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_no_latency_is_shorter_than_the_servers_delay(self, concurrency: int) -> None:
        with Server(answers(OK, after_s=0.02)) as server:
            recording = measure(server, WindowSpec(concurrency, 0.12))
        assert min(latencies(recording)) >= 20 * MS
        assert not recording.errors
        assert not recording.error_sample
        assert not recording.lost

    def test_records_every_answer_once_in_order_of_completion(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server:
            recording = measure(server, WindowSpec(3, 0.15))
            assert len(column(recording, "sent")) == recording.answered == server.requests
        assert list(column(recording, "done")) == sorted(column(recording, "done"))

    def test_has_room_for_more_requests_than_it_allocated(self) -> None:
        with Server(answers(OK, after_s=0.001)) as server, closing(Replay(workload(server))) as replay:
            recording = replay.window(WindowSpec(2, 0.1), rows=4)
            assert recording.answered == server.requests > 16
        assert all(latency >= MS for latency in latencies(recording))

    def test_the_window_is_as_long_as_asked_and_begins_after_the_lead_in(self) -> None:
        with Server(answers(OK, after_s=0.005)) as server:
            recording = measure(server, WindowSpec(2, 0.15, lead_in_s=0.1))
        assert recording.stop_ns - recording.start_ns == 150 * MS
        # Counted from the load's begin, which on a busy machine is a while before the first send.
        assert recording.start_ns - min(column(recording, "sent")) >= 70 * MS

    def test_the_window_begins_after_every_connection_was_answered(self) -> None:
        def behave(exchange: Exchange) -> None:
            time.sleep(0.2 if exchange.connection == 2 else 0.005)
            exchange.send(OK)

        with Server(behave) as server:
            recording = measure(server, WindowSpec(3, 0.1, lead_in_s=0.01))
        assert recording.start_ns - min(column(recording, "sent")) >= 200 * MS

    def test_requests_sent_in_the_window_are_followed_to_their_end_under_load(self) -> None:
        with Server(answers(OK, after_s=0.1)) as server:
            recording = measure(server, WindowSpec(2, 0.12))
            assert recording.answered == server.requests
        assert inside(recording)
        assert max(column(recording, "done")) >= recording.stop_ns
        assert min(latencies(recording)) >= 100 * MS

    def test_a_slow_request_does_not_stretch_the_window(self) -> None:
        with Server(in_turn(answers(OK, after_s=0.15), answers(OK, after_s=0.01))) as server:
            recording = measure(server, WindowSpec(2, 0.1))
        assert recording.stop_ns - recording.start_ns == 100 * MS
        assert max(latencies(recording)) >= 150 * MS

    @pytest.mark.parametrize("concurrency", [1, 7])
    def test_concurrency_is_the_number_of_requests_in_flight(self, concurrency: int) -> None:
        with Server(answers(OK, after_s=0.02)) as server:
            recording = measure(server, WindowSpec(concurrency, 0.2))
            assert server.at_once == concurrency
            assert server.connections == concurrency
        assert 0.7 * concurrency < outstanding(recording) <= concurrency + 1e-9

    def test_windows_of_one_loop_share_their_connections(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server, closing(Replay(workload(server))) as replay:
            for concurrency in (4, 1, 2, 4):
                server.at_once = 0
                recording = replay.window(WindowSpec(concurrency, 0.05))
                assert server.at_once == concurrency
                assert not recording.errors
            assert server.connections == 4

    def test_an_idle_connection_that_the_server_closed_adds_no_load(self) -> None:
        with (
            Server(answers(OK, after_s=0.01), idle_s=0.1) as server,
            closing(Replay(workload(server))) as replay,
        ):
            replay.window(WindowSpec(4, 0.05))
            server.at_once = 0
            recording = replay.window(WindowSpec(1, 0.3))
            assert server.at_once == 1
        assert outstanding(recording) <= 1

    def test_connections_closed_between_windows_are_no_errors_of_the_next(self) -> None:
        with (
            Server(answers(OK, after_s=0.005), idle_s=0.1) as server,
            closing(Replay(workload(server))) as replay,
        ):
            replay.window(WindowSpec(2, 0.05))
            time.sleep(0.2)
            recording = replay.window(WindowSpec(2, 0.1))
        assert inside(recording)
        assert not recording.errors

    def test_the_request_reaches_the_server_byte_for_byte(self) -> None:
        with Server(answers(OK)) as server:
            measure(server, WindowSpec(2, 0.1))
            assert server.seen == {request_bytes(server)}

    def test_another_request_in_the_next_window(self) -> None:
        with Server(answers(OK)) as server, closing(Replay(workload(server))) as replay:
            replay.window(WindowSpec(1, 0.05))
            server.seen.clear()
            replay.window(WindowSpec(1, 0.05), workload(server, body=b"another"))
            assert server.seen == {request_bytes(server, b"another")}

    def test_large_requests_arrive_whole_though_they_need_several_sends(self) -> None:
        with Server(answers(OK), receive_bytes=1 << 16) as server:
            recording = measure(server, WindowSpec(2, 0.15), workload(server, body=LARGE_BODY))
            assert server.seen == {request_bytes(server, LARGE_BODY)}
            assert recording.answered == server.requests
        assert not recording.errors

    def test_an_answer_before_the_request_was_read_does_not_garble_the_next_one(self) -> None:
        with Server(answers(OK), receive_bytes=1 << 16, early=True) as server:
            recording = measure(server, WindowSpec(1, 0.3, deadline_s=0.5), workload(server, body=LARGE_BODY))
            whole = request_bytes(server, LARGE_BODY)
            assert server.seen <= {whole[: -len(LARGE_BODY)], whole}
        assert recording.errors.keys() <= {"untimely answer", "connection reset", "timeout"}

    def test_takes_no_more_cpu_time_than_there_was(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server:
            recording = measure(server, WindowSpec(1, 0.2))
        assert 0 < recording.cpu_s < 0.2
        assert recording.workers == 1


def _chunked(exchange: Exchange) -> None:
    exchange.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n", b"0\r\n", b"\r\n", pause_s=0.001
    )


def _changing(exchange: Exchange) -> None:
    exchange.send(response(b"{}", "200 OK", f"X-Request: {10 ** (exchange.number % 5)}"))


def _close_announced(exchange: Exchange) -> None:
    exchange.send(response(b"{}", "200 OK", "Connection: close"))
    exchange.hang_up()


def _http_1_0(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    exchange.hang_up()


GOOD: dict[str, Behaviour] = {
    "in one piece": answers(OK),
    "byte by byte": answers(*(bytes([byte]) for byte in OK)),
    "head and body apart": answers(OK[:-2], OK[-2:], pause_s=0.002),
    "head in two": answers(OK[:20], OK[20:], pause_s=0.002),
    "chunked": _chunked,
    "chunked and plain": in_turn(_chunked, answers(OK)),
    "lengths alternate": in_turn(answers(response(b"x")), answers(response(b"y" * 2000)), answers(response(b"z"))),
    "lengths alternate in pieces": in_turn(
        answers(*(response(b"x" * 300)[at : at + 25] for at in range(0, 400, 25))),
        answers(*(response(b"y" * 100)[at : at + 25] for at in range(0, 200, 25))),
    ),
    "1 MB": answers(LARGE),
    "1 MB and 2 bytes": in_turn(answers(LARGE), answers(OK)),
    "heads change": _changing,
    "no body": answers(response(b"")),
    "small letters": answers(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
    "closes after each": _close_announced,
    "HTTP/1.0": _http_1_0,
    "closes now and then": in_turn(answers(OK), answers(OK), _close_announced),
}


@pytest.mark.parametrize("name", GOOD)
def test_any_framing_of_an_answer_is_one_latency(name: str) -> None:
    with Server(GOOD[name]) as server:
        recording = measure(server, WindowSpec(2, 0.1, lead_in_s=0.01, min_requests=4, deadline_s=2))
        assert recording.answered == server.requests
    assert len(inside(recording)) > 2
    assert not recording.errors
    assert not recording.error_sample
    assert min(latencies(recording)) > 0


def test_lengths_on_other_connections_change_nothing() -> None:
    long = response(b"x" * 1000)
    slow, quick = answers(long[:500], long[500:], pause_s=0.02), answers(OK, after_s=0.005)
    with Server(lambda exchange: (quick if exchange.connection else slow)(exchange)) as server:
        recording = measure(server, WindowSpec(2, 0.2, deadline_s=1))
        assert recording.answered == server.requests
    assert not recording.errors
    assert min(latencies(recording)) >= 5 * MS


def test_the_last_byte_ends_the_latency() -> None:
    body = bytes(5000)
    with Server(answers(response(body)[:3000], response(body)[3000:], pause_s=0.03)) as server:
        recording = measure(server, WindowSpec(1, 0.2))
    assert recording.answered > 2
    assert min(latencies(recording)) >= 29 * MS


def _two_answers(exchange: Exchange) -> None:
    exchange.send(OK + OK)


def _without_length(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\n\r\n{}")
    exchange.hang_up()


HOSTILE: dict[str, tuple[str, Behaviour]] = {
    "503": ("HTTP 503", answers(BUSY)),
    "503 byte by byte": ("HTTP 503", answers(*(bytes([byte]) for byte in BUSY))),
    "503, then closes": ("HTTP 503", hang_up_after(response(b"no", "503 Service Unavailable", "Connection: close"))),
    "404": ("HTTP 404", answers(response(b"", "404 Not Found"))),
    "302": ("HTTP 302", answers(response(b"", "302 Found", "Location: /elsewhere"))),
    "closes at once": ("connection closed", hang_up_after(b"")),
    "closes in the head": ("connection closed", hang_up_after(OK[:10])),
    "closes in the body": ("connection closed", hang_up_after(LARGE[:500_000])),
    "closes in a chunk": (
        "connection closed",
        hang_up_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nxx"),
    ),
    "resets at once": ("connection reset", reset_after(b"")),
    "resets in the body": ("connection reset", reset_after(LARGE[:100_000])),
    "silent": ("timeout", silence),
    "silent in the head": ("timeout", silent_after(OK[:10])),
    "silent in the body": ("timeout", silent_after(OK[:-1])),
    "endless body": (
        "timeout",
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", bytes(1 << 16), 0.001),
    ),
    "endless chunks": (
        "timeout",
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nxx\r\n", 0.001),
    ),
    "endless head": ("timeout", endless(b"HTTP/1.1 200 OK\r\n", b"X-More: of the same\r\n", 0.001)),
    "drips": ("timeout", endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.02)),
    "garbage": ("bad response", answers(b"\x00\xff\x17 this is not the protocol you are looking for\r\n\r\n")),
    "TLS": ("bad response", answers(b"\x15\x03\x01\x00\x02\x02\x46")),
    "SSH": ("bad response", answers(b"SSH-2.0-OpenSSH_9.2\r\n")),
    "two lengths": ("bad response", answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ")),
    "bad length": ("bad response", answers(b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}")),
    "more than its length": ("bad response", answers(OK + b"}")),
    "two answers": ("untimely answer", _two_answers),
    "switches protocols": (
        "bad response",
        answers(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
    ),
    "101 without an upgrade": ("bad response", answers(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")),
    "101, and frames after it": (
        "bad response",
        answers(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi"),
    ),
    "endless announcements": ("bad response", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)),
    "a head without end": ("bad response", endless(b"HTTP/1.1 200 OK\r\n", b"X-More: of the same\r\n" * 2000)),
    "a header without end": ("bad response", endless(b"HTTP/1.1 200 OK\r\nX-More: ", bytes([120]) * (1 << 16))),
    "a chunk extension without end": (
        "bad response",
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;", bytes([120]) * (1 << 16)),
    ),
    "trailers without end": (
        "bad response",
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-More: of the same\r\n" * 2000),
    ),
    "204": ("HTTP 204", answers(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n")),
    "204 with a body": ("bad response", answers(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}")),
    "205": ("HTTP 205", answers(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n")),
    "304 with a body": ("bad response", answers(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}")),
    "HTTP/0.9": ("bad response", hang_up_after(b"<html>hello</html>")),
    "HTTP/2": ("bad response", answers(b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0d\0\4\0\x10\0\0\0\6\0\0 \0")),
    "a negative length": ("bad response", answers(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}")),
    "a length of 2**64": (
        "bad response",
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n{}"),
    ),
    "a length and chunks": (
        "bad response",
        answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    ),
}


def test_the_grpc_port_is_guessed_when_http_2_answers() -> None:
    with Server(HOSTILE["HTTP/2"][1]) as server:
        assert "is that the gRPC port?" in measure(server, WindowSpec(1, 0.05)).error_sample


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_an_answer_above_the_limit_is_an_error(monkeypatch: pytest.MonkeyPatch, chunked: bool, kept: bool) -> None:
    monkeypatch.setattr(response_module, "ANSWER_BYTES", 3 << 20)
    piece = bytes(1 << 20)
    start = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
    if chunked:
        start, piece = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + piece + b"\r\n"
    with Server(endless(start, piece)) as server:
        check = (lambda _body, _headers: "") if kept else None
        recording = measure(server, WindowSpec(1, 0.05), workload(server, rotations=[[Request(b"", (), check)]]))
    assert recording.errors.keys() == {"bad response"}
    assert "the answer is larger than 3 MiB" in recording.error_sample


def test_the_servers_sentences_about_failures_are_kept_with_their_number() -> None:
    bad = answers(response(b'{"error": "negative numbers\\n are not taken"}', "400 Bad Request"))
    long = answers(response(b"no " * 2000, "500 Internal Server Error"))
    with Server(in_turn(answers(OK), bad, bad, long)) as server:
        recording = measure(server, WindowSpec(2, 0.4, min_requests=40))
    sentences = recording.error_sentences
    assert sentences["HTTP 400"] == {"negative numbers are not taken": recording.errors["HTTP 400"]}
    ((sentence, count),) = sentences["HTTP 500"].items()
    assert count == recording.errors["HTTP 500"]
    assert sentence.startswith("no no no ")
    assert len(sentence) <= 300


def test_requests_that_belong_to_no_window_are_not_waited_for() -> None:
    """From the middle of the window on, nothing is answered: not what was sent again after the deadline, either."""
    begin = time.monotonic()

    def behave(exchange: Exchange) -> None:
        if time.monotonic() - begin > 0.4:
            silence(exchange)
        time.sleep(0.002)
        exchange.send(OK)

    with Server(behave) as server:
        recording = measure(server, WindowSpec(4, 0.6, deadline_s=2.5))
        took_s = time.monotonic() - begin
    assert recording.errors == {"timeout": 4}
    assert took_s < 0.7 + 2.5 + 1.6


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_a_typed_error_in_time_and_never_a_latency(name: str) -> None:
    kind, behave = HOSTILE[name]
    with Server(behave) as server:
        begin = time.monotonic()
        # Not in step with the loop's 50 ms, in which it looks after deadlines.
        window_s, deadline_s = (0.13, 0.07) if kind == "timeout" else (0.11, 0.5)
        recording = measure(server, WindowSpec(2, window_s, lead_in_s=0.01, deadline_s=deadline_s))
        took_s = time.monotonic() - begin
    assert not recording.answered
    assert recording.errors.keys() == {kind}
    assert recording.error_sample.startswith(f"{kind}: ")
    assert took_s < 4


@pytest.mark.parametrize(
    "name",
    [
        "503",
        "503 byte by byte",
        "503, then closes",
        "closes at once",
        "closes in the body",
        "closes in a chunk",
        "resets in the body",
        "garbage",
        "more than its length",
    ],
)
def test_hostile_answers_between_good_ones_are_told_apart(name: str) -> None:
    kind, behave = HOSTILE[name]
    with Server(in_turn(answers(OK), behave, answers(OK))) as server:
        recording = measure(server, WindowSpec(1, 0.12, lead_in_s=0.0, min_requests=6))
        bad = (server.requests + 1) // 3
        assert recording.answered == server.requests - bad
    assert recording.errors.keys() == {kind}


def test_a_body_that_only_ends_with_the_connection_is_an_error() -> None:
    with Server(_without_length) as server:
        recording = measure(server, WindowSpec(1, 0.1))
    assert not recording.answered
    assert recording.errors


def test_an_error_names_status_and_body() -> None:
    with Server(answers(BUSY)) as server:
        recording = measure(server, WindowSpec(1, 0.05))
    assert recording.error_sample == "HTTP 503: queue is full"


def test_an_error_of_the_length_of_a_good_answer_in_pieces_is_still_an_error() -> None:
    good = response(b"x" * 40)
    bad = response(b"y" * 23, "503 Service Unavailable")
    assert len(bad) == len(good)
    # The first packet of the error is also how every good answer begins.
    with Server(in_turn(answers(good), answers(bad[:9], bad[9:], pause_s=0.005))) as server:
        recording = measure(server, WindowSpec(1, 0.2, lead_in_s=0.0, deadline_s=0.4))
        assert recording.answered <= (server.requests + 1) // 2
    assert recording.errors.keys() == {"HTTP 503"}


def test_a_shorter_good_answer_in_pieces_is_answered_in_time() -> None:
    first, second = response(b"x" * 400), response(b"y" * 4)
    with Server(in_turn(answers(first), answers(second[:9], second[9:], pause_s=0.005))) as server:
        recording = measure(server, WindowSpec(1, 0.3, deadline_s=0.5))
        assert recording.answered == server.requests
    assert not recording.errors
    assert max(latencies(recording)) < 400 * MS


def test_a_failing_server_is_not_hammered() -> None:
    with Server(answers(BUSY)) as server:
        measure(server, WindowSpec(2, 0.3))
        assert server.requests < 40


def test_good_answers_after_bad_ones_count() -> None:
    def behave(exchange: Exchange) -> None:
        if exchange.number < 4:
            exchange.reset()
        exchange.send(OK)

    with Server(behave) as server:
        recording = measure(server, WindowSpec(2, 0.1, lead_in_s=0.4))
        assert recording.answered == server.requests - 4
    assert not recording.errors, "they were before the window"
    assert recording.error_sample.startswith("connection reset")


def test_one_bad_connection_does_not_hold_up_the_others() -> None:
    def behave(exchange: Exchange) -> None:
        if exchange.number == 20:
            silence(exchange)
        time.sleep(0.002)
        exchange.send(OK)

    with Server(behave) as server:
        recording = measure(server, WindowSpec(3, 0.1, lead_in_s=0.0, min_requests=30, deadline_s=0.3))
    assert recording.errors == {"timeout": 1}
    assert len(inside(recording)) > 25


class TestGoneServer:
    def test_nothing_listening_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.5)
        with socket.socket() as unused:
            unused.bind((HOST, 0))
            port = unused.getsockname()[1]
            begin = time.monotonic()
            with closing(Replay(workload(Port(port)))) as replay:
                recording = replay.window(WindowSpec(3, 30.0))
            took_s = time.monotonic() - begin
        assert f"{HOST}:{port}" in recording.lost
        assert recording.errors.keys() == {"connection refused"}
        assert not recording.answered
        assert 0.45 < took_s < 3

    def test_a_server_that_dies_ends_the_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.3)

        def behave(exchange: Exchange) -> None:
            if exchange.number == 20:
                server.die()
            time.sleep(0.005)
            exchange.send(OK)

        with Server(behave) as server, closing(Replay(workload(server))) as replay:
            begin = time.monotonic()
            recording = replay.window(WindowSpec(2, 30.0))
            took_s = time.monotonic() - begin
            assert 10 < recording.answered <= 21
        assert recording.lost
        assert recording.start_ns < recording.stop_ns <= time.monotonic_ns()
        assert recording.errors.keys() <= {"connection closed", "connection reset", "connection refused"}
        assert "connection refused" in recording.errors
        assert min(latencies(recording)) >= 5 * MS
        assert took_s < 6

    def test_a_lost_loop_works_again_when_the_server_is_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.3)
        with Server(answers(OK, after_s=0.002)) as server:
            port = server.port
        with closing(Replay(workload(Port(port)))) as replay:
            assert replay.window(WindowSpec(2, 10.0)).lost
            with Server(answers(OK, after_s=0.002), port=port) as server:
                recording = replay.window(WindowSpec(2, 0.2))
                assert recording.answered == server.requests > 10
        assert not recording.lost
        assert not recording.errors

    def test_a_restart_within_the_patience_is_survived(self) -> None:
        with Server(answers(OK)) as server:
            port = server.port
        with closing(Replay(workload(Port(port)))) as replay, Server(answers(OK, after_s=0.002), port=port) as server:
            replay.window(WindowSpec(1, 0.1))
            server.die()
            with Server(answers(OK, after_s=0.002), port=port):
                recording = replay.window(WindowSpec(1, 0.2))
        assert not recording.lost
        assert inside(recording)

    def test_a_full_backlog_is_given_up_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_module, "CONNECT_NS", 300 * MS)
        monkeypatch.setattr(loop_module, "_GIVE_UP_S", 0.4)
        with socket.socket() as listener:
            listener.bind((HOST, 0))
            listener.listen(0)
            begin = time.monotonic()
            with closing(Replay(workload(Port(listener.getsockname()[1])))) as replay:
                recording = replay.window(WindowSpec(16, 0.1, max_window_s=0.1, deadline_s=0.3))
            took_s = time.monotonic() - begin
        assert not recording.answered
        assert recording.lost or recording.error_sample
        assert took_s < 3, "not the timeout of one connection after the other"

    def test_the_window_is_given_up_when_the_parent_is_gone(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server:
            begin = time.monotonic()
            with closing(Replay(workload(server), parent=os.getpid())) as replay:
                recording = replay.window(WindowSpec(1, 30.0))
            took_s = time.monotonic() - begin
        assert "process that asked" in recording.lost
        assert took_s < 2


class TestLength:
    def test_a_window_with_too_few_requests_is_lengthened_in_steps_of_half(self) -> None:
        with Server(answers(OK, after_s=0.03)) as server:
            recording = measure(server, WindowSpec(1, 0.1, min_requests=6))
        length_ns = recording.stop_ns - recording.start_ns
        assert len(inside(recording)) >= 6
        assert length_ns >= 5 * 30 * MS
        assert (length_ns - 100 * MS) % (50 * MS) == 0

    def test_but_not_beyond_the_longest_window(self) -> None:
        with Server(answers(OK, after_s=0.03)) as server:
            recording = measure(server, WindowSpec(1, 0.1, min_requests=1000, max_window_s=0.2))
        assert 200 * MS <= recording.stop_ns - recording.start_ns <= 250 * MS
        assert len(inside(recording)) <= 8

    def test_enough_requests_lengthen_nothing(self) -> None:
        with Server(answers(OK, after_s=0.005)) as server:
            recording = measure(server, WindowSpec(2, 0.1, min_requests=4))
        assert recording.stop_ns - recording.start_ns == 100 * MS

    @pytest.mark.parametrize("requests", [1, 8])
    def test_a_smoke_run_sends_one_request_on_each_connection(self, requests: int) -> None:
        with Server(answers(OK, after_s=0.02)) as server:
            recording = measure(server, WindowSpec(requests, 0.0, lead_in_s=0.0, min_requests=requests))
            assert server.requests == requests
        assert recording.answered == requests
        assert not recording.lost
        assert not recording.error_sample

    def test_a_smoke_run_shows_the_error(self) -> None:
        with Server(answers(BUSY)) as server:
            recording = measure(server, WindowSpec(2, 0.0, lead_in_s=0.0, min_requests=2))
            assert server.requests == 2
        assert not recording.answered
        assert recording.error_sample == "HTTP 503: queue is full"

    def test_a_smoke_run_gives_up_a_silent_server(self) -> None:
        with Server(silence) as server:
            begin = time.monotonic()
            recording = measure(server, WindowSpec(2, 0.0, lead_in_s=0.0, min_requests=2, deadline_s=0.15))
            took_s = time.monotonic() - begin
        assert recording.error_sample.startswith("timeout: ")
        assert took_s < 2


def test_times_are_numbers_of_64_bits_and_due_is_sent() -> None:
    with Server(answers(OK)) as server:
        recording = measure(server, WindowSpec(1, 0.05))
    (lane,) = recording.lanes
    assert lane.sent_ns.format == lane.done_ns.format == "q"
    assert lane.due_ns is lane.sent_ns, "nothing can be late in closed loop"
    assert all(time_ns > 0 for time_ns in chain(lane.sent_ns, lane.done_ns))


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
ANNOUNCED: dict[str, Behaviour] = {
    "apart": answers(CONTINUE, OK, pause_s=0.003),
    "together": answers(CONTINUE + OK),
    "twice": answers(CONTINUE, HINTS, OK, pause_s=0.002),
    "in pieces": answers(CONTINUE[:12], CONTINUE[12:] + OK[:20], OK[20:], pause_s=0.002),
    "byte by byte": answers(*(bytes([byte]) for byte in CONTINUE + OK)),
    "now and then": in_turn(answers(OK), answers(CONTINUE + OK), answers(CONTINUE, OK, pause_s=0.003)),
    "before chunks": in_turn(lambda exchange: (exchange.send(CONTINUE), _chunked(exchange))[1]),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("name", ANNOUNCED)
def test_an_announcement_is_not_the_answer(name: str) -> None:
    bodies: set[bytes] = set()

    def check(body: bytes, _headers: Mapping[str, str]) -> str:
        bodies.add(body)
        return ""

    with Server(ANNOUNCED[name]) as server:
        load = workload(server, rotations=[[Request(b"hello", check=check)]])
        recording = measure(server, WindowSpec(2, 0.05, lead_in_s=0.01, min_requests=6, deadline_s=2), load)
        assert recording.answered == server.requests
    assert not recording.errors
    assert bodies == {b"{}"}


def test_the_answer_ends_the_latency_and_not_its_announcement() -> None:
    with Server(answers(CONTINUE, OK, pause_s=0.03)) as server:
        recording = measure(server, WindowSpec(1, 0.15))
    assert min(latencies(recording)) >= 29 * MS


def test_an_error_after_an_announcement_is_an_error() -> None:
    with Server(answers(CONTINUE, BUSY, pause_s=0.002)) as server:
        recording = measure(server, WindowSpec(1, 0.05))
    assert recording.error_sample == "HTTP 503: queue is full"


COMPRESSED = {
    "gzip": gzip.compress(b"model 'x' is not ready"),
    "deflate": zlib.compress(b"model 'x' is not ready"),
}


@pytest.mark.parametrize("coding", COMPRESSED)
def test_a_compressed_error_is_read(coding: str) -> None:
    bad = response(COMPRESSED[coding], "400 Bad Request", f"Content-Encoding: {coding}")
    with Server(answers(bad)) as server:
        recording = measure(server, WindowSpec(1, 0.05))
    assert recording.error_sample == "HTTP 400: model 'x' is not ready"


def test_a_compressed_error_that_is_damaged_or_endless_is_still_an_error() -> None:
    damaged = response(b"\x1f\x8bnonsense", "400 Bad Request", "Content-Encoding: gzip")
    bomb = response(gzip.compress(bytes(50_000_000)), "400 Bad Request", "Content-Encoding: gzip")
    for bad, words in ((damaged, "can't be read"), (bomb, "")):
        with Server(answers(bad)) as server:
            recording = measure(server, WindowSpec(1, 0.05))
        assert recording.errors.keys() == {"HTTP 400"}
        assert words in recording.error_sample
        assert len(recording.error_sample) < 10_000


class TestCheck:
    """What comes with a good status is held against what was expected."""

    @staticmethod
    def expecting(server: Server, expected: bytes) -> WireWorkload:
        def check(body: bytes, _headers: Mapping[str, str]) -> str:
            return "" if body == expected else f"{body[:20]!r} is not {expected[:20]!r}"

        return workload(server, rotations=[[Request(b"hello", check=check)]])

    @pytest.mark.parametrize("name", GOOD)
    def test_sees_the_whole_body_whatever_its_framing(self, name: str) -> None:
        lengths: set[int] = set()

        def check(body: bytes, _headers: Mapping[str, str]) -> str:
            lengths.add(len(body))
            return "" if len(set(body)) <= 2 else "mixed up"

        with Server(GOOD[name]) as server:
            load = workload(server, rotations=[[Request(b"hello", check=check)]])
            recording = measure(server, WindowSpec(2, 0.05, lead_in_s=0.01, min_requests=6, deadline_s=2), load)
            assert recording.answered == server.requests
        assert not recording.errors
        expected = {
            "lengths alternate": {1, 2000},
            "lengths alternate in pieces": {300, 100},
            "1 MB": {1_000_000},
            "1 MB and 2 bytes": {1_000_000, 2},
            "no body": {0},
        }
        assert lengths == expected.get(name, {2})

    def test_a_wrong_answer_is_counted_and_never_a_latency(self) -> None:
        with Server(in_turn(answers(OK), answers(OK), answers(response(b"[]")))) as server:
            recording = measure(server, WindowSpec(1, 0.3, lead_in_s=0.0), self.expecting(server, b"{}"))
            assert recording.answered == server.requests - server.requests // 3
            assert server.connections == 1, "the connection is still good"
        assert recording.errors.keys() == {"wrong answer"}
        assert recording.error_sample == "wrong answer: b'[]' is not b'{}'"

    def test_an_answer_of_the_same_length_and_head_is_looked_at(self) -> None:
        right, wrong = response(b"a" * 5000), response(b"a" * 4999 + b"b")
        with Server(in_turn(answers(right), answers(wrong))) as server:
            recording = measure(server, WindowSpec(1, 0.3, lead_in_s=0.0), self.expecting(server, b"a" * 5000))
            assert recording.answered == (server.requests + 1) // 2
        assert recording.errors.keys() == {"wrong answer"}

    def test_a_failed_request_is_not_checked(self) -> None:
        with Server(answers(BUSY)) as server:
            recording = measure(server, WindowSpec(1, 0.05), self.expecting(server, b"queue is full"))
        assert recording.errors.keys() == {"HTTP 503"}

    def test_sees_the_headers_of_its_own_answer_in_lower_case(self) -> None:
        def behave(exchange: Exchange) -> None:
            body = b"%06d" % exchange.number
            exchange.send(response(body, "200 OK", f"X-Half: {exchange.number // 2 % 2}"))

        seen: list[tuple[int, str]] = []

        def check(body: bytes, headers: Mapping[str, str]) -> str:
            seen.append((int(body), headers["x-half"]))
            return ""

        with Server(behave) as server:
            measure(server, WindowSpec(1, 0.1), workload(server, rotations=[[Request(b"x", check=check)]]))
        assert len(seen) > 8
        assert all(half == str(number // 2 % 2) for number, half in seen)

    def test_an_answer_in_pieces_keeps_its_own_head_when_another_connection_learns_a_new_one(self) -> None:
        def behave(exchange: Exchange) -> None:
            body, pause_s = (b"a" * 20_000, 0.004) if exchange.connection == 0 else (b"b", 0.0)
            answer = response(body, "200 OK", f"X-Body: {len(body)}")
            exchange.send(answer[:10_000], answer[10_000:], pause_s=pause_s)
            time.sleep(0.001)

        def check(body: bytes, headers: Mapping[str, str]) -> str:
            right = len(set(body)) == 1 and int(headers["x-body"]) == len(body)
            return "" if right else f"{len(body)} bytes that begin with {body[:8]!r}, X-Body {headers['x-body']}"

        with Server(behave) as server:
            load = workload(server, rotations=[[Request(b"x", check=check)]])
            recording = measure(server, WindowSpec(2, 0.3), load)
            assert server.requests > 20
        assert recording.error_sample == ""

    def test_a_wrong_answer_before_the_connection_closes(self) -> None:
        with Server(GOOD["closes after each"]) as server:
            recording = measure(server, WindowSpec(1, 0.1), self.expecting(server, b"[]"))
        assert recording.errors.keys() == {"wrong answer"}
        assert not recording.answered


@pytest.mark.parametrize("name", ["Host", "host", "HOST"])
def test_a_host_of_the_users_own_is_the_only_one(name: str) -> None:
    with Server(answers(OK)) as server:
        measure(server, WindowSpec(1, 0.05), workload(server, headers=[(name, "model.example")]))
        (request,) = server.seen
    hosts = [line for line in request.split(b"\r\n") if line.lower().startswith(b"host:")]
    assert [line.lower() for line in hosts] == [b"host: model.example"]


def test_a_length_of_the_users_own_is_not_sent() -> None:
    # Or the server would take the rest of the body for the next request.
    with Server(answers(OK)) as server:
        measure(server, WindowSpec(1, 0.05), workload(server, headers=[("content-length", "3")]))
        assert server.seen == {request_bytes(server)}


def test_each_address_has_its_path_and_all_have_the_users_host() -> None:
    addresses = (Address("a", 8000), Address("b", 8000, prefix="/triton"))
    sent = WireWorkload("http", addresses, "/v2/models/m/infer", ((Request(b"{}"),),), (("host", "m.example.test"),))
    for address in addresses:
        data = prepare(sent, address, Request(b"{}")).data
        assert data is not None
        head = data.split(b"\r\n")
        assert head[0] == f"POST {address.prefix}/v2/models/m/infer HTTP/1.1".encode()
        assert [line for line in head if line.lower().startswith(b"host:")] == [b"Host: m.example.test"]
