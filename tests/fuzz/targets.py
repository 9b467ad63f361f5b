"""What is fuzzed: each target takes any bytes, and raises nothing but AssertionError for a wrong result."""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_gpuperf.cli.imports.profiles import record_of
from pytest_gpuperf.device import triton_metrics
from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.limits import SENTENCE_CHARS, uncompressed
from pytest_gpuperf.load import http2
from pytest_gpuperf.load.grpc_request import decode
from pytest_gpuperf.load.tally import sentence_of
from pytest_gpuperf.model import GRPC, GRPC_STREAM, HTTP
from pytest_gpuperf.targets.input_data import InputSettings, make_payloads
from pytest_gpuperf.targets.kserve import KServeClient, grpc_codec
from pytest_gpuperf.targets.kserve.client_http import read_document
from pytest_gpuperf.targets.kserve.output_check import OutputCheck
from pytest_gpuperf.targets.kserve.pipeline import stage_tree
from pytest_gpuperf.targets.kserve.served_model import ServedModel
from pytest_gpuperf.targets.payload import TensorSpec
from tests.fuzz import store_targets
from tests.fuzz.wire import COMPLETED, WAITING, Exchange, grpc_exchange, http_exchange

CORPUS = Path(__file__).with_name("corpus")
Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """A parser of bytes from outside.

    Attributes:
        make: Returns a function that takes an input; it may keep state, for speed.
        words: Pieces of the format.
        bounded: Inputs in a unit test.
    """

    name: str
    make: Callable[[], Run]
    corpus: Sequence[bytes]
    words: Sequence[bytes] = ()
    bounded: int = 10_000


def recorded(name: str) -> list[bytes]:
    """Return the recorded inputs of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def _run_of(exchange: Exchange, first: bytes = b"") -> Run:
    """Return a run that gives an answer at once and, now and then, in two pieces."""
    chance = random.Random(1).random
    count = 0

    def run(data: bytes) -> None:
        nonlocal count
        expected = exchange.outcome(first + data)
        count += 1
        if count % 8 == 0:
            at = int(chance() * len(data))
            if exchange.outcome(first + data[:at]) is WAITING:
                pieces = exchange.outcome(first + data[:at], data[at:])
                assert pieces == expected, (pieces, expected)

    return run


def _known_run(exchange: Exchange) -> Run:
    """Return a run that compares the fast path of an answer with the slow one."""

    def run(data: bytes) -> None:
        slow, fast = exchange.outcome(data), exchange.outcome(data, known=True)
        # A parser may skip line breaks between answers.
        assert fast == slow or (slow is COMPLETED and data.endswith((b"\r", b"\n"))), (fast, slow)

    return run


def _check(body: bytes, headers: Mapping[str, str]) -> str:
    return "" if len(body) % 3 else f"{len(body)} bytes and {len(headers)} headers"


def _frames_of_stream(answer: bytes, stream: int) -> bytes:
    """Return an answer on stream 1 as one on another stream, without the connection's frames."""
    frames, at = b"", 0
    while at + http2.FRAME_BYTES <= len(answer):
        word, flags, number = http2.FRAME.unpack_from(answer, at)
        end = at + http2.FRAME_BYTES + (word >> 8)
        if number == 1:
            frames += http2.FRAME.pack(word, flags, stream) + answer[at + http2.FRAME_BYTES : end]
        at = end
    return frames


_GREETING = http2.settings([(http2.MAX_FRAME_SIZE, 1 << 14)])
_FRAMES = [
    http2.frame(kind, flags, stream, payload)
    for kind in range(11)
    for flags in (0, http2.END_STREAM, http2.END_HEADERS, http2.PADDED)
    for stream in (0, 1, 3)
    for payload in (b"", b"\0\0\0\x01", b"\0\4\0\0\0\0", bytes(8))
]
_HEADERS = [
    http2.literal(*pair)
    for pair in (
        *((":status", "200"), (":status", "503"), ("content-type", "application/grpc"), ("grpc-status", "0")),
        *(("grpc-status", "13"), ("grpc-message", "%E2%82%AC"), ("grpc-encoding", "gzip")),
    )
]
_HTTP_WORDS = (
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n", b"\r\n\r\n"),
    *(b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.0 200 OK\r\n", b"Content-Length: 2\r\n", b"Content-Length: 0\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n", b"Connection: Upgrade\r\n"),
    *(
        b"2\r\n{}\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"Content-Encoding: gzip\r\n",
        b"Expect: 100-continue\r\n",
    ),
)
_JSON_WORDS = (
    *(
        b'"outputs":[',
        b'"shape":[-1]',
        b'"shape":[1e400]',
        b'"datatype":"BYTES"',
        b'"datatype":"BF16"',
        b'"data":[1,2]',
    ),
    *(b'"parameters":{"binary_data_size":4}', b'"name":[]', b"Infinity", b"NaN", b'{"a":', b"1e9999", b"9" * 5000),
)


_CONTROL_WORDS = (
    *(b'"inputs":[{"name":"x","datatype":"FP32","shape":[-1]}]', b'"outputs":[]', b'"model_stats":[{}]', b'"name":"m"'),
    *(b'"ensemble_scheduling":{"step":[{"model_name":"m"}]}', b'"max_batch_size":', b'"extensions":[{}]', b"1e999"),
    *(b'"inference_stats":{"success":{"count":3}}', b'"model_transaction_policy":{"decoupled":true}', b'"versions":{}'),
)


def _hpack(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode(data)


def _compressed(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert len(uncompressed(data, "it", 1 << 15)) <= 1 << 15


def _output_check(protocol: str) -> Run:
    expected = {"y": np.array([[0, 2, 4, 6, 8]], np.float32)}
    check = OutputCheck(protocol, expected, 1e-3)

    def run(data: bytes) -> None:
        headers = {}
        if protocol == HTTP:
            length, _, data = data.partition(b"\n")
            if length:
                headers["inference-header-content-length"] = length.decode("latin-1")
            encoding = {b"\x1f\x8b": "gzip", b"\x78\x9c": "deflate"}.get(data[:2])
            if encoding:
                headers["content-encoding"] = encoding
        assert isinstance(check(data, headers), str)

    return run


def _stream_message() -> Run:
    reader = grpc_codec.StreamReader()

    def run(data: bytes) -> None:
        assert isinstance(reader(data).error, str)

    return run


def _metrics(data: bytes) -> None:
    for gpu in triton_metrics.parse(data.decode(errors="replace")):
        assert isinstance(gpu.uuid, str)


def _sentence(data: bytes) -> None:
    sentence = sentence_of(data.decode(errors="replace"))
    assert len(sentence) <= SENTENCE_CHARS
    assert sentence.isprintable()


class _ToldClient(KServeClient):
    """A client whose server answers everything with the same bytes."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:8000")
        self.answer = b""

    def close(self) -> None:
        """Nothing is open."""

    def ready(self) -> bool:
        return True

    def _call(self, method: str, *_arguments: object) -> Any:
        return read_document(self.answer, method)


def _control() -> Run:
    client = _ToldClient()

    def described() -> None:
        model = ServedModel(client.model("m"), client.config("m"))
        model.check(client.address)
        stage_tree("m", model, client)
        assert model.digest

    calls: list[Callable[[], object]] = [
        *(client.extensions, client.server_version, described, client.all_server_times),
        lambda: client.server_times("m"),
    ]

    def run(data: bytes) -> None:
        client.answer = data
        for call in calls:
            with contextlib.suppress(TargetError):
                call()

    return run


def _written(read: Callable[[Path], object]) -> Run:
    """Return a run that reads each input from a file in memory."""
    descriptor = os.memfd_create("gpuperf-fuzz")
    path = Path(f"/proc/self/fd/{descriptor}")

    def run(data: bytes) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, data, 0)
        with contextlib.suppress(OptionError):
            read(path)

    return run


def _profile(path: Path) -> None:
    record_of([path], "test")


def _input_data(path: Path) -> None:
    specs = [TensorSpec("x", "FP32", (-1, 2)), TensorSpec("s", "BYTES", (-1, 1))]
    make_payloads(InputSettings(input_data=str(path)), specs, batch_size=2, batched=True)


_INPUT_DATA = [
    b'{"data": [{"x": [1, 2], "s": ["a"]}, {"x": {"content": [3, 4.5], "shape": [2]}, "s": {"b64": "YQ=="}}]}',
    b'{"data": [[{"x": [[1, 2]], "s": ["a"]}]], "validation_data": [{"y": [1]}]}',
]
_PROFILE = (
    b'{"experiments": [{"experiment": {"mode": "concurrency", "value": 2}, "requests": [{"timestamp": 1000, '
    b'"response_timestamps": [2000, 3000]}, {"timestamp": 1500, "response_timestamps": [2500]}, {"timestamp": 1700, '
    b'"response_timestamps": []}], "window_boundaries": [1000, 2000, 4000]}]}'
)


def _gzip_corpus() -> list[bytes]:
    bodies = [data.partition(b"\n")[2] for data in recorded("v2_json")]
    return [*bodies, gzip.compress(bytes(1 << 16)), zlib.compress(b"{}" * 999)[2:-4]]


def _second(protocol: str) -> tuple[bytes, list[bytes]]:
    """Return a right first answer, and answers to the second request of its connection."""
    right = (CORPUS / protocol / "right").read_bytes()
    return _GREETING + _frames_of_stream(right, 1), [_frames_of_stream(data, 3) for data in recorded(protocol)]


def targets() -> list[Target]:
    """Return all targets. Those of the wire are what a server sends while the load runs."""
    http, http_right = recorded("http"), (CORPUS / "http" / "right").read_bytes()
    grpc, stream = recorded("grpc"), recorded("grpc_stream")
    first, second = _second("grpc")
    blocks = [decoded for data in grpc for decoded in _blocks(data)]
    frames = [*_FRAMES, *_HEADERS]
    return [
        Target("http", lambda: _run_of(http_exchange()), http, _HTTP_WORDS),
        Target("http_checked", lambda: _run_of(http_exchange(check=_check)), http, _HTTP_WORDS),
        Target("http_known", lambda: _known_run(http_exchange(http_right)), http, _HTTP_WORDS),
        Target("grpc", lambda: _run_of(grpc_exchange(GRPC)), grpc, frames),
        Target("grpc_checked", lambda: _run_of(grpc_exchange(GRPC, check=_check)), grpc, frames),
        Target("grpc_known", lambda: _known_run(grpc_exchange(GRPC, first)), second, frames),
        Target("grpc_stream", lambda: _run_of(grpc_exchange(GRPC_STREAM)), stream, frames),
        Target("hpack", lambda: _hpack, blocks, _HEADERS),
        Target("gzip", lambda: _compressed, _gzip_corpus()),
        Target("v2_json", lambda: _output_check(HTTP), recorded("v2_json"), _JSON_WORDS),
        Target("grpc_message", lambda: _output_check(GRPC), recorded("grpc_message")),
        Target("grpc_stream_message", _stream_message, recorded("grpc_stream_message")),
        Target("control", _control, recorded("control"), _CONTROL_WORDS),
        Target("profile", lambda: _written(_profile), [_PROFILE], _JSON_WORDS, 1000),
        Target("input_data", lambda: _written(_input_data), _INPUT_DATA, _JSON_WORDS, 1000),
        Target("metrics", lambda: _metrics, [*recorded("metrics"), _GPU_METRICS]),
        Target(
            "record_file", lambda: store_targets.record_file, store_targets.record_files(), store_targets.WORDS, 3000
        ),
        Target("record", lambda: store_targets.sealed_record, store_targets.record_bodies(), store_targets.WORDS, 3000),
        Target("note", lambda: store_targets.sealed_note, store_targets.note_bodies(), store_targets.WORDS, 5000),
        Target("tar", store_targets.tar_import, store_targets.tars(), bounded=300),
        Target("sentence", lambda: _sentence, [data.partition(b"\r\n\r\n")[2] for data in http]),
    ]


_GPU_METRICS = b"""nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1e9
nv_energy_consumption{gpu_uuid="GPU-1"} 12.5
"""


def _blocks(answer: bytes) -> Iterator[bytes]:
    """Yield the header blocks of a recorded answer."""
    at = 0
    while at + http2.FRAME_BYTES <= len(answer):
        word, _, _ = http2.FRAME.unpack_from(answer, at)
        end = at + http2.FRAME_BYTES + (word >> 8)
        if word & 0xFF == http2.HEADERS:
            yield answer[at + http2.FRAME_BYTES : end]
        at = end
