"""Reading one HTTP response whatever its framing, through llhttp."""

from __future__ import annotations

import re

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_UNSAFE = re.compile(rb"\r\n(?:transfer-encoding:|connection:[ \t]*close)", re.IGNORECASE)


class ResponseReader:
    """Reads one response that doesn't look like the last one."""

    def __init__(self) -> None:
        from httptools import HttpResponseParser

        self._parser = HttpResponseParser(self)
        self.raw = bytearray()
        self.body = bytearray()
        self.body_bytes = 0
        self.done = False
        self._answers = 0
        self.status = 0
        self.keeps_alive = False

    def feed(self, data: memoryview) -> None:
        """Take more bytes of the response.

        Raises:
            ValueError: they are not HTTP, or go on after the response's end.
        """
        from httptools import HttpParserError

        if self.done:
            raise ValueError("bytes after the end of the response")
        if len(self.raw) < 1 << 16:
            self.raw += data
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise ValueError(str(error)) from error
        if self._answers > 1:
            raise ValueError("the server sent a second answer to one request")

    def head(self) -> bytes | None:
        """The head, if a response that begins with the same bytes must have the same length."""
        head, end, _ = bytes(self.raw).partition(b"\r\n\r\n")
        framed = head + end
        safe = end and self.status == 200 and self.keeps_alive and _CONTENT_LENGTH.search(framed)
        return framed if safe and not _UNSAFE.search(framed) else None

    # Called by llhttp.
    def on_message_begin(self) -> None:
        self._answers += 1

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if len(self.body) < 4096:
            self.body += body

    def on_message_complete(self) -> None:
        # Read here: llhttp forgets both once the message is over.
        self.status, self.keeps_alive = int(self._parser.get_status_code()), bool(self._parser.should_keep_alive())
        self.done = True
