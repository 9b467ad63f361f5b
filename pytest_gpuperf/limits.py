"""Size limits of inputs from outside, and functions that read within a limit.

Limits of time are defined where the wait is: they follow from the window and its deadline
(``load.generator.WindowSpec.longest_s``), or are constants of that module whose names end in ``_S``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

_MIB = 1 << 20

#: An answer to a request, also after decompression.
ANSWER_BYTES = 256 * _MIB
#: Everything of an HTTP answer but its body: status line, headers, announcements, framing of chunks.
HEAD_BYTES = _MIB
#: The framing of a chunked body may take this many bytes for each byte of the body.
FRAMING_BYTES = 8
#: A header block of HTTP/2.
HEADER_BLOCK_BYTES = 1 << 17
#: Answers to control frames of HTTP/2 that wait for a server which doesn't read.
UNSENT_FRAMES = 10_000
#: The JSON part of an answer: its objects take up to 30 times as much memory.
JSON_BYTES = 32 * _MIB
#: An answer to a control call: metadata, configuration, statistics.
CONTROL_BYTES = 16 * _MIB
#: The Prometheus metrics of a server.
METRICS_BYTES = 16 * _MIB
#: A message between ``gpuperf duet`` and one of its sides; the largest hold a record.
MESSAGE_BYTES = 256 * _MIB
#: The end of a server's log that is read for messages.
LOG_BYTES = 4 * _MIB
#: A sentence of a server about a failed request, as it is kept for messages.
SENTENCE_CHARS = 300
#: Different sentences about failed requests that are counted in a window.
SENTENCES = 100
#: Sentences of each type of failure that are kept with a window: the most frequent ones.
SENTENCES_SHOWN = 3
#: The last output of a worker process, for messages.
OUTPUT_BYTES = 1 << 16


class TooLargeError(ValueError):
    """An input is larger than its limit.

    Args:
        what: The input, as the subject of a sentence.
    """

    def __init__(self, what: str, limit: int) -> None:
        size = f"{limit / _MIB:g} MiB" if limit >= _MIB else f"{limit >> 10} KiB"
        super().__init__(f"{what} is larger than {size}, the most that is read")


def read_within(read: Callable[[int], bytes], limit: int, what: str) -> bytes:
    """Read an input to its end.

    Args:
        read: Reads up to a number of bytes; returns none at the end.

    Raises:
        TooLargeError: The input is larger than ``limit``.
    """
    content = bytearray()
    while part := read(min(limit + 1 - len(content), _MIB)):
        content += part
        if len(content) > limit:
            raise TooLargeError(what, limit)
    return bytes(content)


def uncompressed(data: bytes | memoryview, what: str, limit: int = ANSWER_BYTES) -> bytes:
    """Return the content of gzip, zlib or raw DEFLATE data (which some servers send as "deflate").

    Raises:
        TooLargeError: The content is larger than ``limit``.
        ValueError: The data is damaged or incomplete.
    """
    try:
        return _inflated(data, 32 + zlib.MAX_WBITS, what, limit)
    except zlib.error as error:
        try:
            return _inflated(data, -zlib.MAX_WBITS, what, limit)
        except zlib.error:
            raise ValueError(f"{what} is damaged: {error}") from error


def _inflated(data: bytes | memoryview, wbits: int, what: str, limit: int) -> bytes:
    decompressor = zlib.decompressobj(wbits)
    content = decompressor.decompress(data, limit)
    if decompressor.eof:
        return content
    if len(content) == limit:
        raise TooLargeError(what, limit)
    raise zlib.error("it is incomplete")
