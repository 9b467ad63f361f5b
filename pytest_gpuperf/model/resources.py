"""Resources of a window: energy, memory, and readings of the GPUs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from pytest_gpuperf.model.finding import Finding

#: Methods of measuring energy. Their figures disagree by tens of percent, so they are never compared.
NVML_COUNTER, NVML_POWER, TRITON_COUNTER, RAPL = "nvml-counter", "nvml-power", "triton-counter", "rapl"


@dataclass(frozen=True)
class Energy:
    """Energy of one kind of device over one window.

    Attributes:
        source: ``gpu`` or ``cpu``.
        method: ``nvml-counter``, ``nvml-power``, ``triton-counter`` or ``rapl``.
        energy_j: Joules over the length of the window.
        error_j: Bound of the error that ticks and sampling cause.
        idle_w: Power of the idle device, measured before the run; None if it wasn't measured.
    """

    source: str
    method: str
    energy_j: float
    error_j: float = 0.0
    idle_w: float | None = None

    def __post_init__(self) -> None:
        if self.energy_j < 0 or self.error_j < 0:
            raise ValueError(f"energy must be 0 or more: {self}")


@dataclass(frozen=True)
class Memory:
    """Memory peaks over one window; None where they could not be read.

    Attributes:
        target_bytes: Device memory of the target's processes.
        device_bytes: Device memory of all processes.
        host_bytes: Resident memory of the target's process tree.
    """

    target_bytes: int | None = None
    device_bytes: int | None = None
    host_bytes: int | None = None


@dataclass(frozen=True)
class GpuReadings:
    """Readings of one GPU during a window.

    Attributes:
        uuid: UUID of the GPU or MIG slice.
        throttled: Reasons for lowered clocks that were active at any reading, for example ``hw_thermal``.
        co_tenants: Processes on the GPU that are neither the target's nor ours, for example ``1234 python``.
    """

    uuid: str
    samples: int
    power_w: float | None = None
    sm_clock_mhz: float | None = None
    sm_clock_min_mhz: float | None = None
    sm_clock_max_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_begin_c: float | None = None
    temperature_end_c: float | None = None
    utilization: float | None = None
    throttled: tuple[str, ...] = ()
    co_tenants: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resources:
    """Measurements of the monitor during one window; ``failures`` are readings that failed."""

    energy: tuple[Energy, ...] = ()
    memory: Memory | None = None
    gpus: tuple[GpuReadings, ...] = ()
    failures: tuple[Finding, ...] = ()


def peak_memory(windows: Iterable[Memory | None]) -> Memory | None:
    """Return the highest of several peaks; None if none was read."""
    known = [astuple(memory) for memory in windows if memory is not None]
    peaks = (max((peak for peak in column if peak is not None), default=None) for column in zip(*known, strict=True))
    return Memory(*peaks) if known else None
