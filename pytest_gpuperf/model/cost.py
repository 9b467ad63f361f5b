"""The cost of serving: prices of instances, what one copy of a target serves, and fleets of instances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_gpuperf.model.load_point import LoadPoint

#: A twelfth of 365 days, as the providers' own calculators count it.
HOURS_PER_MONTH = 730.0


@dataclass(frozen=True)
class Price:
    """The price of one instance.

    Attributes:
        instance: Provider's name of the instance, for example ``g5.xlarge``.
        gpu: Product name that NVML reports, for example ``NVIDIA A10G``; for a CPU, ``CPU`` and the name of its model.
        count: GPUs in one instance, or slices if there is a MIG profile.
        usd_per_hour: Price of the entire instance.
        date: Day of the price, for example ``2026-01-31``.
        source: Where the price was read, and its terms.
        mig_profile: Profile of the slices that the price is for; empty for undivided GPUs.
        cores: Cores of a CPU; 0 for GPUs.
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
            raise ValueError(f"a price must be positive, and for one GPU or more: {self}")


@dataclass(frozen=True)
class OperatingPoint:
    """Capacity of one copy of the target at a load point, read conservatively: from its slowest run.

    Attributes:
        throughput: Inferences per second: of the slowest run in closed loop, the sustained rate in open loop.
        latency_ns: Latency of the slowest run by quantile, for example ``p90``; only quantiles with enough requests.
        throughput_range: Throughput of the slowest and of the fastest run.
        latency_range_ns: Latency of the fastest and of the slowest run, by quantile.
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
    """Demand that a fleet has to serve.

    Attributes:
        inferences_per_s: Mean inferences per second.
        batch_size: Inferences in one request; None if any batch size will do.
        budget_ns: Highest latency allowed, by the name of the quantile.
        headroom: Share by which the load may grow before the fleet leaves the budget.
        loop: Load points to use: ``open``, ``closed``, or ``auto``, which prefers those of the open loop.
    """

    inferences_per_s: float
    batch_size: int | None = 1
    budget_ns: Mapping[str, float] = field(default_factory=dict)
    headroom: float = 0.0
    loop: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.inferences_per_s < math.inf or not 0 <= self.headroom < math.inf:
            raise ValueError(f"a demand must be positive, and its headroom 0 or more: {self}")
        if self.loop not in ("auto", "open", "closed"):
            raise ValueError(f"loop must be auto, open or closed, not {self.loop!r}")


@dataclass(frozen=True)
class Fleet:
    """Instances of one kind that serve a demand.

    Attributes:
        at: Operating point that no copy exceeds, so that its latency holds.
        headroom: Share by which the load may grow before a copy exceeds ``at``.
        usd_per_million: Dollars per million inferences of the demand; idle capacity is paid for, too.
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
    """Answer of one instance type to a demand; also for a device without a price.

    Attributes:
        fleet: Cheapest fleet; None if none serves the demand, for the reason in ``refusal``.
        curve: Fleets from the cheapest to the fastest, each faster than those before it, whatever the budget.
    """

    test: str
    device: str
    price: Price | None
    fleet: Fleet | None
    refusal: str = ""
    curve: tuple[Fleet, ...] = ()
