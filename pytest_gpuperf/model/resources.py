"""What a window took besides time: energy, memory, and what the device said of itself meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

#: How energy was measured. Figures of different methods disagree by tens of percent, so they are never compared.
NVML_COUNTER, NVML_POWER, TRITON_COUNTER, RAPL = "nvml-counter", "nvml-power", "triton-counter", "rapl"


@dataclass(frozen=True)
class Energy:
    """Energy of one kind of device over one window.

    Attributes:
        source: ``gpu`` or ``cpu``.
        method: ``nvml-counter``, ``nvml-power``, ``triton-counter`` or ``rapl``.
        energy_j: over the window's length.
        error_j: bound of what ticks and sampling may have added or left out.
        idle_w: power while nothing was asked of the device, measured before the run; None where it wasn't.
    """

    source: str
    method: str
    energy_j: float
    error_j: float = 0.0
    idle_w: float | None = None

    def __post_init__(self) -> None:
        if self.energy_j < 0 or self.error_j < 0:
            raise ValueError(f"energy is never negative: {self}")


@dataclass(frozen=True)
class Memory:
    """Peaks over one window; None where they can't be had.

    Attributes:
        target_bytes: device memory of the target's own processes.
        device_bytes: all device memory in use, whoever has it.
        host_bytes: resident memory of the target's process tree.
    """

    target_bytes: int | None = None
    device_bytes: int | None = None
    host_bytes: int | None = None


@dataclass(frozen=True)
class GpuReadings:
    """What one GPU said during a window.

    Attributes:
        uuid: of the GPU or MIG slice.
        samples: readings that this is made of.
        throttled: reasons for lowered clocks that were active at some reading, as ``hw_thermal``.
        co_tenants: processes on the GPU that are not of the target or ours, as ``1234 python``.
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
class ReadingFailure:
    """A reading that failed during a window.

    Attributes:
        kind: ``reset`` (the energy counter went back: the driver was reloaded), ``short`` (the counter did not move
            often enough to tell), ``metrics`` (a server's metrics can't be read), ``unread`` (nothing was read of a
            GPU), or the kind of an ``NvmlError``.
        text: a sentence.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Resources:
    """All of it for one window."""

    energy: tuple[Energy, ...] = ()
    memory: Memory | None = None
    gpus: tuple[GpuReadings, ...] = ()
    trouble: tuple[ReadingFailure, ...] = ()


def energy_together(several: Sequence[tuple[Energy, ...]]) -> tuple[Energy, ...]:
    """Of several windows: sums, of what every one of them has by the same method; idle power is their mean."""
    own = [{(one.source, one.method): one for one in energies} for energies in several]
    found = []
    for source, method in own[0] if own else ():
        if all((source, method) in one for one in own):
            same = [one[source, method] for one in own]
            idle = [one.idle_w for one in same if one.idle_w is not None]
            found.append(
                Energy(
                    source,
                    method,
                    sum(one.energy_j for one in same),
                    sum(one.error_j for one in same),
                    sum(idle) / len(idle) if idle else None,
                )
            )
    return tuple(found)


def memory_together(several: Sequence[Memory | None]) -> Memory | None:
    """The peaks over several windows."""
    known = [one for one in several if one is not None]

    def peak(values: Iterable[int | None]) -> int | None:
        return max((value for value in values if value is not None), default=None)

    if not known:
        return None
    return Memory(
        peak(one.target_bytes for one in known),
        peak(one.device_bytes for one in known),
        peak(one.host_bytes for one in known),
    )


def gpus_together(several: Sequence[tuple[GpuReadings, ...]]) -> tuple[GpuReadings, ...]:
    """Of several windows in order: means weighted by readings, extremes, and everything that was found."""
    gathered: dict[str, list[GpuReadings]] = {}
    for gpus in several:
        for gpu in gpus:
            gathered.setdefault(gpu.uuid, []).append(gpu)
    return tuple(_one_gpu(uuid, own) for uuid, own in gathered.items())


def _one_gpu(uuid: str, own: Sequence[GpuReadings]) -> GpuReadings:
    def mean(pick: Callable[[GpuReadings], float | None]) -> float | None:
        known = [(value, one.samples) for one in own if (value := pick(one)) is not None]
        total = sum(samples for _, samples in known)
        return sum(value * samples for value, samples in known) / total if total else None

    least = [one.sm_clock_min_mhz for one in own if one.sm_clock_min_mhz is not None]
    most = [one.sm_clock_max_mhz for one in own if one.sm_clock_max_mhz is not None]
    return GpuReadings(
        uuid,
        samples=sum(one.samples for one in own),
        power_w=mean(lambda one: one.power_w),
        sm_clock_mhz=mean(lambda one: one.sm_clock_mhz),
        sm_clock_min_mhz=min(least, default=None),
        sm_clock_max_mhz=max(most, default=None),
        memory_clock_mhz=mean(lambda one: one.memory_clock_mhz),
        temperature_begin_c=own[0].temperature_begin_c,
        temperature_end_c=own[-1].temperature_end_c,
        utilization=mean(lambda one: one.utilization),
        throttled=tuple(dict.fromkeys(reason for one in own for reason in one.throttled)),
        co_tenants=tuple(dict.fromkeys(other for one in own for other in one.co_tenants)),
    )
