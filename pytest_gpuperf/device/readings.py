"""Single readings of GPUs, and what those of one window amount to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from pytest_gpuperf.device.nvml import GpuProcess, Handle
from pytest_gpuperf.device.processes import describe, numbers_are_ours
from pytest_gpuperf.device.triton_metrics import TritonMetrics
from pytest_gpuperf.model import GpuFigures, Memory


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one instant; None for what it does not tell."""

    at_ns: int
    uuid: str
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    utilization: float | None = None
    power_w: float | None = None
    throttled: tuple[str, ...] | None = None
    used_bytes: int | None = None


@dataclass(frozen=True)
class Listed:
    """The processes on a GPU at one instant."""

    uuid: str
    processes: tuple[GpuProcess, ...]


def read_gpu(handle: Handle, at_ns: int) -> GpuReading:
    """Read a GPU; clocks and temperature of a slice are its board's.

    Raises:
        NvmlError: it can't be read.
    """
    board = handle.board
    return GpuReading(
        at_ns,
        handle.uuid,
        sm_clock_mhz=board.sm_clock_mhz,
        memory_clock_mhz=board.memory_clock_mhz,
        temperature_c=board.temperature_c,
        utilization=handle.utilization,
        throttled=board.throttle_reasons,
        used_bytes=handle.used_bytes,
    )


def read_remote(metrics: TritonMetrics, at_ns: int) -> list[GpuReading]:
    """Read all GPUs of a server.

    Raises:
        MetricsError: it does not answer.
    """
    return [
        GpuReading(at_ns, gpu.uuid, utilization=gpu.utilization, power_w=gpu.power_w, used_bytes=gpu.used_bytes)
        for gpu in metrics.gpus()
    ]


def figures(
    readings: Sequence[GpuReading], powers: Mapping[str, float], listed: Sequence[Listed], ours: Collection[int]
) -> tuple[GpuFigures, ...]:
    """What the readings of a window say of each GPU.

    Args:
        powers: mean power by UUID, where energy was measured.
        ours: processes that descend from us or from the target.
    """
    gathered: dict[str, list[GpuReading]] = {}
    for reading in readings:
        gathered.setdefault(reading.uuid, []).append(reading)
    found = []
    for uuid, own in gathered.items():
        clocks = [one.sm_clock_mhz for one in own if one.sm_clock_mhz is not None]
        temperatures = [one.temperature_c for one in own if one.temperature_c is not None]
        found.append(
            GpuFigures(
                uuid,
                samples=len(own),
                power_w=powers.get(uuid, _mean([one.power_w for one in own])),
                sm_clock_mhz=_mean(clocks),
                sm_clock_min_mhz=min(clocks, default=None),
                sm_clock_max_mhz=max(clocks, default=None),
                memory_clock_mhz=_mean([one.memory_clock_mhz for one in own]),
                temperature_begin_c=temperatures[0] if temperatures else None,
                temperature_end_c=temperatures[-1] if temperatures else None,
                utilization=_mean([one.utilization for one in own]),
                throttled=tuple(dict.fromkeys(reason for one in own for reason in one.throttled or ())),
                co_tenants=_co_tenants([one for one in listed if one.uuid == uuid], ours),
            )
        )
    return tuple(found)


def _co_tenants(listed: Sequence[Listed], ours: Collection[int]) -> tuple[str, ...]:
    pids = {process.pid for one in listed for process in one.processes}
    others = pids - set(ours)
    if not others or not numbers_are_ours(pids, ours):
        return ()
    return tuple(describe([pid]) for pid in sorted(others))


def memory_of(
    readings: Sequence[GpuReading],
    listed: Sequence[Listed],
    host_bytes: Sequence[int],
    target: Collection[int],
) -> Memory | None:
    """Peaks over a window; None where nothing could be read.

    Args:
        host_bytes: resident memory of the target's processes, by reading.
        target: its processes.
    """
    by_instant: dict[int, int] = {}
    for reading in readings:
        if reading.used_bytes is not None:
            by_instant[reading.at_ns] = by_instant.get(reading.at_ns, 0) + reading.used_bytes
    device = max(by_instant.values(), default=None)
    host = max(host_bytes, default=None)
    own = _own_bytes(listed, target)
    return None if device is None and host is None and own is None else Memory(own, device, host)


def _own_bytes(listed: Sequence[Listed], target: Collection[int]) -> int | None:
    """Device memory of the target, at its peak on each GPU; None where one of its processes does not tell."""
    peaks: dict[str, int] = {}
    for one in listed:
        own = [process.memory_bytes for process in one.processes if process.pid in target]
        if any(memory is None for memory in own):
            return None
        if own:
            peaks[one.uuid] = max(peaks.get(one.uuid, 0), sum(memory or 0 for memory in own))
    return sum(peaks.values()) if peaks else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
