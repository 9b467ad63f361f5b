"""Load points: the settings of the load that a sweep visits."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.model.arrivals import Arrivals


@dataclass(frozen=True)
class LoadPoint:
    """One setting of the load.

    Attributes:
        concurrency: Requests kept in flight (closed loop); 0 in open loop.
        batch_size: Inferences carried by one request.
        rate: Mean requests per second (open loop); 0 in closed loop.
        arrivals: Label of the arrival process (open loop), for example ``poisson``.
        cached: Whether answers came from the server's response cache. Set when a run is recorded, so that such a point
            is never compared with one whose answers were computed.
    """

    concurrency: int = 1
    batch_size: int = 1
    rate: float = 0.0
    arrivals: str = ""
    cached: bool = False

    def __post_init__(self) -> None:
        if self.concurrency < 0 or self.batch_size < 1 or self.rate < 0 or (self.concurrency > 0) == (self.rate > 0):
            raise ValueError(f"a load point has a concurrency or a rate, and a batch size of 1 or more: {self}")

    @classmethod
    def open_loop(cls, arrivals: Arrivals, batch_size: int = 1) -> LoadPoint:
        """Return the load point of an arrival process."""
        return cls(0, batch_size, arrivals.rate, arrivals.label)

    @property
    def label(self) -> str:
        """Readable text, for example ``concurrency 4, batch 8`` or ``500/s poisson``."""
        batch = f", batch {self.batch_size}" if self.batch_size != 1 else ""
        load = f"concurrency {self.concurrency}" if self.concurrency else f"{self.rate:g}/s {self.arrivals}"
        return load + batch + (", cached" if self.cached else "")
