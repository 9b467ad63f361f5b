"""Single readings of GPUs, and their summary over a window."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from pytest_gpuperf.device.nvml import GpuProcess, Handle
from pytest_gpuperf.device.processes import describe, numbers_are_ours
from pytest_gpuperf.errors import NvmlError
from pytest_gpuperf.model import GpuReadings, Memory

Value = TypeVar("Value")

#: Most age of a reading that counts for a window too short to have a reading.
_FRESH_NS = 500_000_000


@dataclass(frozen=True)
class GpuReading:
    """One GPU at one instant; None for missing readings."""

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
class ProcessList:
    """The processes on a GPU at one instant."""

    uuid: str
    processes: tuple[GpuProcess, ...]


def attempt(read: Callable[[], Value], failed: list[NvmlError]) -> Value | None:
    """Return a reading; if this reading alone fails, append the error to ``failed`` and return None.

    Raises:
        NvmlError: The GPU or its driver fails.
    """
    try:
        return read()
    except NvmlError as error:
        if error.kind != "other":
            raise
        failed.append(error)
        return None


def read_gpu(handle: Handle, at_ns: int, failed: list[NvmlError]) -> GpuReading:
    """Read a GPU; clocks and temperature of a slice are its board's.

    Args:
        failed: Receives the errors of readings that fail; these are None.

    Raises:
        NvmlError: No reading succeeds.
    """
    board, errors = handle.board, list[NvmlError]()
    reading = GpuReading(
        at_ns,
        handle.uuid,
        sm_clock_mhz=attempt(lambda: board.sm_clock_mhz, errors),
        memory_clock_mhz=attempt(lambda: board.memory_clock_mhz, errors),
        temperature_c=attempt(lambda: board.temperature_c, errors),
        utilization=attempt(lambda: handle.utilization, errors),
        throttled=attempt(lambda: board.throttle_reasons, errors),
        used_bytes=attempt(lambda: handle.used_bytes, errors),
    )
    if errors and reading == GpuReading(at_ns, handle.uuid):
        raise errors[0]
    failed += errors
    return reading


def within(readings: Sequence[GpuReading], start_ns: int, stop_ns: int) -> list[GpuReading]:
    """Return the readings of a window. A GPU without one, since the window is short, has its last reading around it."""
    selected = []
    for uuid in dict.fromkeys(reading.uuid for reading in readings):
        fresh = [reading for reading in readings if reading.uuid == uuid and reading.at_ns >= start_ns - _FRESH_NS]
        selected += [reading for reading in fresh if start_ns <= reading.at_ns <= stop_ns] or fresh[-1:]
    return selected


def summarize(
    readings: Sequence[GpuReading], powers: Mapping[str, float], listed: Sequence[ProcessList], ours: Collection[int]
) -> tuple[GpuReadings, ...]:
    """Summarise the readings of a window for each GPU.

    Args:
        powers: Mean power by UUID, if energy was measured.
        ours: Processes that are no co-tenants.
    """
    gathered: dict[str, list[GpuReading]] = {}
    for reading in readings:
        gathered.setdefault(reading.uuid, []).append(reading)
    summaries = []
    for uuid, of_gpu in gathered.items():
        clocks = [reading.sm_clock_mhz for reading in of_gpu if reading.sm_clock_mhz is not None]
        temperatures = [reading.temperature_c for reading in of_gpu if reading.temperature_c is not None]
        summaries.append(
            GpuReadings(
                uuid,
                samples=len(of_gpu),
                power_w=powers.get(uuid, _mean([reading.power_w for reading in of_gpu])),
                sm_clock_mhz=_mean(clocks),
                sm_clock_min_mhz=min(clocks, default=None),
                sm_clock_max_mhz=max(clocks, default=None),
                memory_clock_mhz=_mean([reading.memory_clock_mhz for reading in of_gpu]),
                temperature_begin_c=temperatures[0] if temperatures else None,
                temperature_end_c=temperatures[-1] if temperatures else None,
                utilization=_mean([reading.utilization for reading in of_gpu]),
                throttled=tuple(dict.fromkeys(reason for reading in of_gpu for reason in reading.throttled or ())),
                co_tenants=_co_tenants([processes for processes in listed if processes.uuid == uuid], ours),
            )
        )
    return tuple(summaries)


def _co_tenants(listed: Sequence[ProcessList], ours: Collection[int]) -> tuple[str, ...]:
    pids = {process.pid for gpu in listed for process in gpu.processes}
    others = pids - set(ours)
    if not others or not numbers_are_ours(pids, ours):
        return ()
    return tuple(describe([pid]) for pid in sorted(others))


def memory_of(
    readings: Sequence[GpuReading],
    listed: Sequence[ProcessList],
    host_bytes: Sequence[int],
    target: Collection[int],
) -> Memory | None:
    """Return the memory peaks of a window; None if nothing could be read.

    Args:
        host_bytes: Resident memory of the target's processes, by reading.
        target: The target's processes.
    """
    by_instant: dict[int, int] = {}
    for reading in readings:
        if reading.used_bytes is not None:
            by_instant[reading.at_ns] = by_instant.get(reading.at_ns, 0) + reading.used_bytes
    device = max(by_instant.values(), default=None)
    host = max(host_bytes, default=None)
    of_target = _target_bytes(listed, target)
    return None if device is None and host is None and of_target is None else Memory(of_target, device, host)


def _target_bytes(listed: Sequence[ProcessList], target: Collection[int]) -> int | None:
    """Return the device memory of the target at its peak on each GPU; None if it is unknown for a process."""
    peaks: dict[str, int] = {}
    for gpu in listed:
        sizes = [process.memory_bytes for process in gpu.processes if process.pid in target]
        if any(size is None for size in sizes):
            return None
        if sizes:
            peaks[gpu.uuid] = max(peaks.get(gpu.uuid, 0), sum(size or 0 for size in sizes))
    return sum(peaks.values()) if peaks else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
