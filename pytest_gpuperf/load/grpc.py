"""KServe v2 over gRPC: hand-framed HTTP/2, one request in flight on each connection.

The request is a HEADERS frame that never changes and DATA frames, of which only the stream's number does. We ask for a
header table of size 0, so an answer's header blocks mean the same whatever came before: known good ones are told by
their bytes, and ``hpack`` decodes only unfamiliar ones. Source: gRPC over HTTP/2 (grpc/grpc, PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Mapping
from urllib.parse import unquote

from pytest_gpuperf.load import http2
from pytest_gpuperf.load.connection import BadResponse, Connection
from pytest_gpuperf.load.grpc_request import GrpcRequest, decode, pattern_of
from pytest_gpuperf.load.loop import Loop

now_ns = time.monotonic_ns

_SETTINGS = http2.settings(
    [(http2.HEADER_TABLE_SIZE, 0), (http2.ENABLE_PUSH, 0), (http2.INITIAL_WINDOW_SIZE, http2.MAX_WINDOW)]
)
_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS + http2.window_update(0, http2.MAX_WINDOW - http2.DEFAULT_WINDOW)
)
#: The peer's sending window is widened again when so much of it is used up.
_REPLENISH = 1 << 30
#: Stream numbers end at 2**31.
_LAST_STREAM = 2**31 - 3
#: gRPC's status codes (grpc/grpc, statuscodes.md).
_STATUS = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]
#: Header blocks that are known to be good, by their bytes; there are two or three in practice.
_KNOWN_BLOCKS = 64
_LONGEST_BLOCK = 1 << 20
#: A frame is handed to the kernel in one piece; servers grant up to 16 MB.
_LARGEST_FRAME = 1 << 20
_PREFIX_BYTES = 5
#: One DATA frame and what is around it.
_LONGEST_PATTERN = 2 * http2.DEFAULT_FRAME
_WRONG_PORT = "is it the gRPC port, and is TLS as it should be?"
_TOO_EARLY = "the server answered before it had the whole request"


class GrpcConnection(Connection):
    """An HTTP/2 connection.

    Attributes:
        first_ns, answers: of a streaming request: when its first answer came, and how many came.
    """

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_stream",
        "_connection_window",
        "_frame_limit",
        "_going",
        "_greeted",
        "_headers",
        "_initial_window",
        "_last_words",
        "_left",
        "_message",
        "_piece",
        "_received",
        "_rest",
        "_sent_all",
        "_stream",
        "_stream_bytes",
        "_stream_received",
        "_stream_window",
        "_streaming",
        "answers",
        "first_ns",
    )

    prepare = staticmethod(GrpcRequest)

    def __init__(self, loop: Loop, address: int) -> None:
        super().__init__(loop, address)
        self.first_ns = self.answers = 0
        self.forget()

    def forget(self) -> None:
        self._rest, self._piece = b"", 0
        self._stream, self._stream_bytes = -1, b""
        self._connection_window = self._initial_window = self._stream_window = http2.DEFAULT_WINDOW
        self._frame_limit = http2.DEFAULT_FRAME
        self._received = self._stream_received = 0
        self._greeted = self._going = self._streaming = False
        self._last_words = ""
        self._left: memoryview | None = None
        self._sent_all = True
        self._block: bytearray | None = None
        self._block_flags = self._block_stream = 0
        self._message = bytearray()
        self._headers: Mapping[str, str] = {}

    def greet(self) -> None:
        self.write(_PREFACE)

    def _broken(self, kind: str, detail: str) -> None:
        if self._last_words:
            detail += f" (it had said {self._last_words})"
        elif not self._greeted:
            detail += f" (it has said nothing in HTTP/2: {_WRONG_PORT})"
        super()._broken(kind, detail)

    # Sending.

    def send_request(self) -> None:
        request = self.request
        if self._going or self._stream >= _LAST_STREAM:
            # The server said that it takes no more requests here.
            self.disconnect()
            self.asked_ns = now_ns()
            self._connect()
            return
        self.first_ns = self.answers = 0
        self._message.clear()
        if not self._streaming:
            self._headers = {}
            self._stream += 2
            self._stream_received = 0
            self._stream_window = self._initial_window
            stream = self._stream_bytes = self._stream.to_bytes(4, "big")
            head = request.before + stream + request.block
            self._streaming = request.streamed
        else:
            stream, head = self._stream.to_bytes(4, "big"), b""
        message = request.message
        size = len(message)
        self.sent_ns = now_ns()
        if request.small and size <= self._connection_window and size <= self._stream_window and not self._left:
            self._connection_window -= size
            self._stream_window -= size
            self._sent_all = True
            self.write(b"".join((head, request.between, stream, message)))
            return
        self._sent_all = False
        self._left = memoryview(message)
        if head and not self.write(head):
            return
        self._pump()

    def _pump(self) -> None:
        """Send as much of the message as the peer's windows allow, without copying it."""
        left = self._left
        if left is None:
            return
        end_stream = 0 if self.request.streamed else http2.END_STREAM
        while left:
            size = min(len(left), self._frame_limit, self._connection_window, self._stream_window)
            if size <= 0:
                break
            self._connection_window -= size
            self._stream_window -= size
            flags = end_stream if size == len(left) else 0
            self.queue(memoryview(http2.FRAME.pack(size << 8 | http2.DATA, flags, self._stream)), left[:size])
            left = left[size:]
        self._left = left or None
        self._sent_all = not left
        self.flush()

    # Receiving.

    def take_known(self, size: int, done_ns: int) -> bool:
        if not self._repeats(size):
            return False
        loop = self.loop
        if loop.hot and not self._going:
            loop.record(self.sent_ns, done_ns)
            self.send_request()
        else:
            loop.completed(self, done_ns)
        return True

    def _repeats(self, size: int) -> bool:
        """Whether this is the answer that was right before, to the request in flight; its windows are then counted."""
        pattern = self.request.pattern
        if pattern is None or size != pattern.size or not self.sent_ns or self._rest or self._headers or self._outbox:
            return False
        if self._message or self._block is not None or not self._sent_all or self._received + size >= _REPLENISH:
            return False
        buffer, stream = self.loop.buffer, self._stream_bytes
        if not buffer.startswith(pattern.head + stream + pattern.middle + stream + pattern.prefix):
            return False
        tail = pattern.tail
        if buffer[tail : tail + 9] != pattern.trailers + stream or buffer[tail + 9 : size] != pattern.rest:
            return False
        if self._connection_window + pattern.credit > http2.MAX_WINDOW:
            return False
        self._connection_window += pattern.credit
        self._received += pattern.data_bytes
        return True

    def take(self, size: int, done_ns: int) -> None:
        data: bytes | memoryview = memoryview(self.loop.buffer)[:size]
        # Whether an answer may begin and end in what came now.
        whole = size <= _LONGEST_PATTERN and not (self._rest or self._headers or self._message)
        self._piece = size if whole else 0
        if self._rest:
            data = self._rest + data
            self._rest = b""
        view = memoryview(data)
        at, end = 0, len(view)
        source = self.socket
        try:
            while end - at >= http2.FRAME_BYTES:
                word, flags, stream = http2.FRAME.unpack_from(view, at)
                length, kind = word >> 8, word & 0xFF
                if not self._greeted and (kind != http2.SETTINGS or flags & http2.ACK):
                    raise BadResponse(f"this is not an HTTP/2 server ({_WRONG_PORT})")
                if length > http2.DEFAULT_FRAME:
                    raise BadResponse(f"a frame of {length} bytes, where {http2.DEFAULT_FRAME} were agreed on")
                if end - at < http2.FRAME_BYTES + length:
                    break
                at += http2.FRAME_BYTES
                self._take_frame(kind, flags, stream & http2.MAX_WINDOW, view[at : at + length], done_ns)
                if self.socket is not source:
                    return
                at += length
        except ValueError as error:
            self.loop.failed(self, "bad response", str(error))
            return
        if at < end:
            self._rest = bytes(view[at:])

    def _take_frame(self, kind: int, flags: int, stream: int, payload: memoryview, done_ns: int) -> None:
        if self._block is not None and kind != http2.CONTINUATION:
            raise BadResponse("a header block that doesn't go on")
        if kind == http2.DATA:
            self._credit(len(payload), stream)
            if stream == self._stream:
                self._take_data(http2.content(flags, payload), flags, done_ns)
        elif kind == http2.HEADERS:
            part = http2.content(flags, payload, priority=True)
            if flags & http2.END_HEADERS:
                self._take_headers(bytes(part), flags, stream, done_ns)
            else:
                self._block, self._block_flags, self._block_stream = bytearray(part), flags, stream
        elif kind == http2.CONTINUATION:
            if self._block is None or stream != self._block_stream:
                raise BadResponse("a header block that goes on without a beginning")
            self._block += payload
            if len(self._block) > _LONGEST_BLOCK:
                raise BadResponse("a header block without end")
            if flags & http2.END_HEADERS:
                block, self._block = bytes(self._block), None
                self._take_headers(block, self._block_flags, stream, done_ns)
        elif kind in _CONTROL:
            _CONTROL[kind](self, flags, stream, payload)

    def _take_data(self, content: memoryview, flags: int, done_ns: int) -> None:
        """Of our stream."""
        if not self.busy:
            if self._streaming:
                self.disconnect()  # an answer that nobody asked for: what comes next can't be told from it
            return
        self._expect(done_ns)
        self._message += content
        if flags & http2.END_STREAM:
            raise BadResponse("the answer ended without a status")
        if self._streaming:
            self._take_messages(done_ns)

    def _expect(self, done_ns: int) -> None:
        """What came at ``done_ns`` may belong to the request in flight."""
        if done_ns < self.sent_ns:
            raise BadResponse("an answer that came before its request was sent")

    def _take_headers(self, block: bytes, flags: int, stream: int, done_ns: int) -> None:
        """Of our stream: the answer's head, or the trailers that end it. Of others: what we gave up."""
        known = self.loop.known_blocks
        headers = known.get(block)
        if headers is None:
            headers = decode(block)
            if len(known) < _KNOWN_BLOCKS:
                known[block] = headers
        if stream != self._stream:
            return
        if not self.busy:
            self.disconnect()  # the server has ended an idle stream
            return
        self._expect(done_ns)
        if not self._headers:
            self._headers = headers
            status = headers.get(":status", "without a status")
            if status != "200":
                self._fail(f"HTTP {status}", "the server (or a proxy before it) refused the request")
                return
            if not headers.get("content-type", "").startswith("application/grpc"):
                raise BadResponse(f"the answer's content type is {headers.get('content-type')!r}, not gRPC's")
        if flags & http2.END_STREAM:
            self._end(headers, done_ns)

    def _end(self, trailers: Mapping[str, str], done_ns: int) -> None:
        """The stream is over."""
        self._streaming = False
        status = trailers.get("grpc-status")
        if status is None:
            raise BadResponse("the answer ended without a status")
        if status != "0":
            name = _STATUS[int(status)] if status.isdigit() and int(status) < len(_STATUS) else status
            self._fail(f"gRPC {name}", unquote(trailers.get("grpc-message", "")))
        elif self.request.streamed:
            self._fail("stream ended", "the server ended the stream before it had answered")
        elif not self._all_sent:
            raise BadResponse(_TOO_EARLY)
        else:
            message = self._message
            if len(message) < _PREFIX_BYTES or len(message) != _PREFIX_BYTES + int.from_bytes(message[1:5], "big"):
                raise BadResponse("the answer is not one message of the length that it says")
            if self._piece and self.request.check is None:
                self.request.pattern = pattern_of(bytes(memoryview(self.loop.buffer)[: self._piece]), self._stream)
            self._answer(bytes(message) if self.request.check is not None else b"", done_ns)

    def _answer(self, message: bytes, done_ns: int) -> None:
        """A whole answer, right if its check says so."""
        wrong = self._wrong(message)
        if wrong:
            self.loop.failed(self, "wrong answer", wrong, keep=not self._streaming)
        else:
            self.loop.completed(self, done_ns)

    def _wrong(self, message: bytes) -> str:
        if self.request.check is None:
            return ""
        return str(self.request.check(self._body(message), self._headers))

    def _body(self, message: bytes) -> bytes:
        """What a message carries, unpacked."""
        if not message[0] & 1:
            return message[_PREFIX_BYTES:]
        encoding = self._headers.get("grpc-encoding", "identity")
        if encoding not in ("gzip", "deflate"):
            raise BadResponse(f"the answer is compressed with {encoding}, which can't be read")
        try:
            return zlib.decompress(message[_PREFIX_BYTES:], wbits=47)
        except zlib.error as error:
            raise BadResponse(f"the answer's {encoding} is damaged: {error}") from error

    def _take_messages(self, done_ns: int) -> None:
        """The answers of a streaming request, of which the last one says so."""
        buffer = self._message
        while len(buffer) >= _PREFIX_BYTES and self.busy:
            end = _PREFIX_BYTES + int.from_bytes(buffer[1:5], "big")
            if len(buffer) < end:
                return
            message = bytes(buffer[:end])
            del buffer[:end]
            answer = self.request.read_stream(self._body(message))
            if answer.error:
                self.loop.failed(self, "stream error", answer.error)
                return
            if not answer.empty:
                self.first_ns = self.first_ns or done_ns
                self.answers += 1
                if wrong := self._wrong(message):
                    self.loop.failed(self, "wrong answer", wrong)
                    return
            if answer.last:
                if not self._all_sent:
                    raise BadResponse(_TOO_EARLY)
                if buffer:
                    raise BadResponse("the server sent more than the last answer")
                self.first_ns = self.first_ns or done_ns
                self.loop.completed(self, done_ns)

    def _fail(self, kind: str, detail: str) -> None:
        """The server refused the request; the connection is still good if all of it was sent."""
        self.loop.failed(self, kind, detail, keep=self._all_sent and not self._streaming)

    @property
    def _all_sent(self) -> bool:
        """The kernel has all of the request."""
        return self._sent_all and not self.unsent

    def _credit(self, size: int, stream: int) -> None:
        """Widen the peer's windows again before they close."""
        self._received += size
        if self._received >= _REPLENISH:
            self.write(http2.window_update(0, self._received))
            self._received = 0
        if stream == self._stream:
            self._stream_received += size
            if self._stream_received >= _REPLENISH:
                self.write(http2.window_update(stream, self._stream_received))
                self._stream_received = 0

    # Control frames.

    def _take_settings(self, flags: int, _stream: int, payload: memoryview) -> None:
        if flags & http2.ACK:
            return
        self._greeted = True
        if len(payload) % 6:
            raise BadResponse("a SETTINGS frame of a wrong length")
        for name, value in struct.iter_unpack(">HI", payload):
            if name == http2.INITIAL_WINDOW_SIZE:
                if value > http2.MAX_WINDOW:
                    raise BadResponse("an initial window beyond 2 GB")
                # It also moves the window of the stream that is open, possibly below zero.
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif name == http2.MAX_FRAME_SIZE:
                self._frame_limit = min(max(value, http2.DEFAULT_FRAME), _LARGEST_FRAME)
        if self.write(http2.frame(http2.SETTINGS, http2.ACK, 0)):
            self._pump()

    def _take_ping(self, flags: int, _stream: int, payload: memoryview) -> None:
        if not flags & http2.ACK:
            self.write(http2.frame(http2.PING, http2.ACK, 0, bytes(payload)))

    def _take_goaway(self, _flags: int, _stream: int, payload: memoryview) -> None:
        if len(payload) < 8:
            raise BadResponse("a GOAWAY frame that is too short")
        last, code = struct.unpack_from(">II", payload)
        kind = f"GOAWAY {http2.error_name(code)}"
        reason = bytes(payload[8:200]).decode("utf-8", "replace")
        self._going = True
        if not self.busy:
            self.disconnect()
        elif self._stream > last & http2.MAX_WINDOW:
            self.loop.failed(self, kind, reason or "the server takes no more requests")
        else:
            self._last_words = f"{kind}: {reason}" if reason else kind

    def _take_reset(self, _flags: int, stream: int, payload: memoryview) -> None:
        if stream != self._stream:
            return
        if self.busy:
            name = http2.error_name(int.from_bytes(payload[:4], "big"))
            self._streaming = False
            self._fail(f"RST_STREAM {name}", "the server ended the request's stream")
        elif self._streaming:
            self.disconnect()

    def _take_window_update(self, _flags: int, stream: int, payload: memoryview) -> None:
        size = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        if not stream:
            self._connection_window += size
        elif stream == self._stream:
            self._stream_window += size
        if not size or max(self._connection_window, self._stream_window) > http2.MAX_WINDOW:
            raise BadResponse("a window update by nothing, or beyond 2 GB")
        self._pump()

    def _take_promise(self, _flags: int, _stream: int, _payload: memoryview) -> None:
        raise BadResponse("a pushed answer, which we had ruled out")


_CONTROL = {
    http2.SETTINGS: GrpcConnection._take_settings,
    http2.PING: GrpcConnection._take_ping,
    http2.GOAWAY: GrpcConnection._take_goaway,
    http2.RST_STREAM: GrpcConnection._take_reset,
    http2.WINDOW_UPDATE: GrpcConnection._take_window_update,
    http2.PUSH_PROMISE: GrpcConnection._take_promise,
}
