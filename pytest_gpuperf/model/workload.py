"""Workloads: what one request is.

Targets make workloads and the load generator replays them; neither knows the other. Workloads can be pickled, since the
load is generated in separate processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import NamedTuple

#: Checks one answer: its body (HTTP) or message (gRPC), and its lower-case headers. Returns a sentence that says what
#: is wrong; empty if nothing is.
AnswerCheck = Callable[[bytes, Mapping[str, str]], str]


class StreamAnswer(NamedTuple):
    """One message of a stream.

    Attributes:
        last: Whether the request is over.
        empty: Whether the message carries no tensors and only ends the request.
        error: What went wrong; empty if nothing did.
    """

    last: bool
    empty: bool = False
    error: str = ""


ROUND_ROBIN, LEAST_OUTSTANDING = "round-robin", "least-outstanding"
HTTP, GRPC, GRPC_STREAM = "http", "grpc", "grpc-stream"


@dataclass(frozen=True)
class Address:
    """One of the servers that a workload is sent to.

    Attributes:
        weight: Its relative share of the requests.
        prefix: Path in front of the workload's path (HTTP), such as an ingress has; empty for none.
    """

    host: str
    port: int
    weight: float = 1.0
    prefix: str = ""

    @property
    def label(self) -> str:
        """``host:port``, with the brackets that an IPv6 address needs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """Settings of an encrypted connection. Files are in PEM format.

    Attributes:
        ca_file: Authorities that may sign the server's certificate; the system's if empty.
        cert_file, key_file: Client certificate and its key, for servers that require one.
        verify: Whether to refuse certificates that no known authority signed.
        verify_host: Whether to refuse certificates of another host.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True
    verify_host: bool = True


@dataclass(frozen=True)
class Request:
    """One prebuilt request.

    Attributes:
        body: HTTP body, or protobuf message without gRPC's five leading bytes.
        headers: Headers of this request alone, such as the length of its JSON part.
        check: Check of its answer; None to accept every answer with a good status.
        ends_sequence: False for a request to a stateful model that others of the same sequence must follow.
    """

    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    check: AnswerCheck | None = field(default=None, repr=False)
    ends_sequence: bool = True


@dataclass(frozen=True)
class WireWorkload:
    """Requests that are written to sockets, byte for byte.

    Attributes:
        protocol: ``http``, ``grpc``, or ``grpc-stream`` (one stream per connection, any number of answers per request).
        path: Path of the HTTP request or of the gRPC method.
        rotations: Requests to send in turn. One rotation for all requests in flight; or, if each needs a rotation to
            itself (output regions in shared memory, sequences), as many rotations as requests may be in flight.
        headers: Headers of all requests (authorization, ...).
        read_stream: Function that reads one message of an answer (streams).
        balance: How requests are spread over several addresses.
        batch_size: Inferences in one request.
        stateful: Whether each rotation consists of sequences: it begins with its first request, has one request in
            flight, and never stops in the middle of a sequence.
    """

    protocol: str
    addresses: tuple[Address, ...]
    path: str
    rotations: tuple[tuple[Request, ...], ...]
    headers: tuple[tuple[str, str], ...] = ()
    tls: Tls | None = None
    read_stream: Callable[[bytes], StreamAnswer] | None = None
    balance: str = ROUND_ROBIN
    batch_size: int = 1
    stateful: bool = False

    @property
    def max_in_flight(self) -> int | None:
        """Number of requests that may be in flight; None for any number."""
        return len(self.rotations) if len(self.rotations) > 1 or self.stateful else None


#: Results that show that a call did not run yet, and what to measure instead.
UNSTARTED_RESULTS: Mapping[type, str] = {
    CoroutineType: "a coroutine, which does nothing before it is awaited; write lambda: asyncio.run(infer())",
    GeneratorType: "a generator, which does nothing before it is read; write lambda: list(stream())",
    AsyncGeneratorType: "an async generator, which does nothing before it is read; write a coroutine function that "
    "reads it to its end, and lambda: asyncio.run(whole())",
}


@dataclass(frozen=True)
class CallWorkload:
    """An in-process call, repeated from as many threads as the concurrency says.

    Attributes:
        call: Function that does one inference and returns when it is done; ``UNSTARTED_RESULTS`` count as failures.
        batch_size: Inferences in one call.
    """

    call: Callable[[], object] = field(repr=False)
    batch_size: int = 1


Workload = WireWorkload | CallWorkload
