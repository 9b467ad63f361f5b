from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import pytest

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load.http2_connection import Http2Connection
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.model import GRPC_STREAM, Constant, Request, StreamAnswer, WireWorkload
from tests.unit.load.hostile_h2 import (
    END_STREAM,
    HEAD,
    INITIAL_WINDOW,
    PING,
    Behaviour,
    Call,
    Driver,
    Server,
    ask,
    assert_true_times,
    block,
    data_frames,
    drive,
    end,
    frame,
    goaway,
    head,
    impatient,  # noqa: F401 - a fixture
    latencies,
    message,
    never,
    rst_stream,
    settings,
    status_block,
    when_exhausted,
)
from tests.unit.load.hostile_h2 import workload as unary

pytestmark = pytest.mark.usefixtures("impatient")

MS = 1_000_000
MORE, LAST, EMPTY, ERROR = message(b"more"), message(b"last"), message(b"empty"), message(b"error")

ENDS: dict[str, tuple[Callable[[int], bytes], str]] = {
    "status": (lambda n: head(n) + end(n, status_block("14", "gone")), "gRPC UNAVAILABLE: gone"),
    "trailers only": (lambda n: end(n, HEAD + status_block("12")), "gRPC UNIMPLEMENTED: "),
    "a good status": (lambda n: head(n) + end(n), "stream ended: "),
    "a good status after an answer": (lambda n: head(n) + data_frames(n, MORE) + end(n), "stream ended: "),
    "no status": (lambda n: head(n) + data_frames(n, LAST, END_STREAM), "bad response: "),
    "reset": (lambda n: head(n) + rst_stream(n, 8), "RST_STREAM CANCEL: "),
    "goaway": (lambda _: goaway(0, 0), "GOAWAY NO_ERROR: "),
    "a proxy": (lambda n: head(n, block([(":status", "503")])), "HTTP 503: "),
    "noise": (lambda n: head(n) + data_frames(n, b"\x01\0\0\0\x02no"), "bad response: "),
}


def read_stream(body: bytes) -> StreamAnswer:
    """A protocol of four words."""
    if body not in (b"more", b"last", b"empty"):
        return StreamAnswer(last=True, error=f"it said {body!r}")
    return StreamAnswer(last=body != b"more", empty=body == b"empty")


def workload(server: Server, body: bytes = b"request", **settings_: Any) -> WireWorkload:
    return unary(server, body, protocol=GRPC_STREAM, read_stream=read_stream, **settings_)


def begin(call: Call) -> bytes:
    """The answer's head, before the first message of a stream."""
    first = call.peer.begun != call.stream
    call.peer.begun = call.stream
    return head(call.stream) if first else b""


def says(*messages: bytes, pause_s: float = 0.0) -> Behaviour:
    """Every request gets these answers, in packets of their own."""

    def behave(call: Call) -> None:
        pieces = [data_frames(call.stream, message) for message in messages]
        pieces[0] = begin(call) + pieces[0]
        call.answer(*pieces, pause_s=pause_s)

    return behave


def first_then_good(first: Callable[[Call], None]) -> Behaviour:
    good = says(LAST)

    def behave(call: Call) -> None:
        (good if call.number else first)(call)

    return behave


class TestAnswers:
    def test_one_to_each_request_over_one_stream(self) -> None:
        streams = []

        def behave(call: Call) -> None:
            streams.append(call.stream)
            says(LAST)(call)

        with Server(behave) as server:
            recording = ask(workload(server), 5)
            assert_true_times(recording, server.good)
            assert server.connections == 1
        (lane,) = recording.lanes
        assert streams == [1] * 5
        assert lane.answers is not None
        assert lane.first_ns is not None
        assert list(lane.answers) == [1] * 5
        assert list(lane.first_ns) == list(lane.done_ns)

    def test_first_answers_are_timed(self) -> None:
        with Server(says(MORE, MORE, LAST, pause_s=0.01)) as server:
            recording = ask(workload(server), 5)
            assert_true_times(recording, server.good)
        (lane,) = recording.lanes
        assert lane.answers is not None
        assert lane.first_ns is not None
        assert list(lane.answers) == [3] * 5
        assert all(
            sent < first <= done for sent, first, done in zip(lane.sent_ns, lane.first_ns, lane.done_ns, strict=True)
        )
        # Not each: the first may reach us late.
        assert max(done - first for first, done in zip(lane.first_ns, lane.done_ns, strict=True)) >= 10 * MS

    def test_the_empty_last_one_is_no_answer_but_ends_the_request(self) -> None:
        with Server(says(MORE, MORE, EMPTY, pause_s=0.005)) as server:
            recording = ask(workload(server), 3)
            assert_true_times(recording, server.good)
        (lane,) = recording.lanes
        assert lane.answers is not None
        assert lane.first_ns is not None
        assert list(lane.answers) == [2] * 3
        assert any(first < done for first, done in zip(lane.first_ns, lane.done_ns, strict=True))

    def test_nothing_but_the_empty_last_one(self) -> None:
        with Server(says(EMPTY)) as server:
            recording = ask(workload(server), 2)
        (lane,) = recording.lanes
        assert lane.answers is not None
        assert lane.first_ns is not None
        assert list(lane.answers) == [0, 0]
        assert list(lane.first_ns) == list(lane.done_ns)

    def test_many_in_one_packet_and_one_in_many(self) -> None:
        def behave(call: Call) -> None:
            content = MORE * 99 + LAST
            whole = begin(call)
            if call.number % 2:
                call.answer(whole + data_frames(call.stream, content, size=len(content)))
            else:
                whole += data_frames(call.stream, content, size=7)
                call.answer(*(whole[at : at + 97] for at in range(0, len(whole), 97)))

        with Server(behave) as server:
            recording = ask(workload(server), 4)
            assert_true_times(recording, server.good)
            server.breaches.clear()  # the books don't follow packets that part in a frame
        (lane,) = recording.lanes
        assert lane.answers is not None
        assert list(lane.answers) == [100] * 4

    def test_the_head_may_come_before_any_request_was_read(self) -> None:
        def behave(call: Call) -> None:
            call.send(head(call.stream))
            call.wait(lambda: call.peer.received(call.stream) == 12)
            call.answer(data_frames(call.stream, LAST))

        with Server(behave, early=True) as server:
            recording = ask(workload(server))
            assert_true_times(recording, server.good)

    def test_many_streams_at_once(self) -> None:
        with Server(says(MORE, LAST)) as server:
            recording = drive(workload(server), WindowSpec(4, 0.2))
            assert len(latencies(recording)) == len(server.good) == server.requests
            assert server.connections == 4
        assert not recording.errors

    def test_checks_see_every_answer_that_has_something(self) -> None:
        seen = []

        def check(body: bytes, _headers: Mapping[str, str]) -> str:
            seen.append(body)
            return ""

        with Server(says(MORE, EMPTY)) as server:
            ask(workload(server, check=check), 2)
        assert seen == [b"more", b"more"]

    def test_compressed_ones_are_unpacked(self) -> None:
        packed = message(gzip.compress(b"last"), compressed=True)

        def behave(call: Call) -> None:
            first = head(call.stream, HEAD + block([("grpc-encoding", "gzip")])) if call.number == 0 else b""
            call.answer(first + data_frames(call.stream, packed))

        with Server(behave) as server:
            recording = ask(workload(server), 2)
            assert_true_times(recording, server.good)

    @pytest.mark.parametrize("size", [16_379, 16_380, 600_000])
    def test_large_requests_follow_each_other_on_a_stream(self, size: int) -> None:
        seen = set()

        def behave(call: Call) -> None:
            seen.add(call.body)
            says(LAST)(call)

        bodies = bytes(size), b"x" * size
        with Server(behave, replenish=when_exhausted(100_000)) as server:
            rotation = tuple(Request(body) for body in bodies)
            recording = ask(workload(server, rotations=(rotation,)), 4)
            assert_true_times(recording, server.good)
            assert server.connections == 1
        assert seen == set(bodies)

    def test_the_streams_window_lasts_for_all_its_requests(self) -> None:
        with Server(
            says(LAST), greeting=settings((INITIAL_WINDOW, 30_000)), replenish=when_exhausted(30_000)
        ) as server:
            recording = ask(workload(server, bytes(10_000)), 20)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    def test_our_windows_are_widened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Http2Connection, "REPLENISH", 1000)
        with Server(says(*[MORE] * 99, LAST)) as server:
            recording = ask(workload(server), 8)
            assert_true_times(recording, server.good)
            assert 6000 < server.peers[0].updates[1] <= 8 * 900


class TestErrors:
    def test_an_answer_that_says_so(self) -> None:
        with Server(first_then_good(lambda call: call.send(begin(call) + data_frames(1, ERROR)))) as server:
            recording = ask(workload(server), 2)
            assert recording.errors == {"stream error": 1}
            assert "it said b'error'" in recording.error_sample
            assert_true_times(recording, server.good)

    def test_after_some_good_answers(self) -> None:
        with Server(first_then_good(lambda call: call.send(begin(call) + data_frames(1, MORE * 3 + ERROR)))) as server:
            recording = ask(workload(server), 2)
            assert recording.errors == {"stream error": 1}
            assert_true_times(recording, server.good)
        (lane,) = recording.lanes
        assert lane.answers is not None
        assert list(lane.answers) == [1]

    def test_a_wrong_answer_before_the_last(self) -> None:
        def check(body: bytes, _headers: Mapping[str, str]) -> str:
            return "not that" if body == b"more" else ""

        with Server(first_then_good(lambda call: call.send(begin(call) + data_frames(1, MORE + LAST)))) as server:
            recording = ask(workload(server, check=check), 2)
            assert recording.errors == {"wrong answer": 1}
            assert_true_times(recording, server.good)

    @pytest.mark.parametrize("case", ENDS)
    def test_the_server_ends_the_stream(self, case: str) -> None:
        make, sample = ENDS[case]
        with Server(first_then_good(lambda call: call.send(make(call.stream)))) as server:
            recording = ask(workload(server), 3)
            assert recording.errors == {sample.split(":")[0]: 1}
            assert recording.error_sample.startswith(sample)
            assert_true_times(recording, server.good)

    @pytest.mark.parametrize("case", ["status", "a good status", "reset"])
    def test_the_next_request_opens_another_stream(self, case: str) -> None:
        make, _ = ENDS[case]
        streams = []

        def behave(call: Call) -> None:
            streams.append(call.stream)
            (call.send(make(call.stream)) if call.number == 0 else says(LAST)(call))

        with Server(behave) as server:
            recording = ask(workload(server), 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1
        assert streams == [1, 3, 3]

    @pytest.mark.parametrize("reset", [False, True])
    def test_the_connection_ends_in_a_stream(self, reset: bool) -> None:
        def first(call: Call) -> None:
            call.send(begin(call) + data_frames(1, MORE))
            call.reset() if reset else call.hang_up()

        with Server(first_then_good(first)) as server:
            recording = ask(workload(server), 2)
            assert set(recording.errors) <= {"connection closed", "connection reset"}
            assert len(latencies(recording)) == 1

    def test_silence_is_a_timeout(self) -> None:
        with Server(first_then_good(lambda call: call.send(begin(call) + data_frames(1, MORE)))) as server:
            recording = ask(workload(server), 2, deadline_s=0.3)
            assert recording.errors == {"timeout": 1}
            assert len(latencies(recording)) == 1

    def test_answered_before_the_whole_request_was_sent(self) -> None:
        def behave(call: Call) -> None:
            call.send(head(call.stream) + data_frames(call.stream, LAST))
            call.wait(lambda: False)

        with Server(behave, early=True, replenish=never) as server:
            recording = ask(workload(server, bytes(600_000)), 2)
        assert recording.errors == {"untimely answer": 2}
        assert "before it had received the request" in recording.error_sample


class TestUnaskedAnswers:
    """Nothing says which request an answer belongs to, so one too many puts a stream out of step."""

    @pytest.mark.parametrize("more", [LAST, LAST[:3], MORE + LAST])
    def test_in_the_same_frame(self, more: bytes) -> None:
        with Server(first_then_good(lambda call: call.send(begin(call) + data_frames(1, LAST + more)))) as server:
            recording = ask(workload(server), 2)
            assert recording.errors == {"untimely answer": 2}
            assert not recording.answered
            assert server.connections == 2

    @pytest.mark.parametrize("more", [LAST, LAST[:3], b"\0"])
    def test_in_the_same_packet(self, more: bytes) -> None:
        def first(call: Call) -> None:
            call.send(begin(call) + data_frames(1, LAST) + data_frames(1, more))

        with Server(first_then_good(first)) as server:
            recording = ask(workload(server), 3)
            # The second, already on its way, was given up; and no other answer can be believed.
            assert recording.errors == {"untimely answer": 3}
            assert "before the request was sent" in recording.error_sample
            assert not recording.answered

    def test_while_idle(self) -> None:
        with Server(says(LAST)) as server:
            load = workload(server)
            with closing(Loop(load)) as loop:
                driver = Driver(loop, load)
                driver.window(WindowSpec(2, 0.05))
                for peer in server.peers:
                    peer.send(data_frames(1, MORE[:4]))
                time.sleep(0.05)
                recording = driver.window(WindowSpec(2, 0.0, min_requests=8))
                assert server.connections == 4
        assert recording.errors == {"untimely answer": 8}
        assert not recording.answered

    @pytest.mark.parametrize(
        "last",
        [rst_stream(1, 8), end(1), end(1, status_block("4")), goaway(2**31 - 1)],
        ids=["reset", "end", "error", "goaway"],
    )
    def test_an_idle_stream_that_ends_is_no_error(self, last: bytes) -> None:
        streams = []

        def behave(call: Call) -> None:
            streams.append((call.peer.number, call.stream))
            says(LAST)(call)

        with Server(behave) as server:
            load = workload(server)
            with closing(Loop(load)) as loop:
                driver = Driver(loop, load)
                driver.window(WindowSpec(2, 0.05))
                used = set(streams)
                streams.clear()
                for peer in server.peers:
                    peer.send(last + frame(PING, 0, 0, bytes(8)))
                time.sleep(0.05)
                recording = driver.window(WindowSpec(2, 0.0, min_requests=8, deadline_s=5))
        assert not used & set(streams)
        assert not recording.errors
        assert len(latencies(recording)) == 8

    def test_in_open_loop(self) -> None:
        """There, connections are idle between requests."""

        def behave(call: Call) -> None:
            says(LAST)(call)
            if call.number % 3 == 0:
                time.sleep(0.001)
                call.send(data_frames(call.stream, LAST))

        with Server(behave) as server:
            spec = WindowSpec(0, 0.5, arrivals=Constant(40), deadline_s=5)
            recording = drive(workload(server), spec)
        assert recording.errors.keys() == {"untimely answer"}
        assert not recording.answered


def test_goaway_lets_the_request_in_flight_finish() -> None:
    def behave(call: Call) -> None:
        call.send(begin(call) + data_frames(call.stream, MORE))
        if call.number % 2:
            call.send(goaway(2**31 - 1))
        call.answer(data_frames(call.stream, LAST))

    with Server(behave) as server:
        recording = ask(workload(server), 6)
        assert_true_times(recording, server.good)
        assert server.connections == 3
    assert not recording.errors
