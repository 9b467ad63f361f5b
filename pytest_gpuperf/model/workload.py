"""What one request is, as a target hands it to the load generator.

Targets make workloads and the load generator replays them; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HttpWorkload:
    """One prebuilt HTTP/1.1 request, written byte for byte for every request of a window.

    Attributes:
        host, port: where it is sent.
        wire: head and body.
        batch_size: inferences that one request carries.
    """

    host: str
    port: int
    wire: bytes = field(repr=False)
    batch_size: int = 1


@dataclass(frozen=True)
class CallWorkload:
    """One in-process call, made again and again from as many threads as the concurrency says.

    Attributes:
        call: does one inference and returns when its result is there.
        batch_size: inferences that one call carries.
    """

    call: Callable[[], object] = field(repr=False)
    batch_size: int = 1


Workload = HttpWorkload | CallWorkload
