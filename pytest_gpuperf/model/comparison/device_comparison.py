"""Comparison of one test on several devices: figures and ratios, without a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_gpuperf.model.comparison.verdict import Change
from pytest_gpuperf.model.cost import Price
from pytest_gpuperf.model.load_point import LoadPoint


@dataclass(frozen=True)
class Ratio:
    """A device's figure, divided by that of the first device; ``low`` and ``high`` end its 95% interval, if known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DevicePoint:
    """One load point on one device.

    Attributes:
        point: None for the geometric mean over the load points that both devices share, which has only ratios.
        usd_per_million: Dollars per million inferences; None without a price.
        energy_j: Joules per inference, over the kinds of devices that were measured everywhere; None without any.
        ratios: Ratios by name: ``throughput``, ``p50``, ``p90``, ``inferences_per_usd``, ``inferences_per_j``. Empty
            for the first device; figures that can't be compared are absent.
    """

    sweep: str
    point: LoadPoint | None
    throughput: float = 0.0
    p50_ns: float = 0.0
    p90_ns: float = 0.0
    usd_per_million: float | None = None
    energy_j: float | None = None
    ratios: Mapping[str, Ratio] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceResult:
    """One test on one device.

    Attributes:
        device: Name of the device, with the MIG profile.
        price: Cheapest price of an instance with the device; None without one.
        points: Load points shared with the first device; for the first, those shared with any device.
        missing: Load points that only this or only the first device has, for example ``only on NVIDIA L4: ...``.
        changes: Other differences from the first device's record.
    """

    device: str
    record: str
    created_utc: str
    commit: str
    price: Price | None
    points: tuple[DevicePoint, ...]
    missing: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeviceComparison:
    """One test on two devices or more; each ratio is relative to the first."""

    test: str
    sides: tuple[DeviceResult, ...]
