"""The HTTP/2 frames that a gRPC client needs. Source: RFC 9113; header blocks: RFC 7541."""

from __future__ import annotations

import struct
from collections.abc import Iterable

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = range(1, 6)

#: Values that hold until the peer's settings have come.
DEFAULT_WINDOW, DEFAULT_FRAME = 65_535, 16_384
MAX_WINDOW = 2**31 - 1

#: Length and type in a single number, flags, stream.
FRAME = struct.Struct(">IBI")
FRAME_BYTES = FRAME.size

_ERROR_NAMES = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *value) for value in values))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))


def literal(name: str, value: str) -> bytes:
    """Return a header, literal without indexing, so that a block means the same on every connection."""
    encoded = [text.encode("latin-1", "replace") for text in (name, value)]
    return b"\0" + b"".join(_length(len(text)) + text for text in encoded)


def _length(value: int) -> bytes:
    """Return the length of a string without Huffman coding: an integer with a prefix of 7 bits (RFC 7541, 5.1)."""
    if value < 0x7F:
        return bytes([value])
    out = bytearray([0x7F])
    value -= 0x7F
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def error_name(code: int) -> str:
    """Return the name of an error code in RFC 9113."""
    return _ERROR_NAMES[code] if code < len(_ERROR_NAMES) else f"error {code}"


def content(flags: int, payload: memoryview, *, priority: bool = False) -> memoryview:
    """Return the content of a frame, without padding and priority.

    Raises:
        ValueError: The frame is shorter than it states.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not end:
            raise ValueError("a padded frame without a padding length")
        start, end = 1, end - payload[0]
    if priority and flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise ValueError("a frame with more padding than room")
    return payload[start:end]
