"""What one request is, as a target hands it to the load generator.

Targets make workloads and the load generator replays them; neither knows the other. All of it can be pickled, since
the load is generated in processes of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import NamedTuple

#: Looks at one answer: its body (HTTP) or message (gRPC), and its headers, lower case. Empty when it is right, else
#: a sentence that says what is wrong.
AnswerCheck = Callable[[bytes, Mapping[str, str]], str]


class StreamAnswer(NamedTuple):
    """What one message of a stream says.

    Attributes:
        last: the request is over.
        empty: it only says so, and carries no tensors.
        error: what went wrong; empty when nothing did.
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
        weight: its share of the requests, relative to the other addresses.
    """

    host: str
    port: int
    weight: float = 1.0

    @property
    def label(self) -> str:
        """``host:port``, with the brackets that an IPv6 address needs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Tls:
    """How a server is trusted, and how it may know us. Files are in PEM format.

    Attributes:
        ca_file: who may have signed the server's certificate; the system's authorities when empty.
        cert_file, key_file: the client's own certificate, for servers that ask for one.
        verify: refuse certificates that nobody known has signed.
        verify_host: refuse certificates for another host.
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
        body: HTTP body, or protobuf message without gRPC's five bytes in front.
        headers: that only this request has, such as the length of its JSON part.
        check: what its answer is held against; None to take every answer with a good status.
    """

    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()
    check: AnswerCheck | None = field(default=None, repr=False)


@dataclass(frozen=True)
class WireWorkload:
    """Requests that are written to sockets, byte for byte.

    Attributes:
        protocol: ``http``, ``grpc``, or ``grpc-stream`` (a stream for each connection, any number of answers to a
            request).
        path: of the HTTP request, or the gRPC method's.
        rotations: what is sent in turn. One rotation for all requests in flight; or, where each needs its own (output
            regions in shared memory), as many rotations as requests may be in flight.
        headers: that all requests have (authorization, ...).
        read_stream: of streams: reads one message of an answer.
        balance: how requests are spread over several addresses, each with its weight.
        batch_size: inferences that one request carries.
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

    @property
    def max_in_flight(self) -> int | None:
        """How many requests may be in flight; None where it doesn't matter."""
        return len(self.rotations) if len(self.rotations) > 1 else None


#: What a function gives back that has not even begun, and what to measure instead of it.
UNSTARTED_RESULTS: Mapping[type, str] = {
    CoroutineType: "a coroutine, which does nothing before it is awaited; write lambda: asyncio.run(infer())",
    GeneratorType: "a generator, which does nothing before it is read; write lambda: list(stream())",
    AsyncGeneratorType: "an async generator, which does nothing before it is read; write a coroutine function that "
    "reads it to its end, and lambda: asyncio.run(whole())",
}


@dataclass(frozen=True)
class CallWorkload:
    """One in-process call, made again and again from as many threads as the concurrency says.

    Attributes:
        call: does one inference and returns when its result is there; one of ``UNSTARTED_RESULTS`` counts as a failure.
        batch_size: inferences that one call carries.
    """

    call: Callable[[], object] = field(repr=False)
    batch_size: int = 1


Workload = WireWorkload | CallWorkload
