"""What serving costs: prices of machines, what a machine serves at a load point, and fleets made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_gpuperf.model.load_point import LoadPoint

#: A twelfth of 365 days, as the providers' own calculators count it.
HOURS_PER_MONTH = 730.0


@dataclass(frozen=True)
class Price:
    """What one instance costs.

    Attributes:
        instance: the provider's name, as ``g5.xlarge``.
        gpu: the product name as NVML tells it, as ``NVIDIA A10G``; ``CPU ...`` with the model's name for a CPU.
        count: GPUs (with a MIG profile: slices) in one instance.
        usd_per_hour: of the whole instance.
        date: when that was the price, as ``2026-01-31``.
        source: where it was read, and on which terms.
        mig_profile: of the slices that the row is of; empty for whole GPUs.
        cores: of a CPU; 0 for GPUs.
    """

    instance: str
    gpu: str
    count: int
    usd_per_hour: float
    date: str
    source: str
    mig_profile: str = ""
    cores: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 < self.usd_per_hour < math.inf:
            raise ValueError(f"a price is positive, of one GPU or more: {self}")


@dataclass(frozen=True)
class OperatingPoint:
    """What one copy of the target serves at a load point, on the careful side of what its runs show.

    Attributes:
        throughput: inferences per second. Closed loop: of the slowest run. Open loop: what was asked for and sustained.
        mean_ns: mean latency.
        latency_ns: by quantile, as ``p90``, of the slowest run; only those for which there were enough requests.
        runs: how many it rests on.
        throughput_range: of the slowest and the fastest run.
        latency_range_ns: likewise, by quantile.
    """

    sweep: str
    point: LoadPoint
    throughput: float
    mean_ns: float
    latency_ns: Mapping[str, float]
    runs: int = 1
    throughput_range: tuple[float, float] = (0.0, 0.0)
    latency_range_ns: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Demand:
    """What a fleet is to serve.

    Attributes:
        inferences_per_s: on average.
        batch_size: inferences that come in one request; None where they may be put together as one likes.
        budget_ns: the most that each quantile may be, by its name.
        headroom: share by which the load may grow before the fleet leaves the budget.
        loop: which points answer: ``open``, ``closed``, or ``auto``: the open-loop ones where there are any.
    """

    inferences_per_s: float
    batch_size: int | None = 1
    budget_ns: Mapping[str, float] = field(default_factory=dict)
    headroom: float = 0.0
    loop: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.inferences_per_s < math.inf or not 0 <= self.headroom < math.inf:
            raise ValueError(f"a demand is positive, its headroom 0 or more: {self}")
        if self.loop not in ("auto", "open", "closed"):
            raise ValueError(f"a loop is auto, open or closed, not {self.loop!r}")


@dataclass(frozen=True)
class Fleet:
    """Instances of one kind that serve a demand.

    Attributes:
        at: the load point whose latency it keeps; no copy is loaded more than it.
        copies: of the target.
        instances: that many of them have the copies.
        headroom: share by which the load may grow before a copy is loaded more than ``at``.
        usd_per_million: inferences of the demand; what stands idle is paid for, too.
    """

    price: Price
    at: OperatingPoint
    copies: int
    instances: int
    headroom: float
    usd_per_month: float
    usd_per_million: float


@dataclass(frozen=True)
class Offer:
    """What is known of serving a demand with one instance type, or with a device that has no price.

    Attributes:
        device: that was measured, as its key tells it.
        fleet: None where there is none, and then ``refusal`` says why.
        curve: fleets from the cheapest to the fastest, each faster than the ones before it, whatever the budget.
    """

    test: str
    device: str
    price: Price | None
    fleet: Fleet | None
    refusal: str = ""
    curve: tuple[Fleet, ...] = ()
