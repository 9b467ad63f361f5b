"""An HTTP/2 connection with a single stream in use at a time: frames, windows, control frames.

Subclasses know what the streams carry. Source: RFC 9113.
"""

from __future__ import annotations

import struct
from abc import abstractmethod

from pytest_gpuperf.limits import HEADER_BLOCK_BYTES, UNSENT_FRAMES, TooLargeError
from pytest_gpuperf.load import http2
from pytest_gpuperf.load.connection import BadResponse, Connection, ConnectionOwner, UntimelyAnswer

_SETTINGS = http2.settings(
    [(http2.HEADER_TABLE_SIZE, 0), (http2.ENABLE_PUSH, 0), (http2.INITIAL_WINDOW_SIZE, http2.MAX_WINDOW)]
)
_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS + http2.window_update(0, http2.MAX_WINDOW - http2.DEFAULT_WINDOW)
)
#: A frame is handed to the kernel in one piece; servers grant up to 16 MB.
_LARGEST_FRAME = 1 << 20
_WRONG_PORT = "is this the gRPC port, and are the TLS settings right?"


class Http2Connection(Connection):
    """Frames and flow control. The current stream is the one that was opened last."""

    #: The peer's window is widened again when this much of it is used up.
    REPLENISH = 1 << 30
    #: Stream numbers end at 2**31.
    LAST_STREAM = 2**31 - 3

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_stream",
        "_connection_window",
        "_frame_limit",
        "_goaway_reason",
        "_going",
        "_greeted",
        "_initial_window",
        "_last_flags",
        "_left",
        "_received",
        "_rest",
        "_sent_all",
        "_stream",
        "_stream_bytes",
        "_stream_received",
        "_stream_window",
        "_unsent_frames",
    )

    def __init__(self, loop: ConnectionOwner, address: int) -> None:
        super().__init__(loop, address)
        self.forget()

    def forget(self) -> None:
        self._rest = b""
        self._stream, self._stream_bytes = -1, b""
        self._connection_window = self._initial_window = self._stream_window = http2.DEFAULT_WINDOW
        self._frame_limit = http2.DEFAULT_FRAME
        self._received = self._stream_received = self._unsent_frames = 0
        self._greeted = self._going = False
        self._goaway_reason = ""
        self._last_flags = http2.END_STREAM
        self._left: memoryview | None = None
        self._sent_all = True
        self._block: bytearray | None = None
        self._block_flags = self._block_stream = 0

    # Implemented by subclasses.

    @abstractmethod
    def _take_data(self, content: memoryview, flags: int, done_ns: int) -> None:
        """Take data of the current stream."""

    @abstractmethod
    def _take_headers(self, block: bytes, flags: int, stream: int, done_ns: int) -> None:
        """Take a complete header block, of any stream: the coder's state may need all of them."""

    @abstractmethod
    def _take_end(self, name: str) -> None:
        """Handle the server's reset of the current stream, with the error of that name."""

    def greet(self) -> None:
        self.write(_PREFACE)

    def _broken(self, kind: str, detail: str) -> None:
        if self._goaway_reason:
            detail += f" (after {self._goaway_reason})"
        elif not self._greeted:
            detail += f" (it has sent no HTTP/2: {_WRONG_PORT})"
        super()._broken(kind, detail)

    # Sending.

    def _open_stream(self) -> bytes:
        """Open a stream and return its number in the form of frames."""
        self._stream += 2
        self._stream_received = 0
        self._stream_window = self._initial_window
        self._stream_bytes = self._stream.to_bytes(4, "big")
        return self._stream_bytes

    def _pump(self) -> None:
        """Send as much of the message as the peer's windows allow, without copying it."""
        left = self._left
        if left is None:
            return
        while left:
            size = min(len(left), self._frame_limit, self._connection_window, self._stream_window)
            if size <= 0:
                break
            self._connection_window -= size
            self._stream_window -= size
            flags = self._last_flags if size == len(left) else 0
            head = http2.FRAME.pack(size << 8 | http2.DATA, flags, self._stream)
            self._outbox.extend((memoryview(head), left[:size]))
            left = left[size:]
        self._left = left or None
        self._sent_all = not left
        self.flush()

    @property
    def _all_sent(self) -> bool:
        """Whether the kernel has all of the request."""
        return self._sent_all and not self._outbox

    # Receiving.

    def take(self, size: int, done_ns: int) -> None:
        data: bytes | memoryview = memoryview(self.loop.buffer)[:size]
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
                    raise BadResponse(f"a frame of {length} bytes, above the agreed {http2.DEFAULT_FRAME}")
                if end - at < http2.FRAME_BYTES + length:
                    break
                at += http2.FRAME_BYTES
                self._take_frame(kind, flags, stream & http2.MAX_WINDOW, view[at : at + length], done_ns)
                if self.socket is not source:
                    return
                at += length
        except UntimelyAnswer as error:
            self.loop.untimely(self, str(error))
            return
        except ValueError as error:
            self.loop.failed(self, "bad response", str(error))
            return
        if at < end:
            self._rest = bytes(view[at:])

    def _take_frame(self, kind: int, flags: int, stream: int, payload: memoryview, done_ns: int) -> None:
        if self._block is not None and kind != http2.CONTINUATION:
            raise BadResponse("the server sent another frame inside a header block")
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
                raise BadResponse("a continued header block without a beginning")
            self._block += payload
            if len(self._block) > HEADER_BLOCK_BYTES:
                raise TooLargeError("the header block", HEADER_BLOCK_BYTES)
            if flags & http2.END_HEADERS:
                block, self._block = bytes(self._block), None
                self._take_headers(block, self._block_flags, stream, done_ns)
        elif kind in _CONTROL:
            _CONTROL[kind](self, flags, stream, payload)

    def _credit(self, size: int, stream: int) -> None:
        """Widen the peer's windows again before they close."""
        self._received += size
        if self._received >= self.REPLENISH:
            self.write(http2.window_update(0, self._received))
            self._received = 0
        if stream == self._stream:
            self._stream_received += size
            if self._stream_received >= self.REPLENISH:
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
        if self._acknowledge(http2.frame(http2.SETTINGS, http2.ACK, 0)):
            self._pump()

    def _acknowledge(self, frame: bytes) -> bool:
        """Send the answer to a control frame; see ``write``."""
        self._unsent_frames = self._unsent_frames + 1 if self._outbox else 0
        if self._unsent_frames > UNSENT_FRAMES:
            raise BadResponse("the server sends control frames without reading the answers to them")
        return self.write(frame)

    def _take_ping(self, flags: int, _stream: int, payload: memoryview) -> None:
        if not flags & http2.ACK:
            self._acknowledge(http2.frame(http2.PING, http2.ACK, 0, bytes(payload)))

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
            self._goaway_reason = f"{kind}: {reason}" if reason else kind

    def _take_reset(self, _flags: int, stream: int, payload: memoryview) -> None:
        if stream != self._stream:
            return
        self._take_end(http2.error_name(int.from_bytes(payload[:4], "big")))

    def _take_window_update(self, _flags: int, stream: int, payload: memoryview) -> None:
        size = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        if not stream:
            self._connection_window += size
        elif stream == self._stream:
            self._stream_window += size
        if not size or max(self._connection_window, self._stream_window) > http2.MAX_WINDOW:
            raise BadResponse("a window update of 0 bytes, or beyond 2 GB")
        self._pump()

    def _take_promise(self, _flags: int, _stream: int, _payload: memoryview) -> None:
        raise BadResponse("a pushed answer, though pushes are disabled")


_CONTROL = {
    http2.SETTINGS: Http2Connection._take_settings,
    http2.PING: Http2Connection._take_ping,
    http2.GOAWAY: Http2Connection._take_goaway,
    http2.RST_STREAM: Http2Connection._take_reset,
    http2.WINDOW_UPDATE: Http2Connection._take_window_update,
    http2.PUSH_PROMISE: Http2Connection._take_promise,
}
