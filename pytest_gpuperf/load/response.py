"""Reading an HTTP response of any framing, through llhttp."""

from __future__ import annotations

import re
import zlib

# Imported early: later, connections may use up all files that the process may open.
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from pytest_gpuperf.limits import ANSWER_BYTES, FRAMING_BYTES, HEAD_BYTES, TooLargeError
from pytest_gpuperf.load.connection import UNASKED, UntimelyAnswer

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_UNSAFE = re.compile(rb"\r\n(?:transfer-encoding:|connection:[ \t]*close)", re.IGNORECASE)
_KEPT_HEAD = 1 << 16
_KEPT_TEXT = 4096
#: Type, flags and stream of the frame with which every HTTP/2 server begins.
_HTTP2_SETTINGS = b"\x04\0\0\0\0\0"


class ResponseReader:
    """Reads a response that doesn't look like the last one.

    Attributes:
        raw: The first bytes of the response.
        body: All of the body if ``keep_body``, else its beginning.
        body_bytes: Length of the body.
        headers: The headers, with names in lower case.
        done: Whether the response is complete.
    """

    def __init__(self, *, keep_body: bool = False) -> None:
        self._parser = HttpResponseParser(self)
        self._keep_body = keep_body
        self.raw = bytearray()
        self.body = bytearray()
        self.body_bytes = 0
        self.headers: dict[str, str] = {}
        self.done = False
        self._answers = self._read_bytes = 0
        self.status = 0
        self.keeps_alive = False

    def feed(self, data: memoryview) -> None:
        """Parse further bytes of the response.

        Raises:
            ValueError: They are not HTTP, or go on after the response's end.
            UntimelyAnswer: They contain another response.
        """
        if self.done:
            raise ValueError("bytes after the end of the response")
        if len(self.raw) < _KEPT_HEAD:
            self.raw += data
        self._read_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as error:
            raise ValueError("the server switched to another protocol (101), which was not requested") from error
        except HttpParserError as error:
            if self.raw[3:9] == _HTTP2_SETTINGS:
                raise ValueError(f"{error}: the server speaks HTTP/2 (is that the gRPC port?)") from error
            raise ValueError(str(error)) from error
        if self.body_bytes > ANSWER_BYTES:
            raise TooLargeError("the answer", ANSWER_BYTES)
        if self._read_bytes - self.body_bytes > HEAD_BYTES + FRAMING_BYTES * self.body_bytes:
            raise TooLargeError("the answer's head or framing", HEAD_BYTES)
        if self._answers > 1:
            raise UntimelyAnswer(UNASKED)

    def head(self) -> bytes | None:
        """Return the head if a response that begins with the same bytes must have the same length."""
        head, end, _ = bytes(self.raw).partition(b"\r\n\r\n")
        framed = head + end
        safe = end and self.status == 200 and self.keeps_alive and _CONTENT_LENGTH.search(framed)
        return framed if safe and not _UNSAFE.search(framed) else None

    def text(self) -> str:
        """Return the beginning of the body as readable text."""
        body = bytes(self.body)
        if self.headers.get("content-encoding", "") in ("gzip", "deflate"):
            try:
                body = zlib.decompressobj(wbits=47).decompress(body, _KEPT_TEXT)
            except zlib.error:
                body = b"(a compressed body that can't be read)"
        return body.decode("utf-8", "replace")

    # Called by llhttp.
    def on_message_begin(self) -> None:
        self._answers += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if self._keep_body or len(self.body) < _KEPT_TEXT:
            self.body += body

    def on_message_complete(self) -> None:
        # Read here: llhttp forgets both once the message is over.
        self.status, self.keeps_alive = int(self._parser.get_status_code()), bool(self._parser.should_keep_alive())
        if 100 <= self.status < 200 and not self.done:
            # An announcement ("100 Continue"); the answer follows.
            self._answers -= 1
            self.headers.clear()
            self.raw.clear()
        else:
            self.done = True
