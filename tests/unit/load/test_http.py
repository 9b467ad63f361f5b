from __future__ import annotations

import os
import socket
import time
from contextlib import closing
from itertools import chain

import pytest

from pytest_gpuperf.load import Recording, WindowSpec
from pytest_gpuperf.load import http as http_module
from pytest_gpuperf.load.http import HttpLoop
from tests.unit.load.hostile import (
    HOST,
    WIRE,
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

MS = 1_000_000
OK = response()
LARGE = response(bytes(1_000_000))
BUSY = response(b"queue is full", "503 Service Unavailable")
# More than the kernel takes at once (tcp_wmem, 4 MB by default).
LARGE_HEAD, LARGE_BODY = b"POST /infer HTTP/1.1\r\nHost: test\r\nContent-Length: 8000000\r\n\r\n", b"x" * 8_000_000


def measure(server: Server, spec: WindowSpec, wire: bytes = WIRE) -> Recording:
    with closing(HttpLoop(HOST, server.port)) as loop:
        return loop.window(wire, spec)


def latencies(recording: Recording) -> list[int]:
    return [done - sent for sent, done in zip(recording.sent_ns, recording.done_ns, strict=True)]


def sent_inside(recording: Recording) -> list[int]:
    return [sent for sent in recording.sent_ns if recording.start_ns <= sent < recording.stop_ns]


def outstanding(recording: Recording) -> float:
    """Mean number of requests in flight during the window."""
    start, stop = recording.start_ns, recording.stop_ns
    lives = (
        min(done, stop) - max(sent, start) for sent, done in zip(recording.sent_ns, recording.done_ns, strict=True)
    )
    return sum(max(life, 0) for life in lives) / (stop - start)


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
            assert len(recording.sent_ns) == len(recording.done_ns) == server.requests
        assert list(recording.done_ns) == sorted(recording.done_ns)

    def test_has_room_for_more_requests_than_it_allocated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_module, "_PREALLOCATED", 4)
        with Server(answers(OK, after_s=0.001)) as server:
            recording = measure(server, WindowSpec(2, 0.1))
            assert len(recording.done_ns) == server.requests > 16
        assert all(latency >= MS for latency in latencies(recording))

    def test_the_window_is_as_long_as_asked_and_begins_after_the_lead_in(self) -> None:
        with Server(answers(OK, after_s=0.005)) as server:
            recording = measure(server, WindowSpec(2, 0.15, lead_in_s=0.1))
        assert recording.stop_ns - recording.start_ns == 150 * MS
        assert recording.start_ns - min(recording.sent_ns) >= 99 * MS

    def test_the_window_begins_after_every_connection_was_answered(self) -> None:
        def behave(exchange: Exchange) -> None:
            time.sleep(0.2 if exchange.connection == 2 else 0.005)
            exchange.send(OK)

        with Server(behave) as server:
            recording = measure(server, WindowSpec(3, 0.1, lead_in_s=0.01))
        assert recording.start_ns - min(recording.sent_ns) >= 200 * MS

    def test_requests_sent_in_the_window_are_followed_to_their_end_under_load(self) -> None:
        with Server(answers(OK, after_s=0.1)) as server:
            recording = measure(server, WindowSpec(2, 0.12))
            assert len(recording.done_ns) == server.requests
        inside = sent_inside(recording)
        assert inside
        assert max(recording.done_ns) >= recording.stop_ns
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
        with Server(answers(OK, after_s=0.002)) as server, closing(HttpLoop(HOST, server.port)) as loop:
            for concurrency in (4, 1, 2, 4):
                server.at_once = 0
                recording = loop.window(WIRE, WindowSpec(concurrency, 0.05))
                assert server.at_once == concurrency
                assert not recording.errors
            assert server.connections == 4

    def test_an_idle_connection_that_the_server_closed_adds_no_load(self) -> None:
        with (
            Server(answers(OK, after_s=0.01), idle_s=0.1) as server,
            closing(HttpLoop(HOST, server.port)) as loop,
        ):
            loop.window(WIRE, WindowSpec(4, 0.05))
            server.at_once = 0
            recording = loop.window(WIRE, WindowSpec(1, 0.3))
            assert server.at_once == 1
        assert outstanding(recording) <= 1

    def test_connections_closed_between_windows_are_no_errors_of_the_next(self) -> None:
        with (
            Server(answers(OK, after_s=0.005), idle_s=0.1) as server,
            closing(HttpLoop(HOST, server.port)) as loop,
        ):
            loop.window(WIRE, WindowSpec(2, 0.05))
            time.sleep(0.2)
            recording = loop.window(WIRE, WindowSpec(2, 0.1))
        assert sent_inside(recording)
        assert not recording.errors

    def test_the_wire_reaches_the_server_byte_for_byte(self) -> None:
        with Server(answers(OK)) as server:
            measure(server, WindowSpec(2, 0.1))
            assert server.seen == {WIRE}

    def test_another_wire_in_the_next_window(self) -> None:
        other = b"GET /ready HTTP/1.1\r\nHost: test\r\n\r\n"
        with Server(answers(OK)) as server, closing(HttpLoop(HOST, server.port)) as loop:
            loop.window(WIRE, WindowSpec(1, 0.05))
            server.seen.clear()
            loop.window(other, WindowSpec(1, 0.05))
            assert server.seen == {other}

    def test_large_requests_arrive_whole_though_they_need_several_sends(self) -> None:
        with Server(answers(OK), receive_bytes=1 << 16) as server:
            recording = measure(server, WindowSpec(2, 0.15), LARGE_HEAD + LARGE_BODY)
            assert server.seen == {LARGE_HEAD + LARGE_BODY}
            assert len(recording.done_ns) == server.requests
        assert not recording.errors

    def test_an_answer_before_the_request_was_read_does_not_garble_the_next_one(self) -> None:
        with Server(answers(OK), receive_bytes=1 << 16, early=True) as server:
            measure(server, WindowSpec(1, 0.3, deadline_s=0.5), LARGE_HEAD + LARGE_BODY)
            assert server.seen <= {LARGE_HEAD, LARGE_HEAD + LARGE_BODY}

    def test_takes_no_more_cpu_time_than_there_was(self) -> None:
        with Server(answers(OK, after_s=0.01)) as server:
            recording = measure(server, WindowSpec(1, 0.2))
        assert 0 < recording.cpu_s < 0.2
        assert recording.lane_count == 1


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
        assert len(recording.done_ns) == server.requests
    assert len(sent_inside(recording)) > 2
    assert not recording.errors
    assert not recording.error_sample
    assert min(latencies(recording)) > 0


def test_lengths_on_other_connections_change_nothing() -> None:
    long = response(b"x" * 1000)
    slow, quick = answers(long[:500], long[500:], pause_s=0.02), answers(OK, after_s=0.005)
    with Server(lambda exchange: (quick if exchange.connection else slow)(exchange)) as server:
        recording = measure(server, WindowSpec(2, 0.2, deadline_s=1))
        assert len(recording.done_ns) == server.requests
    assert not recording.errors
    assert min(latencies(recording)) >= 5 * MS


def test_the_last_byte_ends_the_latency() -> None:
    body = bytes(5000)
    with Server(answers(response(body)[:3000], response(body)[3000:], pause_s=0.03)) as server:
        recording = measure(server, WindowSpec(1, 0.2))
    assert len(recording.done_ns) > 2
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
    "two answers": ("bad response", _two_answers),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_is_a_typed_error_in_time_and_never_a_latency(name: str) -> None:
    kind, behave = HOSTILE[name]
    with Server(behave) as server:
        begin = time.monotonic()
        recording = measure(server, WindowSpec(2, 0.1, lead_in_s=0.01, deadline_s=0.15))
        took_s = time.monotonic() - begin
    assert not len(recording.done_ns)
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
        "two answers",
    ],
)
def test_hostile_answers_between_good_ones_are_told_apart(name: str) -> None:
    kind, behave = HOSTILE[name]
    with Server(in_turn(answers(OK), behave, answers(OK))) as server:
        recording = measure(server, WindowSpec(1, 0.12, lead_in_s=0.0, min_requests=6))
        bad = (server.requests + 1) // 3
        assert len(recording.done_ns) == server.requests - bad
    assert recording.errors.keys() == {kind}


def test_a_body_that_only_ends_with_the_connection_is_an_error() -> None:
    with Server(_without_length) as server:
        recording = measure(server, WindowSpec(1, 0.1))
    assert not len(recording.done_ns)
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
        assert len(recording.done_ns) <= (server.requests + 1) // 2
    assert recording.errors.keys() == {"HTTP 503"}


def test_a_shorter_good_answer_in_pieces_is_answered_in_time() -> None:
    first, second = response(b"x" * 400), response(b"y" * 4)
    with Server(in_turn(answers(first), answers(second[:9], second[9:], pause_s=0.005))) as server:
        recording = measure(server, WindowSpec(1, 0.3, deadline_s=0.5))
        assert len(recording.done_ns) == server.requests
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
        assert len(recording.done_ns) == server.requests - 4
    assert not recording.errors, "they were before the window"
    assert recording.error_sample.startswith("connection reset")


def test_one_bad_connection_does_not_hold_up_the_others() -> None:
    def behave(exchange: Exchange) -> None:
        if exchange.number == 1:
            silence(exchange)
        time.sleep(0.002)
        exchange.send(OK)

    with Server(behave) as server:
        recording = measure(server, WindowSpec(3, 0.1, lead_in_s=0.0, deadline_s=0.3))
    assert recording.errors == {"timeout": 1}
    assert len(sent_inside(recording)) > 10


class TestGoneServer:
    def test_nothing_listening_is_given_up(self) -> None:
        with socket.socket() as unused:
            unused.bind((HOST, 0))
            port = unused.getsockname()[1]
            begin = time.monotonic()
            with closing(HttpLoop(HOST, port)) as loop:
                recording = loop.window(WIRE, WindowSpec(3, 30.0))
            took_s = time.monotonic() - begin
        assert f"{HOST}:{port}" in recording.lost
        assert recording.errors.keys() == {"connection refused"}
        assert not len(recording.done_ns)
        assert 1.9 < took_s < 4

    def test_a_server_that_dies_ends_the_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_module, "_GIVE_UP_S", 0.3)

        def behave(exchange: Exchange) -> None:
            if exchange.number == 20:
                server.die()
            time.sleep(0.005)
            exchange.send(OK)

        with Server(behave) as server, closing(HttpLoop(HOST, server.port)) as loop:
            begin = time.monotonic()
            recording = loop.window(WIRE, WindowSpec(2, 30.0))
            took_s = time.monotonic() - begin
            assert 10 < len(recording.done_ns) <= 21
        assert recording.lost
        assert recording.start_ns < recording.stop_ns <= time.monotonic_ns()
        assert recording.errors.keys() <= {"connection closed", "connection reset", "connection refused"}
        assert "connection refused" in recording.errors
        assert min(latencies(recording)) >= 5 * MS
        assert took_s < 6

    def test_a_lost_loop_works_again_when_the_server_is_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_module, "_GIVE_UP_S", 0.3)
        with Server(answers(OK, after_s=0.002)) as server:
            port = server.port
        with closing(HttpLoop(HOST, port)) as loop:
            assert loop.window(WIRE, WindowSpec(2, 10.0)).lost
            with Server(answers(OK, after_s=0.002), port=port) as server:
                recording = loop.window(WIRE, WindowSpec(2, 0.2))
                assert len(recording.done_ns) == server.requests > 10
        assert not recording.lost
        assert not recording.errors

    def test_a_restart_within_the_patience_is_survived(self) -> None:
        with Server(answers(OK)) as server:
            port = server.port
        with closing(HttpLoop(HOST, port)) as loop, Server(answers(OK, after_s=0.002), port=port) as server:
            loop.window(WIRE, WindowSpec(1, 0.1))
            server.die()
            with Server(answers(OK, after_s=0.002), port=port):
                recording = loop.window(WIRE, WindowSpec(1, 0.2))
        assert not recording.lost
        assert sent_inside(recording)

    def test_a_full_backlog_is_given_up_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_module, "_CONNECT_S", 0.3)
        monkeypatch.setattr(http_module, "_GIVE_UP_S", 0.4)
        with socket.socket() as listener:
            listener.bind((HOST, 0))
            listener.listen(0)
            begin = time.monotonic()
            with closing(HttpLoop(HOST, listener.getsockname()[1])) as loop:
                recording = loop.window(WIRE, WindowSpec(16, 0.1, max_window_s=0.1, deadline_s=0.3))
            took_s = time.monotonic() - begin
        assert not len(recording.done_ns)
        assert recording.lost or recording.errors
        assert took_s < 3, "not the timeout of one connection after the other"

    def test_the_window_is_given_up_when_the_parent_is_gone(self) -> None:
        with Server(answers(OK, after_s=0.002)) as server:
            begin = time.monotonic()
            with closing(HttpLoop(HOST, server.port, parent=os.getpid())) as loop:
                recording = loop.window(WIRE, WindowSpec(1, 30.0))
            took_s = time.monotonic() - begin
        assert "process that asked" in recording.lost
        assert took_s < 2


class TestLength:
    def test_a_window_with_too_few_requests_is_lengthened_in_steps_of_half(self) -> None:
        with Server(answers(OK, after_s=0.03)) as server:
            recording = measure(server, WindowSpec(1, 0.1, min_requests=6))
        length_ns = recording.stop_ns - recording.start_ns
        assert len(sent_inside(recording)) >= 6
        assert length_ns >= 5 * 30 * MS
        assert (length_ns - 100 * MS) % (50 * MS) == 0

    def test_but_not_beyond_the_longest_window(self) -> None:
        with Server(answers(OK, after_s=0.03)) as server:
            recording = measure(server, WindowSpec(1, 0.1, min_requests=1000, max_window_s=0.2))
        assert 200 * MS <= recording.stop_ns - recording.start_ns <= 250 * MS
        assert len(sent_inside(recording)) <= 8

    def test_enough_requests_lengthen_nothing(self) -> None:
        with Server(answers(OK, after_s=0.005)) as server:
            recording = measure(server, WindowSpec(2, 0.1, min_requests=4))
        assert recording.stop_ns - recording.start_ns == 100 * MS

    @pytest.mark.parametrize("requests", [1, 8])
    def test_a_smoke_run_sends_one_request_on_each_connection(self, requests: int) -> None:
        with Server(answers(OK, after_s=0.02)) as server:
            recording = measure(server, WindowSpec(requests, 0.0, lead_in_s=0.0, min_requests=requests))
            assert server.requests == requests
        assert len(recording.done_ns) == requests
        assert not recording.lost
        assert not recording.error_sample

    def test_a_smoke_run_shows_the_error(self) -> None:
        with Server(answers(BUSY)) as server:
            recording = measure(server, WindowSpec(2, 0.0, lead_in_s=0.0, min_requests=2))
            assert server.requests == 2
        assert not len(recording.done_ns)
        assert recording.error_sample == "HTTP 503: queue is full"

    def test_a_smoke_run_gives_up_a_silent_server(self) -> None:
        with Server(silence) as server:
            begin = time.monotonic()
            recording = measure(server, WindowSpec(2, 0.0, lead_in_s=0.0, min_requests=2, deadline_s=0.15))
            took_s = time.monotonic() - begin
        assert recording.error_sample.startswith("timeout: ")
        assert took_s < 2


def test_times_are_arrays_of_64_bits() -> None:
    with Server(answers(OK)) as server:
        recording = measure(server, WindowSpec(1, 0.05))
    assert recording.sent_ns.typecode == recording.done_ns.typecode == "q"
    assert all(time_ns > 0 for time_ns in chain(recording.sent_ns, recording.done_ns))
