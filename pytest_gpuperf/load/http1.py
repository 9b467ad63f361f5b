"""KServe v2 over HTTP/1.1: prebuilt requests, and answers recognised by their heads.

A server repeats its response heads byte for byte, so a response whose first bytes equal the last complete 200 head
to the same request needs only its length checked. Everything else (another status, chunked bodies, a head in pieces)
goes through llhttp.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_gpuperf.clock import time
from pytest_gpuperf.load.connection import TOO_EARLY, UNASKED, Connection, ConnectionOwner, UntimelyAnswer, headers_of
from pytest_gpuperf.load.response import ResponseReader
from pytest_gpuperf.model import Address, AnswerCheck, Request, WireWorkload

now_ns = time.monotonic_ns

#: Bodies up to this length are joined with their head, for a single system call. Larger bodies are never copied.
_JOINED_BYTES = 1 << 14
#: Headers with the length of the body, which users can't set.
_OURS = ("content-length", "transfer-encoding")
#: How a response begins.
_VERSION = b"HTTP/1."
#: With this status, servers take leave of idle connections.
_REQUEST_TIMEOUT = b" 408"


class HttpRequest:
    """A request in its written form, and the head of the last good answer to it.

    Attributes:
        data: The complete request when it is small; else None, and ``parts`` has it.
        head: First bytes of an answer with ``length`` bytes in all; empty while none is known.
        known_length: ``length`` where an answer of this length and head is right; else -1.
    """

    __slots__ = ("check", "data", "head", "headers", "known_length", "length", "parts")

    def __init__(self, head: bytes, body: bytes, check: AnswerCheck | None) -> None:
        joined = len(body) <= _JOINED_BYTES
        self.data = head + body if joined else None
        self.parts = () if joined else (memoryview(head), memoryview(body))
        self.check = check
        self.head = b""
        self.length = 0
        self.known_length = -1
        self.headers: Mapping[str, str] = {}


def prepare(workload: WireWorkload, address: Address, request: Request) -> HttpRequest:
    """Return the request in its written form.

    Raises:
        ValueError: A header can't be written.
    """
    headers = {"Host": address.label}
    for name, value in headers_of(request, workload.headers).items():
        if name.lower() not in _OURS:
            headers["Host" if name.lower() == "host" else name] = value
    headers["Content-Length"] = str(len(request.body))
    path = address.prefix + workload.path
    if any(character in path for character in " \r\n"):
        raise ValueError(f"the path {path!r} has a blank or a line break")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1", "replace")
    head = f"POST {path} HTTP/1.1\r\n".encode() + lines + b"\r\n"
    return HttpRequest(head, request.body, request.check)


class Http1Connection(Connection):
    """A keep-alive connection."""

    __slots__ = ("_body", "_expected", "_head_bytes", "_headers", "_reader", "_received")

    prepare = staticmethod(prepare)

    def __init__(self, loop: ConnectionOwner, address: int) -> None:
        super().__init__(loop, address)
        self.forget()

    def forget(self) -> None:
        self._received = 0
        self._expected = 0  # length of the current response; 0 while not known
        self._reader: ResponseReader | None = None
        self._body: bytearray | None = None
        # Of the current response: the request's may change meanwhile, by an answer to it on another connection.
        self._head_bytes = 0
        self._headers: Mapping[str, str] = {}

    def greet(self) -> None:
        """HTTP/1.1 needs no greeting."""

    def send_request(self) -> None:
        request = self.request
        self._received = self._expected = 0
        self.sent_ns = now_ns()
        if request.data is not None:
            self.write(request.data)
        else:
            self._outbox.extend(request.parts)
            self.flush()

    def take_known(self, size: int, done_ns: int) -> bool:
        loop, request = self.loop, self.request
        if not loop.hot or size != request.known_length or not self.sent_ns or self._expected:
            return False
        if self._reader is not None or self._outbox or not loop.buffer.startswith(request.head):
            return False
        loop.add_row(self.sent_ns, done_ns)
        self.sent_ns = now_ns()
        self.write(request.data)
        return True

    def take(self, size: int, done_ns: int) -> None:
        request, buffer = self.request, self.loop.buffer
        if not self.sent_ns:
            if buffer[len(_VERSION) + 1 : size].startswith(_REQUEST_TIMEOUT):
                self.disconnect()
            else:
                self.loop.untimely(self, UNASKED)
            return
        if self._expected:
            self._received += size
        elif self._reader is None and size >= len(request.head) > 0 and buffer.startswith(request.head):
            self._received, self._expected = size, request.length
            self._body = bytearray() if request.check is not None else None
            self._head_bytes, self._headers = len(request.head), request.headers
        else:
            self._read(size, done_ns)
            return
        if self._body is not None:
            self._body += memoryview(buffer)[:size]
        if self._received >= self._expected:
            if surplus := self._received - self._expected:
                self._take_surplus(bytes(memoryview(buffer)[max(size - surplus, 0) : size]))
                return
            body = bytes(memoryview(self._body)[self._head_bytes :]) if self._body is not None else b""
            self._complete(done_ns, body, self._headers)

    def _take_surplus(self, surplus: bytes) -> None:
        """Handle bytes after the end of the answer."""
        if surplus.startswith(_VERSION[: len(surplus)]):
            self.loop.untimely(self, UNASKED)
        else:
            self.loop.failed(self, "bad response", "the server sent more than its Content-Length")

    def _read(self, size: int, done_ns: int) -> None:
        """Read a response that doesn't look like the last one."""
        request = self.request
        reader = self._reader = self._reader or ResponseReader(keep_body=request.check is not None)
        try:
            reader.feed(memoryview(self.loop.buffer)[:size])
        except UntimelyAnswer as error:
            self.loop.untimely(self, str(error))
            return
        except ValueError as error:
            self.loop.failed(self, "bad response", str(error))
            return
        if not reader.done:
            return
        self._reader = None
        if reader.status != 200:
            keep = reader.keeps_alive and not self._outbox
            self.loop.failed(self, f"HTTP {reader.status}", reader.text(), keep=keep)
            return
        head = reader.head()
        if head is not None:
            request.head, request.length, request.headers = head, len(head) + reader.body_bytes, reader.headers
            request.known_length = request.length if request.check is None and request.data is not None else -1
        self._complete(done_ns, bytes(reader.body), reader.headers, keep=reader.keeps_alive)

    def _complete(self, done_ns: int, body: bytes, headers: Mapping[str, str], *, keep: bool = True) -> None:
        if self._outbox:
            self.loop.untimely(self, TOO_EARLY)
            return
        check = self.request.check
        wrong = check(body, headers) if check is not None else ""
        if not keep:
            self.disconnect()
        self._received = self._expected = 0
        if wrong:
            self.loop.failed(self, "wrong answer", wrong, keep=keep)
        else:
            self.loop.completed(self, done_ns)
