"""A bounded number of fuzzed inputs; ``python -m tests.fuzz --long`` runs as many as there is time for."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Mapping
from itertools import accumulate, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpuperf.load import http2
from pytest_gpuperf.model import GRPC
from tests.fuzz.runs import SLOWEST_S, Fuzzer
from tests.fuzz.targets import Target, targets
from tests.fuzz.wire import COMPLETED, grpc_exchange, http_exchange


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_no_input_from_outside_is_more_than_a_typed_error(target: Target) -> None:
    counts = Fuzzer(target, seed=12).batch(target.bounded, limit_s=0.7)
    assert counts.crashes == {}
    assert counts.slowest_s < SLOWEST_S


PIECES = st.lists(st.integers(1, 60), max_size=8)


def in_pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    edges = [*(edge for edge in accumulate(sizes, initial=0) if edge < len(data)), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@st.composite
def right_http(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and one of the ways to send it with status 200."""
    body = draw(st.binary(max_size=200))
    name = st.text("abcdefghijklmnop-", min_size=1, max_size=12).map(lambda text: f"x-{text}")
    headers = draw(st.lists(st.tuples(name, st.text("abc 0123", max_size=20)), max_size=4))
    lines = [f"{name}: {value}" for name, value in headers]
    before = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    if draw(st.booleans()):
        framed, lines = body, [*lines, f"Content-Length: {len(body)}"]
    else:
        sizes = draw(st.lists(st.integers(1, 50), max_size=6))
        extension = draw(st.sampled_from([b"", b";name=value"]))
        chunks = [chunk for chunk in in_pieces(body, sizes) if chunk]
        framed = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n\r\n"
        lines.append("Transfer-Encoding: chunked")
    head = "\r\n".join([f"HTTP/1.1 200 {draw(st.sampled_from(['OK', 'Fine']))}", *lines]).encode()
    return body, before + head + b"\r\n\r\n" + framed


@given(right_http(), PIECES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_right_answer_is_taken_however_it_is_framed_and_delivered(
    answer: tuple[bytes, bytes], sizes: list[int]
) -> None:
    body, data = answer
    bodies: list[bytes] = []

    def check(received: bytes, _headers: Mapping[str, str]) -> str:
        bodies.append(received)
        return ""

    for exchange in (http_exchange(check=check), http_exchange(data, check)):
        assert exchange.outcome(*in_pieces(data, sizes), known=True) is COMPLETED
        assert bodies[-1] == body


_CONTROL = st.sampled_from(
    [
        http2.frame(http2.PING, 0, 0, bytes(8)),
        http2.window_update(0, 1000),
        http2.settings([(http2.MAX_FRAME_SIZE, 1 << 15)]),
        http2.frame(http2.DATA, 0, 99, b"of an older stream"),
        http2.frame(0x20, 0, 1, b"an unknown frame"),
    ]
)


def _headers(block: bytes, flags: int, parts: int = 1) -> bytes:
    """Return a header block in a HEADERS frame and continuations."""
    size = -(-len(block) // parts)
    pieces = [block[at : at + size] for at in range(0, len(block), size)]
    frames = b""
    for index, piece in enumerate(pieces):
        ends = http2.END_HEADERS if index == len(pieces) - 1 else 0
        kind = http2.CONTINUATION if index else http2.HEADERS
        frames += http2.frame(kind, ends | (0 if index else flags), 1, piece)
    return frames


@st.composite
def right_grpc(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A message, and one of the ways to send it with status 0."""
    body, compressed = draw(st.binary(max_size=300)), draw(st.booleans())
    content = gzip.compress(body) if compressed else body
    message = struct.pack(">BI", compressed, len(content)) + content
    pairs = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-encoding", "gzip")]
    frames = [
        _headers(b"".join(http2.literal(*pair) for pair in pairs), 0, draw(st.integers(1, 3))),
        *(http2.frame(http2.DATA, 0, 1, piece) for piece in in_pieces(message, draw(PIECES))),
        _headers(http2.literal("grpc-status", "0"), http2.END_STREAM),
    ]
    for between in draw(st.lists(_CONTROL, max_size=4)):
        frames.insert(draw(st.integers(0, len(frames) - 1)), between)
    return body, http2.settings([]) + b"".join(frames)


@given(right_grpc(), PIECES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_right_grpc_answer_is_taken_whatever_comes_between(answer: tuple[bytes, bytes], sizes: list[int]) -> None:
    body, data = answer
    bodies: list[bytes] = []

    def check(received: bytes, _headers: Mapping[str, str]) -> str:
        bodies.append(received)
        return ""

    assert grpc_exchange(GRPC, check=check).outcome(*in_pieces(data, sizes)) is COMPLETED
    assert bodies == [body]
