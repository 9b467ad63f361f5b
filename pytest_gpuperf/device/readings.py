"""Single readings of GPUs, and what those of one window amount to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from pytest_gpuperf.device.nvml import GpuProcess, Handle
from pytest_gpuperf.device.processes import describe, numbers_are_ours
from pytest_gpuperf.device.triton_metrics import TritonMetrics
from pytest_gpuperf.errors import NvmlError
from pytest_gpuperf.model import GpuReadings, Memory

Value = TypeVar("Value")

#: A reading that is no older tells the state in which a short window began.
_FRESH_NS = 500_000_000


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


def attempt(read: Callable[[], Value], failed: list[NvmlError]) -> Value | None:
    """A reading; where it alone fails, None, and the error is appended to ``failed``.

    Raises:
        NvmlError: the whole GPU or its driver fails.
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
        failed: gets the errors of what can't be read, which is None.

    Raises:
        NvmlError: nothing of it can be read.
    """
    board, own = handle.board, list[NvmlError]()
    reading = GpuReading(
        at_ns,
        handle.uuid,
        sm_clock_mhz=attempt(lambda: board.sm_clock_mhz, own),
        memory_clock_mhz=attempt(lambda: board.memory_clock_mhz, own),
        temperature_c=attempt(lambda: board.temperature_c, own),
        utilization=attempt(lambda: handle.utilization, own),
        throttled=attempt(lambda: board.throttle_reasons, own),
        used_bytes=attempt(lambda: handle.used_bytes, own),
    )
    if own and reading == GpuReading(at_ns, handle.uuid):
        raise own[0]
    failed += own
    return reading


def read_remote(metrics: TritonMetrics, at_ns: int) -> list[GpuReading]:
    """Read all GPUs of a server.

    Raises:
        MetricsError: it does not answer.
    """
    return [
        GpuReading(at_ns, gpu.uuid, utilization=gpu.utilization, power_w=gpu.power_w, used_bytes=gpu.used_bytes)
        for gpu in metrics.gpus()
    ]


def within(readings: Sequence[GpuReading], start_ns: int, stop_ns: int) -> list[GpuReading]:
    """The readings of a window; of a GPU that has none in it, since the window is short, the last one around it."""
    found = []
    for uuid in dict.fromkeys(one.uuid for one in readings):
        own = [one for one in readings if one.uuid == uuid and one.at_ns >= start_ns - _FRESH_NS]
        found += [one for one in own if start_ns <= one.at_ns <= stop_ns] or own[-1:]
    return found


def figures(
    readings: Sequence[GpuReading], powers: Mapping[str, float], listed: Sequence[Listed], ours: Collection[int]
) -> tuple[GpuReadings, ...]:
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
            GpuReadings(
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
