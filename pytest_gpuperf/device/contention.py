"""How much of the CPU others took: processes that are not ours, and neighbours of the virtual machine.

Where the CPU is the device under test this is its co-tenant reading: the one thing that explains most of what a shared
machine does to a latency, and that no statistic of the latencies themselves can tell from a regression.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.device.processes import family, stats

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuReading:
    """Cumulative CPU times.

    Attributes:
        at_s: on the monotonic clock.
        busy_s: of the cores this process may use, by anybody, including what the hypervisor gave to others (steal).
            Interrupts are left out: those of the measured traffic itself can't be told from others'.
        own_s: of this process and all that descends from it.
        cores: how many cores that are.
    """

    at_s: float
    busy_s: float
    own_s: float
    cores: int


def read_cpu(proc: Path = Path("/proc")) -> CpuReading | None:
    """Read the cumulative times; None where the kernel doesn't show them."""
    allowed = os.sched_getaffinity(0)
    busy = 0.0
    try:
        for line in (proc / "stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu" and int(name[3:]) in allowed:
                user, nice, system, _idle, _wait, _irq, _softirq, steal = map(int, fields[:8])
                busy += (user + nice + system + steal) * _TICK_S
    except (OSError, ValueError):
        return None
    return CpuReading(time.monotonic(), busy, _own_s(proc), len(allowed))


def _own_s(proc: Path) -> float:
    """CPU time of this process's whole tree, with that of children which have ended and were waited for."""
    found = stats(proc)
    return sum(sum(map(int, found[pid][11:15])) for pid in family([os.getpid()], found)) * _TICK_S


def others_share(before: CpuReading | None, after: CpuReading | None) -> float | None:
    """The share of all cores that others took between two readings, 0 to 1; None where it can't be told."""
    if before is None or after is None or after.at_s <= before.at_s:
        return None
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return min(max(others_s / ((after.at_s - before.at_s) * after.cores), 0.0), 1.0)
