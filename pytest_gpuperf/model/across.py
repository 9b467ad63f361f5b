"""One test on several devices, side by side: figures and ratios, and no verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_gpuperf.model.cost import Price
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.verdict import Change


@dataclass(frozen=True)
class Ratio:
    """This device's figure over the first one's.

    Attributes:
        low, high: 95% interval; None where there aren't enough runs for one.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class DevicePoint:
    """One load point on one device.

    Attributes:
        point: None: the geometric mean over the sweep's points that both devices have; only ratios then.
        usd_per_million: of inferences; None without a price.
        energy_j: per inference, of the parts that could be measured on every device; None where there is none.
        ratios: by name, of ``throughput``, ``p50``, ``p90``, ``inferences_per_usd`` and ``inferences_per_j``; those of
            the first device are empty, and what can't be compared is absent.
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
        device: as its key tells it, with the MIG profile.
        record: its id.
        price: the cheapest that has the device; None without one.
        points: those that the first device has, too; of the first those that some other has.
        missing: load points that only one of this and the first device has, as ``only on NVIDIA L4: ...``.
        changes: what else differs from the first device's record.
        notes: what to know of the figures.
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
    """One test on two devices or more; every ratio is over the first."""

    test: str
    sides: tuple[DeviceResult, ...]
