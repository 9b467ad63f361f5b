"""KServe v2 over gRPC: hand-framed HTTP/2, one request in flight on each connection.

The request is a HEADERS frame that never changes and DATA frames, of which only the stream's number does. The header
table has size 0, so a header block means the same whatever came before: known good blocks are recognised by their
bytes, and ``hpack`` decodes only new ones. Source: gRPC over HTTP/2 (grpc/grpc, PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from pytest_gpuperf.clock import time
from pytest_gpuperf.limits import ANSWER_BYTES, TooLargeError, uncompressed
from pytest_gpuperf.load import http2
from pytest_gpuperf.load.connection import TOO_EARLY, UNASKED, BadResponse, UntimelyAnswer
from pytest_gpuperf.load.grpc_request import GrpcRequest, decode, pattern_of
from pytest_gpuperf.load.http2_connection import Http2Connection

now_ns = time.monotonic_ns

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
#: Most header blocks that are remembered by their bytes; in practice there are two or three.
_KNOWN_BLOCKS = 64
_PREFIX_BYTES = 5
#: One DATA frame and what is around it.
_LONGEST_PATTERN = 2 * http2.DEFAULT_FRAME


class GrpcConnection(Http2Connection):
    """An HTTP/2 connection whose streams are gRPC calls.

    Attributes:
        first_ns, answers: When the first answer of a streaming request came, and how many came.
    """

    __slots__ = ("_headers", "_message", "_piece", "_streaming", "answers", "first_ns")

    prepare = staticmethod(GrpcRequest)

    def forget(self) -> None:
        super().forget()
        self.first_ns = self.answers = self._piece = 0
        self._streaming = False
        self._message = bytearray()
        self._headers: Mapping[str, str] = {}

    # Sending.

    def send_request(self) -> None:
        request = self.request
        if self._going or self._stream >= self.LAST_STREAM:
            # The server has announced that it takes no more requests on this connection.
            self.disconnect()
            self.asked_ns = now_ns()
            self._connect()
            return
        self.first_ns = self.answers = 0
        self._message.clear()
        if not self._streaming:
            self._headers = {}
            stream = self._open_stream()
            head = request.before + stream + request.block
            self._streaming = request.streamed
        else:
            stream, head = self._stream_bytes, b""
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
        self._last_flags = 0 if request.streamed else http2.END_STREAM
        self._left = memoryview(message)
        if head and not self.write(head):
            return
        self._pump()

    # Receiving.

    def take_known(self, size: int, done_ns: int) -> bool:
        if not self._repeats(size):
            return False
        loop = self.loop
        if loop.hot and not self._going:
            loop.add_row(self.sent_ns, done_ns)
            self.send_request()
        else:
            loop.completed(self, done_ns)
        return True

    def _repeats(self, size: int) -> bool:
        """Return whether this repeats the last right answer to the request; its flow control is then counted."""
        pattern = self.request.pattern
        if pattern is None or size != pattern.size or not self.sent_ns or self._rest or self._headers or self._outbox:
            return False
        if self._message or self._block is not None or not self._sent_all or self._received + size >= self.REPLENISH:
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
        # Whether these bytes may be a complete answer.
        complete = size <= _LONGEST_PATTERN and not (self._rest or self._headers or self._message)
        self._piece = size if complete else 0
        super().take(size, done_ns)

    def _take_data(self, content: memoryview, flags: int, done_ns: int) -> None:
        if not self.busy:
            if self._streaming:
                raise UntimelyAnswer(UNASKED)  # further answers can't be distinguished from it
            return
        self._expect(done_ns)
        self._message += content
        if len(self._message) > _LONGEST_PATTERN:
            self._check_length()
        if flags & http2.END_STREAM:
            raise BadResponse("the answer ended without a status")
        if self._streaming:
            self._take_messages(done_ns)

    def _check_length(self) -> None:
        """Check that a long message will end, and within the limit."""
        length = int.from_bytes(self._message[1:_PREFIX_BYTES], "big")
        if length > ANSWER_BYTES:
            raise TooLargeError("the answer", ANSWER_BYTES)
        if not self._streaming and len(self._message) > _PREFIX_BYTES + length:
            raise BadResponse("the answer is longer than it states")

    def _expect(self, done_ns: int) -> None:
        """Check that bytes received at ``done_ns`` may belong to the request in flight."""
        if done_ns < self.sent_ns:
            # Only a stream of its own says which request an answer belongs to.
            kind = UntimelyAnswer if self._streaming else BadResponse
            raise kind("the server answered before the request was sent")

    def _take_headers(self, block: bytes, flags: int, stream: int, done_ns: int) -> None:
        """Take the answer's head, or the trailers that end it; blocks of other streams belong to abandoned requests."""
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
        """Handle the end of the stream."""
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
            raise BadResponse(TOO_EARLY)
        else:
            message = self._message
            if len(message) < _PREFIX_BYTES or len(message) != _PREFIX_BYTES + int.from_bytes(message[1:5], "big"):
                raise BadResponse("the answer is not a single message of its stated length")
            if self._piece and self.request.check is None:
                self.request.pattern = pattern_of(bytes(memoryview(self.loop.buffer)[: self._piece]), self._stream)
            if wrong := self._wrong(message):
                self.loop.failed(self, "wrong answer", wrong, keep=True)
            else:
                self.loop.completed(self, done_ns)

    def _wrong(self, message: bytes | bytearray) -> str:
        if self.request.check is None:
            return ""
        return str(self.request.check(self._body(message), self._headers))

    def _body(self, message: bytes | bytearray) -> bytes:
        """Return the uncompressed content of a message."""
        if not message[0] & 1:
            return bytes(memoryview(message)[_PREFIX_BYTES:])
        encoding = self._headers.get("grpc-encoding", "identity")
        if encoding not in ("gzip", "deflate"):
            raise BadResponse(f"the answer is compressed with {encoding}, which can't be read")
        return uncompressed(memoryview(message)[_PREFIX_BYTES:], f"the answer's {encoding}")

    def _take_messages(self, done_ns: int) -> None:
        """Take the answers of a streaming request up to the one that is marked as last."""
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
                    raise UntimelyAnswer(TOO_EARLY)
                if buffer:
                    raise UntimelyAnswer(UNASKED)
                self.first_ns = self.first_ns or done_ns
                self.loop.completed(self, done_ns)

    def _fail(self, kind: str, detail: str) -> None:
        """Fail a request that the server refused; the connection stays open if all of it was sent."""
        self.loop.failed(self, kind, detail, keep=self._all_sent and not self._streaming)

    def _take_end(self, name: str) -> None:
        if self.busy:
            self._streaming = False
            self._fail(f"RST_STREAM {name}", "the server ended the request's stream")
        elif self._streaming:
            self.disconnect()
