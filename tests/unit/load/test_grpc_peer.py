"""Against grpcio's server: another implementation, which shares nothing with ours."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any

import pytest

from pytest_gpuperf.load import WindowSpec
from pytest_gpuperf.model import GRPC, GRPC_STREAM, Address, Constant, Request, StreamAnswer, WireWorkload
from tests.unit.load.hostile_h2 import PATH, ask, drive, latencies
from tests.unit.load.listening import HOST

grpc = pytest.importorskip("grpc")

MS = 1_000_000
LIMIT = 64 << 20


class Peer:
    """A server of one unary method, ``PATH``, and one with streams both ways.

    Attributes:
        requests: how many it has begun to answer.
        peers: the clients' addresses.
    """

    def __init__(
        self,
        respond: Callable[[bytes, Any], bytes] = lambda body, _: body,
        respond_all: Callable[[bytes], Iterator[bytes]] = lambda body: iter([body]),
        *options: tuple[str, int],
        **settings: Any,
    ) -> None:
        self._respond, self._respond_all = respond, respond_all
        self._lock = threading.Lock()
        self.requests = 0
        self.peers: set[str] = set()
        sizes = {"grpc.max_receive_message_length": LIMIT, "grpc.max_send_message_length": LIMIT, **dict(options)}
        self._pool = ThreadPoolExecutor(16)
        self.server = grpc.server(self._pool, options=[("grpc.so_reuseport", 0), *sizes.items()], **settings)
        service, method = PATH.strip("/").split("/")
        handlers = {
            method: grpc.unary_unary_rpc_method_handler(self._unary),
            "Stream": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.port = self.server.add_insecure_port(f"{HOST}:0")
        self.server.start()

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop(None).wait(10)
        self._pool.shutdown()

    def _unary(self, body: bytes, context: Any) -> bytes:
        self._count(context)
        return self._respond(body, context)

    def _stream(self, bodies: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for body in bodies:
            self._count(context)
            yield from self._respond_all(body)

    def _count(self, context: Any) -> None:
        with self._lock:
            self.requests += 1
            self.peers.add(context.peer())

    def workload(self, *bodies: bytes, **settings: Any) -> WireWorkload:
        """Requests whose answers must be what was sent."""
        rotation = tuple(
            Request(body, (), lambda got, _, body=body: "" if got == body else f"not {got[:20]!r}")  # type: ignore[misc]
            for body in bodies or (b"request",)
        )
        return replace(WireWorkload(GRPC, (Address(HOST, self.port),), PATH, (rotation,)), **settings)


def read_stream(body: bytes) -> StreamAnswer:
    return StreamAnswer(last=not body.startswith(b"more"), empty=body == b"empty")


def stream(peer: Peer, **settings: Any) -> WireWorkload:
    path = PATH.rsplit("/", 1)[0] + "/Stream"
    return replace(peer.workload(protocol=GRPC_STREAM, path=path, read_stream=read_stream), **settings)


class TestUnary:
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_every_request_it_counts_is_an_answer(self, concurrency: int) -> None:
        with Peer() as peer:
            recording = drive(peer.workload(), WindowSpec(concurrency, 0.3))
            assert len(latencies(recording)) == peer.requests
            assert len(peer.peers) == concurrency
        assert not recording.errors

    def test_without_checks_either(self) -> None:
        with Peer() as peer:
            load = peer.workload(rotations=((Request(b"request"),),))
            recording = drive(load, WindowSpec(4, 0.3))
            assert len(latencies(recording)) == peer.requests
        assert not recording.errors

    @pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_531, 4_000_000])
    def test_bodies_of_any_size_come_back(self, size: int) -> None:
        body = random.Random(size).randbytes(size)
        with Peer() as peer:
            recording = ask(peer.workload(body, b"small"), 8)
            assert len(latencies(recording)) == peer.requests == 8
            assert len(peer.peers) == 1
        assert not recording.errors

    def test_large_bodies_under_load(self) -> None:
        bodies = [random.Random(size).randbytes(size) for size in (300_000, 10, 1_000_000)]
        with Peer() as peer:
            recording = drive(peer.workload(*bodies), WindowSpec(4, 0.0, min_requests=60))
            assert len(latencies(recording)) == peer.requests == 60
        assert not recording.errors

    def test_no_latency_is_shorter_than_the_servers_delay(self) -> None:
        def respond(body: bytes, _context: Any) -> bytes:
            time.sleep(0.02)
            return body

        with Peer(respond) as peer:
            recording = drive(peer.workload(), WindowSpec(4, 0.2))
            assert len(latencies(recording)) == peer.requests
        assert min(latencies(recording)) >= 20 * MS

    def test_open_loop(self) -> None:
        with Peer() as peer:
            recording = drive(peer.workload(), WindowSpec(0, 0.3, arrivals=Constant(200)))
            assert len(latencies(recording)) == peer.requests
        assert not recording.errors

    @pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
    def test_statuses_have_their_names_and_texts(self, code: Any) -> None:
        def respond(body: bytes, context: Any) -> bytes:
            if peer.requests == 1:
                context.abort(code, "100% café\n")
            return body

        with Peer(respond) as peer:
            recording = ask(peer.workload(), 2)
            assert len(peer.peers) == 1
        assert recording.errors == {f"gRPC {code.name}": 1}
        assert recording.error_sample == f"gRPC {code.name}: 100% café\n"
        assert len(latencies(recording)) == 1

    def test_another_method(self) -> None:
        with Peer() as peer:
            recording = ask(peer.workload(path=PATH + "s"), 2)
        assert recording.errors == {"gRPC UNIMPLEMENTED": 2}

    def test_a_request_beyond_its_limit(self) -> None:
        with Peer(lambda body, _: body, lambda _: iter([]), ("grpc.max_receive_message_length", 1000)) as peer:
            recording = ask(peer.workload(bytes(3_000_000), b"small"), 4)
            assert peer.requests == 2
        assert set(recording.errors) <= {"gRPC RESOURCE_EXHAUSTED", "bad response"}
        assert sum(recording.errors.values()) == len(latencies(recording)) == 2

    def test_one_that_would_like_to_compress(self) -> None:
        with Peer(compression=grpc.Compression.Gzip) as peer:
            recording = ask(peer.workload(bytes(100_000)), 3)
            assert len(latencies(recording)) == peer.requests == 3


class TestConnections:
    def test_pings_are_answered(self) -> None:
        """It drops a connection whose pings are not."""

        def respond(body: bytes, _context: Any) -> bytes:
            time.sleep(1.5)
            return body

        options = (("grpc.keepalive_time_ms", 100), ("grpc.keepalive_timeout_ms", 800))
        with Peer(respond, lambda _: iter([]), *options) as peer:
            recording = ask(peer.workload())
        assert not recording.errors
        assert len(latencies(recording)) == 1

    def test_connections_of_a_certain_age_are_replaced_without_errors(self) -> None:
        options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 10_000))
        with Peer(lambda body, _: body, lambda _: iter([]), *options) as peer:
            recording = drive(peer.workload(), WindowSpec(4, 1.0))
            assert len(latencies(recording)) == peer.requests
            assert len(peer.peers) > 4
        assert not recording.errors

    def test_idle_connections_that_it_closes_are_no_errors(self) -> None:
        with Peer(lambda body, _: body, lambda _: iter([]), ("grpc.max_connection_idle_ms", 100)) as peer:
            load = peer.workload()
            recording = drive(load, WindowSpec(0, 1.5, arrivals=Constant(4)))
            assert len(latencies(recording)) == peer.requests
            assert len(peer.peers) > 1
        assert not recording.errors

    def test_a_server_that_stops_in_mid_window(self) -> None:
        def respond(body: bytes, _context: Any) -> bytes:
            if peer.requests == 100:
                peer.server.stop(None)
            return body

        with Peer(respond) as peer:
            recording = drive(peer.workload(), WindowSpec(2, 30.0, deadline_s=5))
            assert 90 <= len(latencies(recording)) <= peer.requests
        assert "no connection to" in recording.lost


class TestStreams:
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_many_answers_to_each_request(self, concurrency: int) -> None:
        with Peer(respond_all=lambda body: iter([b"more", b"more", body])) as peer:
            load = stream(peer, rotations=((Request(b"last"),),))
            recording = drive(load, WindowSpec(concurrency, 0.3))
            assert len(latencies(recording)) == peer.requests
            assert len(peer.peers) == concurrency
        assert not recording.errors
        (lane,) = recording.lanes
        assert lane.answers is not None
        assert lane.first_ns is not None
        assert set(lane.answers) == {3}
        assert all(
            sent < first <= done for sent, first, done in zip(lane.sent_ns, lane.first_ns, lane.done_ns, strict=True)
        )

    def test_first_answers_are_timed(self) -> None:
        def respond_all(_body: bytes) -> Iterator[bytes]:
            time.sleep(0.01)
            yield b"more"
            time.sleep(0.02)
            yield b"empty"

        with Peer(respond_all=respond_all) as peer:
            recording = ask(stream(peer, rotations=((Request(b"x"),),)), 4)
        (lane,) = recording.lanes
        assert lane.answers is not None
        assert lane.first_ns is not None
        assert list(lane.answers) == [1] * 4
        for sent, first, done in zip(lane.sent_ns, lane.first_ns, lane.done_ns, strict=True):
            assert first - sent >= 10 * MS
            assert done - sent >= 30 * MS
        # Not each: the first may reach us late.
        assert max(done - first for first, done in zip(lane.first_ns, lane.done_ns, strict=True)) >= 10 * MS

    def test_large_ones(self) -> None:
        with Peer(respond_all=lambda body: iter([b"more" + body, body])) as peer:
            load = stream(peer, rotations=((Request(bytes(1_000_000)), Request(b"small")),))
            recording = ask(load, 10)
            assert len(latencies(recording)) == peer.requests == 10
            assert len(peer.peers) == 1

    def test_it_fails_in_mid_stream(self) -> None:
        def respond_all(body: bytes) -> Iterator[bytes]:
            yield b"more"
            if peer.requests % 3 == 0:
                raise RuntimeError("the model broke")
            yield body

        with Peer(respond_all=respond_all) as peer:
            recording = ask(stream(peer, rotations=((Request(b"last"),),)), 9)
            assert peer.requests == 9
        assert recording.errors == {"gRPC UNKNOWN": 3}
        assert "the model broke" in recording.error_sample
        assert len(latencies(recording)) == 6

    def test_connections_of_a_certain_age_are_replaced(self) -> None:
        options = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 10_000))
        with Peer(lambda body, _: body, lambda body: iter([b"more", body]), *options) as peer:
            recording = drive(stream(peer, rotations=((Request(b"last"),),)), WindowSpec(4, 1.0))
            assert len(latencies(recording)) == peer.requests
            assert len(peer.peers) > 4
        assert not recording.errors
