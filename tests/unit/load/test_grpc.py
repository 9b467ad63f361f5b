from __future__ import annotations

import gzip
import random
import socket
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing

import pytest
from hpack import Decoder, Encoder

from pytest_gpuperf.errors import LoadError
from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.load import grpc as grpc_module
from pytest_gpuperf.load.connection import BadResponse
from pytest_gpuperf.load.grpc_request import decode
from pytest_gpuperf.load.http2_connection import Http2Connection
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.model import Constant, Request
from tests.unit.load.hostile_h2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEAD_PAIRS,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    OK,
    PADDED,
    PATH,
    PING,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    SETTINGS,
    WINDOW_UPDATE,
    Behaviour,
    Call,
    Driver,
    Server,
    answer,
    ask,
    assert_true_times,
    block,
    closes_at_once,
    data_frames,
    drive,
    end,
    frame,
    goaway,
    head,
    huffman_block,
    impatient,  # noqa: F401 - a fixture
    latencies,
    message,
    never,
    rst_stream,
    settings,
    status_block,
    when_exhausted,
    window_update,
    workload,
)
from tests.unit.load.listening import HOST

MS = 1_000_000

pytestmark = pytest.mark.usefixtures("impatient")
BIG = bytes(600_000)
PRIORITY_FIELDS = b"\0\0\0\0\x10"
BUSY = status_block("8")


FORMS: dict[str, Callable[[int], bytes]] = {
    "continuation": lambda n: (
        head(n, HEAD[:1], flags=0)
        + b"".join(frame(CONTINUATION, 0, n, HEAD[at : at + 1]) for at in range(1, len(HEAD)))
        + frame(CONTINUATION, END_HEADERS, n)
        + data_frames(n, message(b"right"))
        + frame(HEADERS, END_STREAM, n, OK[:3])
        + frame(CONTINUATION, END_HEADERS, n, OK[3:])
    ),
    "padded and prioritised": lambda n: (
        head(n, b"\x03" + PRIORITY_FIELDS + HEAD + bytes(3), END_HEADERS | PADDED | PRIORITISED)
        + frame(PRIORITY, 0, n, PRIORITY_FIELDS)
        + frame(DATA, PADDED, n, b"\x02" + message(b"right")[:4] + bytes(2))
        + frame(DATA, PADDED, n, b"\x00" + message(b"right")[4:])
        + frame(DATA, PADDED, n, b"\x07" + bytes(7))
        + frame(HEADERS, END_HEADERS | END_STREAM | PRIORITISED, n, PRIORITY_FIELDS + OK)
    ),
    "a byte of data per frame": lambda n: head(n) + data_frames(n, message(b"right"), size=1) + end(n),
    "empty data frames": lambda n: (
        head(n) + frame(DATA, 0, n) * 9 + data_frames(n, message(b"right")) + frame(DATA, 0, n) + end(n)
    ),
    "frames of other streams, and of unknown kinds, between": lambda n: (
        frame(0xBE, 0xFF, n, b"grease")
        + data_frames(n + 2, b"nobody's")
        + head(n)
        + frame(0xBE, 0, 0, b"grease")
        + data_frames(2, message(b"other"))
        + end(n - 2 if n > 1 else 7, status_block("13"))
        + data_frames(n, message(b"right")[:7])
        + settings((3, 100), (0x99, 1), (INITIAL_WINDOW, 70_000))
        + window_update(n, 5)
        + window_update(0, 5)
        + rst_stream(9, 8)
        + frame(PRIORITY, 0, n, PRIORITY_FIELDS)
        + data_frames(n, message(b"right")[7:])
        + frame(PING, 0, 0, b"12345678")
        + end(n)
    ),
    "huffman": lambda n: (
        head(n, huffman_block(HEAD_PAIRS))
        + data_frames(n, message(b"right"))
        + end(n, huffman_block([("grpc-status", "0"), ("grpc-message", "fine ~ \x7f")]))
    ),
    "table size updates to 0": lambda n: (
        head(n, b"\x20" + HEAD) + data_frames(n, message(b"right")) + end(n, b"\x20\x20" + OK)
    ),
    "literals to be kept in a table without room": lambda n: (
        head(n, b"\x40" + HEAD[1:]) + data_frames(n, message(b"right")) + end(n, b"\x10" + OK[1:])
    ),
    "more headers than needed": lambda n: (
        head(n, HEAD + block([("grpc-accept-encoding", "gzip"), ("x", "é"), ("date", "today")]))
        + data_frames(n, message(b"right"))
        + end(n, OK + block([("grpc-message", ""), ("x-trailer", "1")]))
    ),
    "content type with a suffix": lambda n: (
        head(n, block([(":status", "200"), ("content-type", "application/grpc+proto")]))
        + data_frames(n, message(b"right"))
        + end(n)
    ),
}

#: Answer to stream n; type of the error; part of what it says; whether the connection can be used again.
WRONG: dict[str, tuple[Callable[[int], bytes], str, str, bool]] = {
    "no status": (
        lambda n: head(n) + data_frames(n, message(b"right")) + end(n, HEAD),
        "bad response",
        "status",
        False,
    ),
    "no trailers": (
        lambda n: head(n) + data_frames(n, message(b"right"), END_STREAM),
        "bad response",
        "without a status",
        False,
    ),
    "only a head": (lambda n: end(n, HEAD), "bad response", "without a status", False),
    "no message": (lambda n: head(n) + end(n), "bad response", "single message", False),
    "trailers only, fine": (lambda n: end(n, HEAD + OK), "bad response", "single message", False),
    "too short a message": (
        lambda n: head(n) + data_frames(n, message(b"right", length=6)) + end(n),
        "bad response",
        "single message",
        False,
    ),
    "too long a message": (
        lambda n: head(n) + data_frames(n, message(b"right", length=4)) + end(n),
        "bad response",
        "single message",
        False,
    ),
    "a message of 4 GB": (
        lambda n: head(n) + data_frames(n, message(b"right", length=2**32 - 1)) + end(n),
        "bad response",
        "single message",
        False,
    ),
    "half a prefix": (
        lambda n: head(n) + data_frames(n, b"\0\0\0") + end(n),
        "bad response",
        "single message",
        False,
    ),
    "two messages": (
        lambda n: head(n) + data_frames(n, message(b"right") * 2) + end(n),
        "bad response",
        "single message",
        False,
    ),
    "an empty one first": (
        lambda n: head(n) + data_frames(n, message(b"") + message(b"right")) + end(n),
        "bad response",
        "single message",
        False,
    ),
    "another body": (lambda n: answer(n, b"wrong"), "wrong answer", "not b'wrong'", True),
    "damaged gzip": (
        lambda n: (
            head(n, HEAD + block([("grpc-encoding", "gzip")]))
            + data_frames(n, message(b"\x1f\x8bnothing", compressed=True))
            + end(n)
        ),
        "bad response",
        "gzip is damaged",
        False,
    ),
    "cut gzip": (
        lambda n: (
            head(n, HEAD + block([("grpc-encoding", "gzip")]))
            + data_frames(n, message(gzip.compress(b"right")[:-9], compressed=True))
            + end(n)
        ),
        "bad response",
        "gzip is damaged",
        False,
    ),
    "unknown compression": (
        lambda n: (
            head(n, HEAD + block([("grpc-encoding", "zstd")]))
            + data_frames(n, message(b"right", compressed=True))
            + end(n)
        ),
        "bad response",
        "zstd",
        False,
    ),
    "compressed without saying how": (
        lambda n: head(n) + data_frames(n, message(b"right", compressed=True)) + end(n),
        "bad response",
        "identity",
        False,
    ),
    "a proxy's 503": (
        lambda n: (
            head(n, block([(":status", "503"), ("content-type", "text/html")]))
            + data_frames(n, b"<h1>busy</h1>", END_STREAM)
        ),
        "HTTP 503",
        "proxy",
        True,
    ),
    "a proxy's 502 and nothing else": (lambda n: end(n, block([(":status", "502")])), "HTTP 502", "proxy", True),
    "no :status": (lambda n: end(n, OK), "HTTP without a status", "", True),
    "a web page": (
        lambda n: head(n, block([(":status", "200"), ("content-type", "text/html")])),
        "bad response",
        "text/html",
        False,
    ),
    "no content type": (lambda n: head(n, block([(":status", "200")])), "bad response", "content type", False),
    "a reference to the dynamic table": (lambda n: head(n, b"\xbe"), "bad response", "headers", False),
    "a name from the dynamic table": (lambda n: head(n, HEAD + b"\x0f\x2f\x01x"), "bad response", "headers", False),
    "a literal kept, then referred to": (
        lambda n: head(n, b"\x40" + HEAD[1:] + b"\xbe"),
        "bad response",
        "headers",
        False,
    ),
    "index 0": (lambda n: head(n, b"\x80"), "bad response", "headers", False),
    "a larger table": (lambda n: head(n, b"\x3f\xe1\x1f" + HEAD), "bad response", "headers", False),
    "a cut header": (lambda n: head(n, HEAD[:-3]), "bad response", "headers", False),
    "broken huffman": (lambda n: head(n, b"\0\x01x\x84\xff\xff\xff\xff"), "bad response", "headers", False),
    "an endless integer": (lambda n: head(n, b"\xff" + b"\xff" * 200), "bad response", "headers", False),
    "a header of 70 kB": (
        lambda n: (
            head(n, b"\0\x01x\x7f" + b"\xf1\xa2\x04", 0)
            + b"".join(frame(CONTINUATION, 0, n, bytes(16_000)) for _ in range(5))
            + frame(CONTINUATION, END_HEADERS, n)
        ),
        "bad response",
        "headers",
        False,
    ),
    "continuation from nowhere": (
        lambda n: frame(CONTINUATION, END_HEADERS, n, HEAD),
        "bad response",
        "continued",
        False,
    ),
    "continuation of another stream": (
        lambda n: head(n, HEAD[:5], 0) + frame(CONTINUATION, END_HEADERS, n + 2, HEAD[5:]),
        "bad response",
        "continued",
        False,
    ),
    "no continuation": (
        lambda n: head(n, HEAD[:5], 0) + frame(PING, 0, 0, bytes(8)),
        "bad response",
        "another frame inside a header block",
        False,
    ),
    "endless continuation": (
        lambda n: head(n, HEAD, 0) + frame(CONTINUATION, 0, n, bytes(16_384)) * 70,
        "bad response",
        "larger than 128 KiB",
        False,
    ),
    "an oversized frame": (lambda n: frame(DATA, 0, n, length=16_385), "bad response", "16385", False),
    "an oversized frame of an unknown kind": (
        lambda n: frame(0xBE, 0, n, length=2**24 - 1),
        "bad response",
        "16777215",
        False,
    ),
    "more padding than room": (
        lambda n: frame(DATA, PADDED, n, b"\x0b" + message(b"right")),
        "bad response",
        "padding",
        False,
    ),
    "an empty padded frame": (lambda n: frame(HEADERS, PADDED | END_HEADERS, n), "bad response", "padded", False),
    "half a priority": (
        lambda n: frame(HEADERS, PRIORITISED | END_HEADERS, n, b"abc"),
        "bad response",
        "padding",
        False,
    ),
    "a push promise": (
        lambda n: frame(PUSH_PROMISE, END_HEADERS, n, (2).to_bytes(4, "big") + HEAD),
        "bad response",
        "pushed",
        False,
    ),
    "a settings frame of 5 bytes": (lambda _: frame(SETTINGS, 0, 0, bytes(5)), "bad response", "SETTINGS", False),
    "an initial window of 2 GB": (lambda _: settings((INITIAL_WINDOW, 2**31)), "bad response", "initial window", False),
    "a window update by nothing": (lambda n: window_update(n, 0), "bad response", "window update", False),
    "a window update by nothing for all": (lambda _: window_update(0, 0), "bad response", "window update", False),
    "a window beyond 2 GB": (lambda n: window_update(n, 2**31 - 1), "bad response", "window update", False),
    "a window beyond 2 GB for all": (lambda _: window_update(0, 2**31 - 1), "bad response", "window update", False),
    "a cut window update": (lambda n: frame(WINDOW_UPDATE, 0, n, b""), "bad response", "window update", False),
    "a cut goaway": (lambda _: frame(7, 0, 0, b"1234567"), "bad response", "GOAWAY", False),
    "goaway below ours": (
        lambda n: goaway(n - 1 if n > 1 else 0, 11, b"too_many_pings"),
        "GOAWAY ENHANCE_YOUR_CALM",
        "too_many_pings",
        False,
    ),
    "goaway below ours without a reason": (lambda _: goaway(0), "GOAWAY NO_ERROR", "no more requests", False),
}

EARLY: dict[str, tuple[Callable[[int], bytes], str]] = {
    "an error": (lambda n: end(n, HEAD + status_block("8", "too large")), "gRPC RESOURCE_EXHAUSTED"),
    "an error and a reset": (lambda n: end(n, HEAD + status_block("8")) + rst_stream(n, 0), "gRPC RESOURCE_EXHAUSTED"),
    "an answer": (answer, "bad response"),
    "an answer and a reset": (lambda n: answer(n) + rst_stream(n, 0), "bad response"),
    "a reset": (lambda n: rst_stream(n, 7), "RST_STREAM REFUSED_STREAM"),
    "a proxy's answer": (lambda n: end(n, block([(":status", "413")])), "HTTP 413"),
}


def is_right(body: bytes, _headers: Mapping[str, str]) -> str:
    return "" if body == b"right" else f"not {bytes(body[:20])!r}"


def first_then_good(first: Behaviour) -> Behaviour:
    """One request is treated so, the others are answered."""

    def behave(call: Call) -> None:
        if call.number:
            call.answer()
        else:
            first(call)

    return behave


def sends(make: Callable[[int], bytes]) -> Behaviour:
    return lambda call: call.send(make(call.stream))


class TestRequest:
    def test_is_what_another_decoder_reads(self) -> None:
        calls: list[Call] = []

        def behave(call: Call) -> None:
            calls.append(call)
            call.answer()

        with Server(behave) as server:
            load = workload(
                server, b"tensors", headers=(("Authorization", "Bearer 1"), ("x-tenant", "a"), ("X-Tenant", "b" * 300))
            )
            assert len(latencies(ask(load, 2))) == 2
        assert [call.stream for call in calls] == [1, 3]
        assert {call.body for call in calls} == {b"tensors"}
        for call in calls:
            assert call.headers == {
                ":method": "POST",
                ":scheme": "http",
                ":path": PATH,
                ":authority": f"{HOST}:{server.port}",
                "content-type": "application/grpc",
                "te": "trailers",
                "user-agent": "gpuperf",
                "authorization": "Bearer 1",
                "x-tenant": "b" * 300,
            }

    def test_a_host_header_is_the_authority(self) -> None:
        seen: list[str] = []

        def behave(call: Call) -> None:
            seen.append(call.headers[":authority"])
            call.answer()

        with Server(behave) as server:
            ask(workload(server, headers=(("Host", "models.example"),)))
        assert seen == ["models.example"]

    @pytest.mark.parametrize("header", [("x", "a\r\nb"), ("x\n", "a"), ("", "a"), ("x", "a" * 20_000)])
    def test_headers_that_cannot_be_written_are_refused(self, header: tuple[str, str]) -> None:
        with Server() as server, pytest.raises(LoadError, match="can't be written"):
            ask(workload(server, headers=(header,)))
        assert not server.requests

    @pytest.mark.parametrize("size", [0, 1, 16_378, 16_379, 16_380, 65_529, 65_530, 65_531, 600_000])
    def test_of_any_size_arrives_whole_on_one_connection(self, size: int) -> None:
        body = random.Random(size).randbytes(size)
        seen = set()

        def behave(call: Call) -> None:
            seen.add(call.body)
            call.answer()

        with Server(behave) as server:
            recording = ask(workload(server, body), 4)
            assert_true_times(recording, server.good)
            assert (server.requests, server.connections) == (4, 1)
        assert seen == {body}

    def test_requests_of_a_rotation_are_sent_in_turn(self) -> None:
        seen = []

        def behave(call: Call) -> None:
            seen.append(call.body)
            call.answer()

        bodies = (b"one", BIG, b"", b"four")
        with Server(behave) as server:
            load = workload(server, rotations=(tuple(Request(body) for body in bodies),))
            ask(load, 8)
        assert seen == [*bodies, *bodies]

    def test_stream_numbers_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Http2Connection, "LAST_STREAM", 5)
        with Server() as server:
            recording = ask(workload(server), 7)
            assert_true_times(recording, server.good)
            assert (server.requests, server.connections) == (7, 3)
        assert not recording.errors


class TestAnswers:
    def test_no_latency_is_shorter_than_the_truth(self) -> None:
        def behave(call: Call) -> None:
            time.sleep(0.01)
            call.answer(head(call.stream), data_frames(call.stream, message(b"right")), end(call.stream), pause_s=0.005)

        with Server(behave) as server:
            recording = ask(workload(server, check=is_right), 5)
            assert_true_times(recording, server.good)
        assert min(latencies(recording)) >= 20 * MS

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_every_answer_is_recorded_once(self, concurrency: int) -> None:
        with Server() as server:
            recording = drive(workload(server), WindowSpec(concurrency, 0.1))
            assert len(latencies(recording)) == server.requests == len(server.good)
            assert server.connections == concurrency
        assert not recording.errors
        assert min(latencies(recording)) > 0

    def test_byte_by_byte(self) -> None:
        def behave(call: Call) -> None:
            call.answer(*(bytes([byte]) for byte in answer(call.stream)))

        with Server(behave) as server:
            recording = ask(workload(server, check=is_right), 2)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    def test_in_two_packets_wherever_they_part(self) -> None:
        def behave(call: Call) -> None:
            whole = answer(call.stream)
            at = 1 + call.number % (len(whole) - 1)
            call.answer(whole[:at], whole[at:], pause_s=0.002)

        with Server(behave) as server:
            recording = ask(workload(server, check=is_right), len(answer(1)) - 1)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    @pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 5_000_000])
    def test_of_any_size(self, size: int) -> None:
        body = random.Random(size).randbytes(size)

        def behave(call: Call) -> None:
            call.answer(answer(call.stream, body))

        with Server(behave) as server:
            load = workload(server, check=lambda got, _: "" if got == body else "wrong")
            recording = ask(load, 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1
        assert not recording.errors

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("split", [False, True])
    def test_in_every_form_the_protocol_allows(self, form: str, split: bool) -> None:
        make = FORMS[form]

        def behave(call: Call) -> None:
            whole = make(call.stream)
            call.answer(*([whole[at : at + 7] for at in range(0, len(whole), 7)] if split else [whole]))

        with Server(behave) as server:
            recording = ask(workload(server, check=is_right), 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1
            server.breaches.clear()  # the books don't follow packets that part in a frame
        assert not recording.errors

    def test_a_ping_is_answered_with_its_bytes(self) -> None:
        def behave(call: Call) -> None:
            call.send(head(call.stream), frame(PING, 0, 0, b"pingpong"), data_frames(call.stream, message(b"right")))
            call.wait(lambda: call.peer.pongs)
            call.answer(end(call.stream))

        with Server(behave) as server:
            ask(workload(server))
            (peer,) = server.peers
            assert peer.pongs == [b"pingpong"]
            assert len(server.good) == 1

    @pytest.mark.parametrize("pause_s", [0, 0.003])
    def test_a_reset_after_the_end_changes_nothing(self, pause_s: float) -> None:
        def behave(call: Call) -> None:
            call.answer()
            time.sleep(pause_s)
            call.send(rst_stream(call.stream, 0))

        with Server(behave) as server:
            recording = ask(workload(server, check=is_right), 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    def test_idle_connections_do_not_answer_pings_with_requests(self) -> None:
        with Server(lambda call: call.answer(answer(call.stream) + frame(PING, 0, 0, b"afterend"))) as server:
            recording = ask(workload(server), 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    def test_compressed_ones_are_unpacked_for_the_check(self, encoding: str) -> None:
        pack = gzip.compress if encoding == "gzip" else zlib.compress

        def behave(call: Call) -> None:
            start = head(call.stream, HEAD + block([("grpc-encoding", encoding)]))
            packed = data_frames(call.stream, message(pack(b"right"), compressed=True))
            plain = data_frames(call.stream, message(b"right"))
            call.answer(start + (plain if call.number % 2 else packed) + end(call.stream))

        with Server(behave) as server:
            for check in (is_right, None):
                recording = ask(workload(server, check=check), 2)
                assert len(latencies(recording)) == 2

    def test_the_check_sees_the_headers(self) -> None:
        seen: list[Mapping[str, str]] = []

        def check(_body: bytes, headers: Mapping[str, str]) -> str:
            seen.append(headers)
            return ""

        with Server() as server:
            ask(workload(server, check=check))
        assert seen == [dict(HEAD_PAIRS)]

    def test_blocks_beyond_those_remembered_are_still_read(self) -> None:
        def behave(call: Call) -> None:
            own = OK + block([("x-request", str(call.number))])
            call.answer(head(call.stream) + data_frames(call.stream, message(b"right")) + end(call.stream, own))

        with Server(behave) as server:
            load = workload(server, check=is_right)
            with closing(Loop(load)) as loop:
                recording = Driver(loop, load).window(WindowSpec(1, 0.0, min_requests=200))
                assert len(loop.known_blocks) == 64
            assert_true_times(recording, server.good)


class TestWrongAnswers:
    """One bad answer, then a good one: exactly one typed error, and exactly one latency."""

    @pytest.mark.parametrize("case", WRONG)
    @pytest.mark.parametrize("split", [False, True])
    def test_is_one_typed_error(self, case: str, split: bool) -> None:
        make, kind, says, kept = WRONG[case]

        def bad(call: Call) -> None:
            whole = make(call.stream)
            size = 1000 if len(whole) > 1000 else 3
            call.send(*([whole[at : at + size] for at in range(0, len(whole), size)] if split else [whole]))

        with Server(first_then_good(bad)) as server:
            recording = ask(workload(server, check=is_right), 2)
            server.breaches.clear()
            assert recording.errors == {kind: 1}
            assert recording.error_sample.startswith(f"{kind}: ")
            assert says in recording.error_sample
            assert_true_times(recording, server.good)
            assert server.connections == (1 if kept else 2)

    def test_every_status_of_grpc_has_its_name(self) -> None:
        names = {code.value[0]: code.name for code in pytest.importorskip("grpc").StatusCode}

        def behave(call: Call) -> None:
            call.send(end(call.stream, HEAD + status_block(str(call.number), "caf%C3%A9 100%25")))

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(8, 0.0, min_requests=17))
            assert server.connections == 9
        # Status 0 is none, but an answer without a message.
        assert recording.errors == {"bad response": 1, **{f"gRPC {names[status]}": 1 for status in range(1, 17)}}

    def test_messages_are_decoded(self) -> None:
        with Server(sends(lambda n: end(n, HEAD + status_block("13", "caf%C3%A9 100%25")))) as server:
            assert ask(workload(server)).error_sample == "gRPC INTERNAL: café 100%"

    @pytest.mark.parametrize("status", ["17", "99999999999999999999", "ok", "-1", ""])
    def test_a_status_that_grpc_does_not_have_is_an_error_too(self, status: str) -> None:
        late = sends(lambda n: head(n) + data_frames(n, message(b"right")) + end(n, status_block(status)))
        with Server(first_then_good(late)) as server:
            recording = ask(workload(server), 2)
            assert recording.errors == {f"gRPC {status}": 1}
            assert_true_times(recording, server.good)

    def test_a_status_in_digits_that_are_none(self) -> None:
        with Server(first_then_good(sends(lambda n: end(n, HEAD + status_block("²"))))) as server:
            recording = ask(workload(server), 2)
            assert sum(recording.errors.values()) == 1
            assert_true_times(recording, server.good)

    @pytest.mark.parametrize("text", ["%", "%zz", "%ff%fe", "\x00", "a" * 126])
    def test_messages_that_are_badly_encoded_are_shown_as_they_are(self, text: str) -> None:
        with Server(first_then_good(sends(lambda n: end(n, HEAD + status_block("13", text))))) as server:
            recording = ask(workload(server), 2)
            assert recording.errors == {"gRPC INTERNAL": 1}

    def test_every_reset_has_its_name(self) -> None:
        names = "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED "
        names += "FRAME_SIZE_ERROR REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM "
        names += "INADEQUATE_SECURITY HTTP_1_1_REQUIRED"

        def behave(call: Call) -> None:
            call.send(head(call.stream) + rst_stream(call.stream, call.number))

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(8, 0.0, min_requests=15))
            assert server.connections == 8
        assert recording.errors == {f"RST_STREAM {name}": 1 for name in [*names.split(), "error 14"]}

    @pytest.mark.parametrize("early", [answer(3), end(3, HEAD + status_block("5"))], ids=["answer", "status"])
    def test_an_answer_that_comes_before_its_request_has_no_latency(self, early: bytes) -> None:
        def behave(call: Call) -> None:
            if call.number:
                call.answer()
            else:
                call.answer(answer(1) + early)

        with Server(behave) as server:
            recording = ask(workload(server), 3)
            assert recording.errors == {"bad response": 1}
            assert "before the request was sent" in recording.error_sample
        assert min(latencies(recording)) > 0

    def test_late_frames_of_a_failed_request_are_no_answer_to_the_next(self) -> None:
        def behave(call: Call) -> None:
            if call.number:
                call.send(data_frames(1, message(b"late")) + end(1))
                call.answer()
            else:
                call.send(head(1) + rst_stream(1, 8) + data_frames(1, message(b"late")))

        with Server(behave) as server:
            recording = ask(workload(server, check=is_right), 2)
            assert recording.errors == {"RST_STREAM CANCEL": 1}
            assert_true_times(recording, server.good)
            assert server.connections == 1


class TestDisconnects:
    @pytest.mark.parametrize("reset", [False, True])
    def test_at_every_point_of_an_answer(self, reset: bool) -> None:
        whole = answer(1)

        def behave(call: Call) -> None:
            call.send(whole[: call.number])
            if call.number < len(whole):
                call.reset() if reset else call.hang_up()

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(16, 0.0, min_requests=len(whole) + 1, deadline_s=20))
            assert server.requests == len(whole) + 1
        assert set(recording.errors) <= {"connection closed", "connection reset"}
        assert sum(recording.errors.values()) == len(whole)
        assert len(latencies(recording)) == 1

    def test_closed_by_turns_under_load(self) -> None:
        def behave(call: Call) -> None:
            call.answer()
            if call.number % 5 == 4:
                call.hang_up()

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(4, 0.0, min_requests=60, deadline_s=20))
        failed = sum(recording.errors.values())
        assert len(latencies(recording)) + failed == 60
        # A request that is already under way when the connection is closed fails; more can't.
        assert len(server.good) >= len(latencies(recording))

    def test_a_connection_closed_while_idle_is_no_error(self) -> None:
        with Server() as server:
            load = workload(server)
            with closing(Loop(load)) as loop:
                driver = Driver(loop, load)
                driver.window(WindowSpec(3, 0.05))
                for peer in server.peers:
                    peer.send(frame(PING, 0, 0, bytes(8)))
                    peer.link.shutdown(socket.SHUT_RDWR)
                time.sleep(0.05)
                recording = driver.window(WindowSpec(3, 0.0, min_requests=9))
        assert not recording.errors
        assert len(latencies(recording)) == 9

    def test_a_server_that_is_gone_loses_the_window(self) -> None:
        with Server() as server:
            load = workload(server)
            with closing(Loop(load)) as loop:
                driver = Driver(loop, load)
                assert not driver.window(WindowSpec(2, 0.05)).errors
                server.die()
                recording = driver.window(WindowSpec(2, 30.0))
        assert "no connection to" in recording.lost

    def test_a_server_that_goes_in_mid_window(self) -> None:
        def behave(call: Call) -> None:
            call.answer()
            if call.number == 50:
                server.die()

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(2, 30.0, deadline_s=5))
        assert "no connection to" in recording.lost
        assert 50 <= len(latencies(recording)) <= server.requests

    def test_open_loop_survives_a_queue_of_requests_that_cannot_be_sent(self) -> None:
        """Each that fails at once lets the next one go: thousands, which must not be nested."""
        with Server(lambda _: time.sleep(0.4)) as server:
            load = workload(server)
            with closing(Loop(load)) as loop:

                def behave(call: Call) -> None:
                    time.sleep(0.4)
                    loop.addresses = [(socket.AF_INET, ("255.255.255.255", 1))]
                    call.hang_up()

                server._behave = behave
                spec = WindowSpec(0, 0.6, arrivals=Constant(4000), max_in_flight=1, lead_in_s=0.0, deadline_s=5)
                recording = Driver(loop, load).window(spec)
        assert recording.lost or sum(recording.errors.values()) > 1000

    def test_silence_is_a_timeout(self) -> None:
        with Server(first_then_good(lambda _: None)) as server:
            began = time.monotonic()
            recording = ask(workload(server), 2, deadline_s=0.3)
            assert 0.3 <= time.monotonic() - began < 10
            assert recording.errors == {"timeout": 1}
            assert len(latencies(recording)) == 1
            assert server.connections == 2

    @pytest.mark.parametrize(
        "said", [b"", head(1), head(1) + data_frames(1, message(b"right")), answer(1)[:-1]], ids=len
    )
    def test_silence_after_a_part_is_a_timeout(self, said: bytes) -> None:
        with Server(first_then_good(lambda call: call.send(said))) as server:
            recording = ask(workload(server), 2, deadline_s=0.3)
            assert recording.errors == {"timeout": 1}
            assert len(latencies(recording)) == 1

    def test_trickling_does_not_move_the_deadline(self) -> None:
        def drip(call: Call) -> None:
            call.send(head(1))
            for _ in range(1000):
                call.send(data_frames(1, b"\0") + frame(PING, 0, 0, bytes(8)))
                time.sleep(0.01)

        with Server(first_then_good(drip)) as server:
            began = time.monotonic()
            recording = ask(workload(server), 2, deadline_s=0.3)
            assert time.monotonic() - began < 9
            assert recording.errors == {"timeout": 1}


class TestOtherServers:
    def test_http_1_is_named(self) -> None:
        def raw(link: socket.socket) -> None:
            link.recv(65_536)
            link.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        with Server(raw=raw) as server:
            recording = ask(workload(server))
        assert recording.errors == {"bad response": 1}
        assert "is this the gRPC port" in recording.error_sample

    def test_one_that_closes_at_once_is_explained(self) -> None:
        with Server(raw=closes_at_once) as server:
            recording = ask(workload(server))
        assert set(recording.errors) <= {"connection closed", "connection reset"}
        assert "is this the gRPC port" in recording.error_sample

    def test_one_that_never_speaks_is_a_timeout(self) -> None:
        def raw(link: socket.socket) -> None:
            while link.recv(65_536):
                pass

        with Server(raw=raw) as server:
            recording = ask(workload(server), deadline_s=0.3)
        assert recording.errors == {"timeout": 1}

    def test_one_that_echoes(self) -> None:
        def raw(link: socket.socket) -> None:
            while data := link.recv(65_536):
                link.sendall(data)

        with Server(raw=raw) as server:
            recording = ask(workload(server), deadline_s=1)
        assert recording.errors == {"bad response": 1}

    def test_one_that_forgets_its_settings(self) -> None:
        with Server(sends(answer), greeting=None) as server:
            assert ask(workload(server)).errors == {"bad response": 1}

    def test_noise_is_an_error(self) -> None:
        noise = random.Random(7)

        def raw(link: socket.socket) -> None:
            link.recv(65_536)
            link.sendall(settings() * noise.randrange(2) + noise.randbytes(noise.randrange(1, 300)))

        with Server(raw=raw) as server:
            recording = drive(workload(server), WindowSpec(16, 0.0, min_requests=160, deadline_s=0.5))
        assert sum(recording.errors.values()) == 160

    def test_damaged_answers_never_pass_for_right_ones(self) -> None:
        """Answers with a few bytes changed, taken out or put in: a latency is only recorded for the right body."""
        dice = random.Random(11)
        damaged = []
        for _ in range(300):
            whole = bytearray(settings() + answer(1))
            for _ in range(dice.choice((1, 1, 2, 5))):
                at = dice.randrange(len(whole))
                whole[at : at + dice.randrange(2)] = dice.randbytes(dice.randrange(2)) or b""
            damaged.append(bytes(whole))
        seen: list[bytes] = []

        def check(body: bytes, headers: Mapping[str, str]) -> str:
            seen.append(bytes(body))
            return is_right(body, headers)

        def behave(call: Call) -> None:
            call.peer.link.sendall(damaged[call.number])  # not in the books
            call.hang_up()

        with Server(behave, greeting=None, replenish=never) as server:
            recording = drive(workload(server, check=check), WindowSpec(16, 0.0, min_requests=300, deadline_s=2))
            assert server.requests <= 300
            server.breaches.clear()  # of rules that damaged settings made
        assert len(latencies(recording)) == seen.count(b"right")
        assert len(latencies(recording)) + sum(recording.errors.values()) == 300
        assert min(latencies(recording)) > 0


class TestFlowControl:
    def test_settings_that_come_late(self) -> None:
        def behave(call: Call) -> None:
            call.answer((b"" if call.stream > 1 else settings((INITIAL_WINDOW, 100_000))) + answer(call.stream))

        with Server(behave, greeting=None, replenish=never) as server:
            recording = ask(workload(server), 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    @pytest.mark.parametrize("grant", [1, 100, 65_535, 1_000_000])
    def test_a_window_of_nothing_that_is_opened_later(self, grant: int) -> None:
        with Server(
            greeting=settings((INITIAL_WINDOW, 0)), early=True, replenish=never, behave=_fed(grant, 5 + 300)
        ) as server:
            recording = ask(workload(server, bytes(300)), 4)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    @pytest.mark.parametrize("grant", [1 << 14, 65_535, 100_001])
    def test_large_requests_through_small_windows(self, grant: int) -> None:
        with Server(replenish=when_exhausted(grant, 0.001)) as server:
            recording = ask(workload(server, BIG), 3)
            assert_true_times(recording, server.good)
            assert server.connections == 1
        assert not recording.errors

    def test_slow_replenishing_is_part_of_the_latency(self) -> None:
        with Server(replenish=when_exhausted(1 << 17, 0.02)) as server:
            recording = ask(workload(server, BIG), 1)
        assert min(latencies(recording)) >= 4 * 20 * MS

    def test_a_window_that_shrinks_below_zero(self) -> None:
        def behave(call: Call) -> None:
            peer, stream = call.peer, call.stream
            peer.send(window_update(0, 10_000_000))
            call.wait(lambda: peer.window(stream) == 0)
            before = peer.received(stream)
            peer.send(settings((INITIAL_WINDOW, 1000)) + frame(PING, 0, 0, b"shrunken"))
            call.wait(lambda: peer.pongs)
            shrunk = peer.window(stream)
            assert shrunk == -64_535
            peer.send(window_update(stream, 64_535 + 10) + frame(PING, 0, 0, b"widened."))
            call.wait(lambda: len(peer.pongs) == 2)
            call.wait(lambda: peer.received(stream) == before + 10)
            peer.send(window_update(stream, 10_000_000))
            call.wait(lambda: peer.received(stream) == 5 + len(BIG))
            call.answer()

        with Server(behave, early=True, replenish=never) as server:
            recording = ask(workload(server, BIG))
            assert_true_times(recording, server.good)

    def test_the_connections_window_is_shared_by_many_requests(self) -> None:
        with Server(replenish=when_exhausted(65_535)) as server:
            recording = ask(workload(server, bytes(10_000)), 50)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    def test_larger_frames_are_used(self) -> None:
        greeting = settings((MAX_FRAME, 2**24 - 1), (INITIAL_WINDOW, 2**31 - 1)) + window_update(0, 2**30)
        with Server(greeting=greeting, replenish=never) as server:
            recording = ask(workload(server, bytes(4_000_000)), 3)
            assert_true_times(recording, server.good)
            assert server.peers[0].largest == 1 << 20

    def test_no_window_at_all_is_a_timeout(self) -> None:
        with Server(early=True, replenish=never, behave=lambda call: call.wait(lambda: False)) as server:
            recording = ask(workload(server, BIG), deadline_s=0.3)
            assert recording.errors == {"timeout": 1}
            assert server.peers[0].received(1) == 65_535

    def test_a_server_that_reads_nothing_is_a_timeout(self) -> None:
        greeting = settings((INITIAL_WINDOW, 2**31 - 1)) + window_update(0, 2**30)
        with Server(lambda _: time.sleep(1), early=True, greeting=greeting, replenish=never) as server:
            recording = ask(workload(server, bytes(30_000_000)), deadline_s=0.4)
        assert recording.errors == {"timeout": 1}

    @pytest.mark.parametrize("case", EARLY)
    @pytest.mark.parametrize("windows", [65_535, 2**30])
    def test_ended_before_the_whole_request_was_sent(self, case: str, windows: int) -> None:
        make, kind = EARLY[case]
        greeting = settings((INITIAL_WINDOW, windows))
        size = 30_000_000 if windows > 65_535 else 600_000

        def behave(call: Call) -> None:
            if not call.number and windows > 65_535:
                call.send(window_update(0, windows))
            call.wait(lambda: call.peer.received(call.stream) >= 40_000)
            call.send(make(call.stream))
            call.wait(lambda: False)

        with Server(behave, early=True, greeting=greeting, replenish=never, receive_bytes=65_536) as server:
            recording = ask(workload(server, bytes(size)), 2)
        assert recording.errors == {kind: 2}
        assert not latencies(recording)

    def test_our_own_windows_are_widened_before_they_close(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Http2Connection, "REPLENISH", 50_000)

        def behave(call: Call) -> None:
            call.answer(answer(call.stream, bytes(130_000)))

        with Server(behave) as server:
            recording = ask(workload(server), 6)
            assert_true_times(recording, server.good)
            (peer,) = server.peers
            first, content = 2**31 - 1 - 65_535, 6 * 130_005
            assert first + content - 50_000 - 16_384 < peer.updates[0] <= first + content


class TestGoaway:
    def test_a_request_in_flight_is_finished_and_the_next_goes_elsewhere(self) -> None:
        def behave(call: Call) -> None:
            last = (2**31 - 1, call.stream)[call.number % 2]
            call.answer(goaway(last), answer(call.stream), pause_s=0.005)

        with Server(behave) as server:
            recording = ask(workload(server), 6)
            assert_true_times(recording, server.good)
            assert server.connections == 6
        assert not recording.errors

    def test_after_the_answer_in_the_same_packet(self) -> None:
        def behave(call: Call) -> None:
            call.answer(answer(call.stream) + goaway(call.stream))

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(1, 0.0, min_requests=10))
            assert len(server.good) >= len(latencies(recording)) >= 1
        # The next request was on its way before the rest of the packet was read.
        assert set(recording.errors) <= {"GOAWAY NO_ERROR"}
        assert len(latencies(recording)) + sum(recording.errors.values()) == 10

    def test_while_idle(self) -> None:
        with Server() as server:
            load = workload(server)
            with closing(Loop(load)) as loop:
                driver = Driver(loop, load)
                driver.window(WindowSpec(3, 0.05))
                for peer in server.peers:
                    peer.send(goaway(2**31 - 1) if peer.number else goaway(0, 2, b"restart"))
                time.sleep(0.05)
                recording = driver.window(WindowSpec(3, 0.0, min_requests=9))
                assert server.connections == 6
        assert not recording.errors
        assert len(latencies(recording)) == 9

    def test_the_reason_of_goaway_is_passed_on(self) -> None:
        def behave(call: Call) -> None:
            call.send(goaway(call.stream, 11, b"too_many_pings"))
            call.hang_up()

        with Server(behave) as server:
            recording = ask(workload(server))
        assert set(recording.errors) <= {"connection closed", "connection reset"}
        assert "ENHANCE_YOUR_CALM: too_many_pings" in recording.error_sample

    def test_under_load(self) -> None:
        def behave(call: Call) -> None:
            if call.stream == 11:
                call.send(goaway(2**31 - 1))
            call.answer()

        with Server(behave) as server:
            recording = drive(workload(server, check=is_right), WindowSpec(4, 0.0, min_requests=100))
            assert server.requests == 100
            assert server.connections >= 16
        assert not recording.errors
        assert len(latencies(recording)) == 100


class TestPattern:
    """Repeated answers are told by their bytes; that must change nothing."""

    def test_times_are_as_true_as_before(self) -> None:
        def behave(call: Call) -> None:
            time.sleep(0.001)
            call.answer()

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(1, 0.3))
            assert_true_times(recording, server.good)
        assert min(latencies(recording)) >= MS

    def test_every_damage_has_the_same_consequence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Not in what follows the answer: that hits the next request, which may or may not have been read by then.
        whole = answer(1)
        at_stream = {at + byte for at in (0, len(head(1)), len(whole) - len(end(1))) for byte in range(5, 9)}
        damage = [(at, value) for at in range(len(whole)) for value in (0x01, 0x80) if at not in at_stream]

        def behave(call: Call) -> None:
            call.peer.link.settimeout(1.5)
            right = bytearray(answer(call.stream) + window_update(0, 5))
            if call.number % 2:
                at, value = damage[call.number // 2]
                right[at] ^= value
            call.peer.link.sendall(right)

        outcomes = []
        for without in (False, True):
            if without:
                monkeypatch.setattr(grpc_module, "pattern_of", lambda *_: None)
            with Server(behave) as server:
                spec = WindowSpec(16, 0.0, min_requests=2 * len(damage), deadline_s=20)
                recording = drive(workload(server), spec)
                server.breaches.clear()
            outcomes.append((len(latencies(recording)), recording.errors))
        assert outcomes[0] == outcomes[1]
        assert sum(outcomes[0][1].values()) > 60

    def test_errors_of_the_same_length_are_seen_under_load(self) -> None:
        def behave(call: Call) -> None:
            if call.number % 7 == 6:
                call.send(head(call.stream) + data_frames(call.stream, message(b"right")) + end(call.stream, BUSY))
            else:
                call.answer()

        with Server(behave) as server:
            recording = drive(workload(server), WindowSpec(3, 0.5))
            assert len(latencies(recording)) == len(server.good)
        assert set(recording.errors) == {"gRPC RESOURCE_EXHAUSTED"}

    def test_is_not_learned_from_frames_of_other_streams(self) -> None:
        """Two packets, the second one made up like an answer, of which only the trailers are ours."""
        strange = block([(":status", "500"), ("content-type", "application/grpc")])

        def behave(call: Call) -> None:
            n = call.stream
            if call.number == 0:
                call.send(head(n) + data_frames(n, message(b"right")))
                time.sleep(0.02)
                call.answer(head(99, strange) + data_frames(99, message(b"right")) + end(n))
            else:
                call.send(head(n, strange) + data_frames(n, message(b"right")) + end(n))

        with Server(behave, replenish=never) as server:
            recording = ask(workload(server), 2)
            assert recording.errors == {"HTTP 500": 1}
            assert_true_times(recording, server.good)

    def test_is_not_learned_from_the_end_of_an_answer(self) -> None:
        def behave(call: Call) -> None:
            n = call.stream
            tail = head(n) + data_frames(n, b"ght") + end(n)
            if call.number == 0:
                call.send(head(n) + data_frames(n, message(b"right")[:-3]))
                time.sleep(0.02)
                call.answer(tail)
            else:
                call.send(tail)

        with Server(behave, replenish=never) as server:
            recording = ask(workload(server), 2)
            assert recording.errors == {"bad response": 1}
            assert_true_times(recording, server.good)

    def test_windows_are_counted_on(self) -> None:
        """What comes after an answer in the same packet widens our window; what is in it narrows the server's."""

        def behave(call: Call) -> None:
            call.answer(answer(call.stream) + window_update(0, 5 + 10_000))

        with Server(behave, replenish=never) as server:
            recording = ask(workload(server, bytes(10_000)), 40, deadline_s=5)
            assert_true_times(recording, server.good)
            assert server.connections == 1

    def test_the_servers_window_is_widened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Http2Connection, "REPLENISH", 1000)
        with Server(replenish=never) as server:
            recording = ask(workload(server), 300)
            assert_true_times(recording, server.good)
            (peer,) = server.peers
            first = 2**31 - 1 - 65_535
            assert (
                first + 300 * len(message(b"right")) - 1000 <= peer.updates[0] <= first + 300 * len(message(b"right"))
            )

    def test_frames_before_the_head_are_part_of_the_answer(self) -> None:
        def behave(call: Call) -> None:
            if call.number % 2:
                call.send(data_frames(call.stream, b"\0"))
                time.sleep(0.02)
                call.send(answer(call.stream))
            else:
                call.answer()

        with Server(behave) as server:
            recording = ask(workload(server), 4)
            assert recording.errors == {"bad response": 2}
            assert_true_times(recording, server.good)


class TestDecode:
    def test_reads_what_another_encoder_writes(self) -> None:
        for huffman in (False, True):
            encoder = Encoder()
            encoder.header_table_size = 0
            for _ in range(2):
                written = encoder.encode([*HEAD_PAIRS, ("grpc-status", "0"), ("x", "~é")], huffman=huffman)
                headers = decode(written)
                assert headers[":status"] == "200"
                assert headers["grpc-status"] == "0"
                assert headers["x"].encode("latin-1").decode() == "~é"

    def test_refers_to_no_earlier_block(self) -> None:
        encoder = Encoder()  # with a table
        decoder = Decoder()
        first, second = (encoder.encode([("grpc-status", "0"), ("x-a", "b")]) for _ in range(2))
        assert [decoder.decode(part) for part in (first, second)]
        with pytest.raises(BadResponse):
            decode(second)

    def test_noise_is_refused_or_read_but_nothing_else(self) -> None:
        noise = random.Random(3)
        for _ in range(3000):
            written = noise.randbytes(noise.randrange(40))
            try:
                assert isinstance(decode(written), dict)
            except ValueError:
                continue


def _fed(grant: int, wanted: int) -> Behaviour:
    """Grants windows until the whole request is there (its server is ``early`` and replenishes ``never``)."""

    def behave(call: Call) -> None:
        while call.peer.received(call.stream) < wanted:
            call.wait(lambda: call.peer.window(call.stream) <= 0 or call.peer.received(call.stream) >= wanted)
            if call.peer.received(call.stream) < wanted:
                call.send(window_update(call.stream, grant))
        call.answer()

    return behave
