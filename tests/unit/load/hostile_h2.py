"""gRPC servers that misbehave, on plain sockets in threads of this process. Frames are made by hand here, and
what the client sends is held against RFC 9113: its breaches are in ``Server.breaches``."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, NamedTuple

import pytest
from hpack import Decoder, Encoder

from pytest_gpuperf.load import agreement as agreement_module
from pytest_gpuperf.load import loop as loop_module
from pytest_gpuperf.load.generator import Recording, WindowSpec
from pytest_gpuperf.load.loop import Loop
from pytest_gpuperf.model import GRPC, Address, Request, WireWorkload
from tests.unit.load.listening import HOST, Listening
from tests.unit.load.wire import recorded

PATH = "/inference.GRPCInferenceService/ModelInfer"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIORITISED = 4, 8, 0x20
INITIAL_WINDOW, MAX_FRAME = 4, 5
Pairs = Iterable[tuple[str, str]]
#: A loop that needs longer for a few requests hangs.
_HANGS_S = 60.0


# Frames.


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """One frame; ``length`` is what it says, if that isn't true."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *value) for value in values))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def goaway(last: int, code: int = 0, text: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code) + text)


def rst_stream(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def block(pairs: Pairs) -> bytes:
    """Headers, each literal without indexing: short ones only."""
    out = b""
    for name, value in pairs:
        for number, text in enumerate((name.encode(), value.encode("latin-1"))):
            assert len(text) < 127
            out += (b"" if number else b"\0") + bytes([len(text)]) + text
    return out


def huffman_block(pairs: Pairs) -> bytes:
    """The same with the dynamic table (of size 0, as the client asked for) and Huffman codes."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(list(pairs), huffman=True)


HEAD_PAIRS = ((":status", "200"), ("content-type", "application/grpc"))
HEAD = block(HEAD_PAIRS)
OK = block([("grpc-status", "0")])


def status_block(status: str, text: str | None = None) -> bytes:
    return block([("grpc-status", status), *([("grpc-message", text)] if text is not None else [])])


def message(body: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A gRPC message; ``length`` is what it says, if that isn't true."""
    return bytes([compressed]) + struct.pack(">I", len(body) if length is None else length) + body


def data_frames(stream: int, content: bytes, flags: int = 0, size: int = 16_384) -> bytes:
    pieces = [content[at : at + size] for at in range(0, len(content), size)] or [b""]
    return b"".join(
        frame(DATA, flags if at == len(pieces) - 1 else 0, stream, piece) for at, piece in enumerate(pieces)
    )


def head(stream: int, content: bytes = HEAD, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, content)


def end(stream: int, content: bytes = OK) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, content)


def answer(stream: int, body: bytes = b"right") -> bytes:
    """A correct answer."""
    return head(stream) + data_frames(stream, message(body)) + end(stream)


# The server.


class HangUp(Exception):
    """The server is through with this connection."""


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Peer:
    """One connection, from the server's side: reads frames and keeps the books on what the client may do.

    Attributes:
        largest: length of the client's longest DATA frame.
        begun: the last stream on which an answer was begun, for behaviours.
        pongs: payloads of the client's PING acknowledgements.
        updates: the client's window updates, by stream.
    """

    def __init__(self, server: Server, link: Any, number: int) -> None:
        self.server, self.link, self.number = server, link, number
        self.pongs: list[bytes] = []
        self.updates: dict[int, int] = {}
        self.largest = self.begun = 0
        self._pending: list[dict[int, int]] = []
        self._limits = {INITIAL_WINDOW: 65_535, MAX_FRAME: 16_384}
        self._window, self._windows = 65_535, dict[int, int]()
        self._ended: set[int] = set()
        self._content: dict[int, bytearray] = {}
        self._headers: dict[int, dict[str, str]] = {}
        self._decoder = Decoder()
        self._last = 0

    def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """Send the pieces as packets of their own."""
        for index, piece in enumerate(pieces):
            if index:
                time.sleep(pause_s)
            self._note(piece)
            self.link.sendall(piece)

    def _note(self, data: bytes) -> None:
        """What we grant, as far as whole honest frames at the start of a piece say."""
        while len(data) >= 9:
            size, kind, flags = int.from_bytes(data[:3], "big"), data[3], data[4]
            stream, payload = int.from_bytes(data[5:9], "big"), data[9 : 9 + size]
            if kind == WINDOW_UPDATE and size == 4:
                self._grant(stream, int.from_bytes(payload, "big"))
            elif kind == SETTINGS and not flags & ACK and size % 6 == 0:
                self._pending.append(dict(struct.iter_unpack(">HI", payload)))
            data = data[9 + size :]

    def _grant(self, stream: int, size: int) -> None:
        if stream:
            self._windows[stream] = self._windows.get(stream, self._limits[INITIAL_WINDOW]) + size
        else:
            self._window += size

    def window(self, stream: int) -> int:
        """What the client may still send there."""
        return min(self._window, self._windows[stream])

    def received(self, stream: int) -> int:
        """What has come of the request, with gRPC's five bytes."""
        return len(self._content[stream])

    def grant(self, stream: int, size: int) -> None:
        """Widen the windows of the stream and of the connection."""
        self.send(window_update(0, size) + window_update(stream, size))

    def read(self, size: int) -> bytes:
        """
        Raises:
            HangUp: the client is gone.
        """
        data = bytearray()
        while len(data) < size:
            piece = self.link.recv(size - len(data))
            if not piece:
                raise HangUp
            data += piece
        return bytes(data)

    def greet(self) -> None:
        if self.read(len(PREFACE)) != PREFACE:
            self._breach("no preface")
        if self.server.greeting is not None:
            self.send(self.server.greeting)

    def next_frame(self) -> Frame:
        """The client's next frame, after its books have been kept."""
        start = self.read(9)
        kind, flags, stream = start[3], start[4], int.from_bytes(start[5:], "big")
        got = Frame(kind, flags, stream, self.read(int.from_bytes(start[:3], "big")))
        if len(got.payload) > self._limits[MAX_FRAME]:
            self._breach(f"a frame of {len(got.payload)} bytes")
        if kind == SETTINGS:
            self._take_settings(got)
        elif kind == PING and flags & ACK:
            self.pongs.append(got.payload)
        elif kind == WINDOW_UPDATE:
            self.updates[stream] = self.updates.get(stream, 0) + int.from_bytes(got.payload, "big")
        elif kind == HEADERS:
            self._take_headers(got)
        elif kind == DATA:
            self._take_data(got)
        return got

    def next_call(self) -> Call:
        """The next request that is complete; with ``server.early``, that has begun."""
        while True:
            got = self.next_frame()
            content = self._content.get(got.stream)
            if content is None:
                continue
            if got.kind == DATA and got.payload:
                self.server.replenish(self, got)
            if self.server.early:
                if got.kind == HEADERS:
                    return Call(
                        self, self.server.arrived(), got.stream, self._headers[got.stream], b"", time.monotonic_ns()
                    )
            elif got.kind == DATA and len(content) >= 5 and len(content) >= 5 + int.from_bytes(content[1:5], "big"):
                body = bytes(content[5:])
                content.clear()
                return Call(
                    self, self.server.arrived(), got.stream, self._headers[got.stream], body, time.monotonic_ns()
                )

    def _take_settings(self, got: Frame) -> None:
        if not got.flags & ACK:
            if self.server.greeting is not None:
                self.send(frame(SETTINGS, ACK, 0))
        elif not self._pending:
            self._breach("acknowledged settings that were never sent")
        else:
            values = self._pending.pop(0)
            moved = values.get(INITIAL_WINDOW, self._limits[INITIAL_WINDOW]) - self._limits[INITIAL_WINDOW]
            self._windows = {stream: window + moved for stream, window in self._windows.items()}
            self._limits.update(values)

    def _take_headers(self, got: Frame) -> None:
        if got.stream % 2 == 0 or got.stream <= self._last or not got.flags & END_HEADERS:
            self._breach(f"HEADERS for stream {got.stream} after {self._last}")
        self._last = got.stream
        self._windows[got.stream] = self._windows.get(got.stream, self._limits[INITIAL_WINDOW])
        self._content[got.stream] = bytearray()
        self._headers[got.stream] = {str(name): str(value) for name, value in self._decoder.decode(got.payload)}

    def _take_data(self, got: Frame) -> None:
        if got.stream not in self._content or got.stream in self._ended:
            self._breach(f"DATA for stream {got.stream}, which is not open")
            return
        self._content[got.stream] += got.payload
        self.largest = max(self.largest, len(got.payload))
        self._window -= len(got.payload)
        self._windows[got.stream] -= len(got.payload)
        if got.payload and min(self._window, self._windows[got.stream]) < 0:
            self._breach(f"a window of {self._window} and {self._windows[got.stream]} bytes")
        if got.flags & END_STREAM:
            self._ended.add(got.stream)

    def _breach(self, what: str) -> None:
        self.server.breaches.append(what)


@dataclass
class Call:
    """A request that a server has read.

    Attributes:
        number: of the request, over all connections, from 0.
        read_ns: when the server had read it.
    """

    peer: Peer
    number: int
    stream: int
    headers: dict[str, str]
    body: bytes
    read_ns: int

    def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        self.peer.send(*pieces, pause_s=pause_s)

    def answer(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        """A correct answer in these packets: the client has it not before the last of them."""
        pieces = pieces or (answer(self.stream),)
        self.send(*pieces[:-1], pause_s=pause_s)
        if pieces[1:]:
            time.sleep(pause_s)
        self.peer.server.log(self.read_ns, time.monotonic_ns())
        self.send(pieces[-1])

    def hang_up(self) -> None:
        """Close the connection in order (FIN)."""
        raise HangUp

    def reset(self) -> None:
        """Tear it down (RST)."""
        self.peer.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise HangUp

    def wait(self, until: Callable[[], object]) -> None:
        """Read frames until something is true of the peer."""
        while not until():
            self.peer.next_frame()


Behaviour = Callable[[Call], None]


def at_once(peer: Peer, got: Frame) -> None:
    """Give back the windows as the request comes in."""
    peer.grant(got.stream, len(got.payload))


def when_exhausted(size: int, pause_s: float = 0.0) -> Callable[[Peer, Frame], None]:
    """Give so much when nothing more can come."""

    def replenish(peer: Peer, got: Frame) -> None:
        if peer.window(got.stream) <= 0:
            time.sleep(pause_s)
            peer.grant(got.stream, size)

    return replenish


def never(_peer: Peer, _got: Frame) -> None:
    """Leave the windows to the behaviour."""


class Server(Listening):
    """Has every request answered by ``behave``, each connection in a thread of its own.

    Args:
        greeting: what is sent when the client's preface is there; None: nothing, nor are its settings acknowledged.
        early: call ``behave`` when the request's headers have been read, not when its message has.
        replenish: called with every DATA frame; widens the client's windows.
        tls: speak TLS.
        raw: instead of all that: what to do with the bare socket.

    Attributes:
        requests: how many were read.
        good: when each request that got a correct answer had been read, and its last packet was about to be sent.
        breaches: where the client broke HTTP/2's rules.
        peers: all connections.
    """

    def __init__(
        self,
        behave: Behaviour = Call.answer,
        *,
        greeting: bytes | None = settings(),
        early: bool = False,
        replenish: Callable[[Peer, Frame], None] = at_once,
        receive_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
        raw: Callable[[socket.socket], None] | None = None,
    ) -> None:
        self._behave, self._tls, self._raw = behave, tls, raw
        self.greeting, self.early, self.replenish = greeting, early, replenish
        self.requests = 0
        self.good: list[tuple[int, int]] = []
        self.breaches: list[str] = []
        self.peers: list[Peer] = []
        super().__init__(receive_bytes=receive_bytes)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is None:
            assert not self.breaches

    def arrived(self) -> int:
        with self.lock:
            self.requests += 1
            return self.requests - 1

    def log(self, read_ns: int, last_ns: int) -> None:
        with self.lock:
            self.good.append((read_ns, last_ns))

    def serve(self, link: socket.socket, number: int) -> None:
        bare = link
        with contextlib.suppress(HangUp, OSError), contextlib.ExitStack() as stack:
            stack.callback(self._forget, bare)
            stack.enter_context(closing(link))
            if self._tls is not None:
                link = stack.enter_context(closing(self._tls.wrap_socket(link, server_side=True)))
                with self.lock:
                    self.open.add(link)
            if self._raw is not None:
                self._raw(link)
                return
            peer = Peer(self, link, number)
            self.peers.append(peer)
            peer.greet()
            while True:
                self._behave(peer.next_call())

    def _forget(self, link: Any) -> None:
        with self.lock:
            self.open.discard(link)


def closes_at_once(link: socket.socket) -> None:
    """For ``raw``: reads something, and closes."""
    link.recv(65_536)


# Driving the client.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed requests are tried again after 5 ms, not 50."""
    monkeypatch.setattr(loop_module, "_POLL_S", 0.005)
    monkeypatch.setattr(agreement_module, "_STEP_NS", 5_000_000)


def workload(server: Server, body: bytes = b"request", **settings_: Any) -> WireWorkload:
    """Unary requests to that server."""
    check = settings_.pop("check", None)
    request = Request(body, (), check)
    plain = WireWorkload(GRPC, (Address(HOST, server.port),), PATH, ((request,),))
    return replace(plain, **settings_)


@dataclass
class Driver:
    """A loop that must come to an end."""

    loop: Loop
    load: WireWorkload
    _found: list[Any] = field(default_factory=list)

    def window(self, spec: WindowSpec) -> Recording:
        """Run a window in a thread, so that one without end is seen."""
        thread = threading.Thread(target=self._run, args=(spec,), daemon=True)
        thread.start()
        thread.join(_HANGS_S)
        assert not thread.is_alive(), "the window never ends"
        outcome = self._found.pop()
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, Recording)
        return outcome

    def _run(self, spec: WindowSpec) -> None:
        try:
            tally, columns = self.loop.window(self.load, spec)
            self._found.append(recorded(tally, columns))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._found.append(error)


def drive(load: WireWorkload, spec: WindowSpec) -> Recording:
    with closing(Loop(load)) as loop:
        return Driver(loop, load).window(spec)


def ask(load: WireWorkload, requests: int = 1, deadline_s: float = 20.0) -> Recording:
    """So many requests, one after the other, and whatever becomes of them."""
    return drive(load, WindowSpec(1, 0.0, min_requests=requests, deadline_s=deadline_s))


def latencies(recording: Recording) -> list[int]:
    return [done - sent for lane in recording.lanes for sent, done in zip(lane.sent_ns, lane.done_ns, strict=True)]


def assert_true_times(recording: Recording, good: Sequence[tuple[int, int]]) -> None:
    """Of requests one after the other: every recorded life contains what the server knows of it."""
    (lane,) = recording.lanes
    assert len(lane.done_ns) == len(good)
    for sent, done, (read, last) in zip(lane.sent_ns, lane.done_ns, good, strict=True):
        assert sent <= read
        assert done >= last
