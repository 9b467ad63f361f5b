"""Requests over gRPC in their written form, and the pattern of their answers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from pytest_gpuperf.extras import import_extra
from pytest_gpuperf.load import http2
from pytest_gpuperf.load.connection import BadResponse, headers_of
from pytest_gpuperf.model import GRPC_STREAM, Address, Request, WireWorkload


@dataclass(frozen=True)
class Pattern:
    """A complete unary answer, received at once: head, a single DATA frame, trailers, and the frames after them.

    A server repeats its answers. An answer of the same length whose bytes differ only in the stream's number and in the
    message means the same.

    Attributes:
        size: Length of the answer.
        head: Length, type and flags of the HEADERS frame.
        middle: The header block, and length, type and flags of the DATA frame.
        prefix: gRPC's five bytes before the message.
        tail: Offset of the trailers' frame.
        trailers: Length, type and flags of the trailers' frame.
        rest: The trailers, and the frames after them.
        credit: Bytes by which those frames widen the connection's window.
        data_bytes: Bytes by which the answer narrows the peer's window.
    """

    size: int
    head: bytes
    middle: bytes
    prefix: bytes
    tail: int
    trailers: bytes
    rest: bytes
    credit: int
    data_bytes: int


def pattern_of(answer: bytes, answer_stream: int) -> Pattern | None:
    """Return the pattern of a right answer on that stream; None if its frames are not those of ``Pattern``."""
    at, kinds, marks, credit = 0, [], [], 0
    while len(answer) - at >= http2.FRAME_BYTES:
        word, flags, stream = http2.FRAME.unpack_from(answer, at)
        kinds.append((word & 0xFF, flags, stream))
        marks.append(at)
        if word & 0xFF == http2.WINDOW_UPDATE and not stream:
            credit += int.from_bytes(answer[at + 9 : at + 13], "big")
        at += http2.FRAME_BYTES + (word >> 8)
    wanted = [
        (http2.HEADERS, http2.END_HEADERS, answer_stream),
        (http2.DATA, 0, answer_stream),
        (http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, answer_stream),
    ]
    credited = kinds[3:] == [(http2.WINDOW_UPDATE, 0, 0)] and credit
    if at != len(answer) or kinds[:3] != wanted or (kinds[3:] and not credited):
        return None
    _, data, tail = marks[:3]
    return Pattern(
        size=len(answer),
        head=answer[:5],
        middle=answer[9 : data + 5],
        prefix=answer[data + 9 : data + 14],
        tail=tail,
        trailers=answer[tail : tail + 5],
        rest=answer[tail + 9 :],
        credit=credit,
        data_bytes=tail - data - http2.FRAME_BYTES,
    )


class GrpcRequest:
    """A request in its written form.

    Attributes:
        before, between, message: HEADERS frame without its stream; DATA frame header without its stream; its content.
        small: Whether it fits into a single frame of any server.
        pattern: Pattern of the last right answer.
    """

    __slots__ = ("before", "between", "block", "check", "message", "pattern", "read_stream", "small", "streamed")

    def __init__(self, workload: WireWorkload, address: Address, request: Request) -> None:
        hpack_decoder()  # imported early: later, connections may use up all files that the process may open
        self.streamed = workload.protocol == GRPC_STREAM
        scheme = b"\x87" if workload.tls is not None else b"\x86"
        fixed = {"content-type": "application/grpc", "te": "trailers", "user-agent": "gpuperf"}
        # Names of HTTP/2 headers are lower case.
        headers = {name.lower(): value for name, value in headers_of(request, workload.headers).items()}
        pairs = {":path": workload.path, ":authority": headers.pop("host", address.label), **fixed, **headers}
        block = b"\x83" + scheme + b"".join(http2.literal(*pair) for pair in pairs.items())
        if len(block) > http2.DEFAULT_FRAME:
            raise ValueError("the headers take more than 16 kB")
        self.before = http2.frame(http2.HEADERS, http2.END_HEADERS, 0, block)[:5]
        self.block = block
        self.message = struct.pack(">BI", 0, len(request.body)) + request.body
        self.pattern: Pattern | None = None
        self.small = len(self.message) <= http2.DEFAULT_FRAME
        flags = 0 if self.streamed else http2.END_STREAM
        self.between = http2.FRAME.pack((len(self.message) & 0xFFFFFF) << 8 | http2.DATA, flags, 0)[:5]
        self.check = request.check
        self.read_stream = workload.read_stream


def hpack_decoder() -> Any:
    """Return a decoder for blocks that refer to no earlier block.

    Raises:
        MissingExtra: hpack is not installed.
    """
    decoder = import_extra("hpack", "hpack", "grpc", "measure over gRPC").Decoder()
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    return decoder


def decode(block: bytes) -> dict[str, str]:
    """Decode a header block that refers to no earlier block.

    Raises:
        ValueError: The block is malformed.
    """
    from hpack import HPACKError

    try:
        pairs = hpack_decoder().decode(block, raw=True)
    except HPACKError as error:
        raise BadResponse(f"headers that can't be read: {error}") from error
    return {bytes(name).decode("latin-1"): bytes(value).decode("latin-1") for name, value in pairs}
