"""CPU time of other processes, and of neighbours of the virtual machine.

If the CPU is the device under test, this is its co-tenant reading. It explains most of the effect of a shared machine
on latencies, and no statistic of the latencies themselves can distinguish that effect from a regression.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.clock import time
from pytest_gpuperf.device.processes import descendants, family, stats

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CpuReading:
    """Cumulative CPU times.

    Attributes:
        at_s: Time on the monotonic clock.
        busy_s: Busy time of the cores that this process may use, including time that the hypervisor gave to others
            (steal). Interrupts are excluded, since those of the measured traffic can't be separated.
        steal_s: The part of it that the hypervisor gave to others.
        family_s: CPU time of this process and its descendants.
        cores: Number of these cores.
    """

    at_s: float
    busy_s: float
    steal_s: float
    family_s: float
    cores: int


def read_cpu(proc: Path = Path("/proc")) -> CpuReading | None:
    """Read the cumulative times; None if the kernel does not report them."""
    allowed = os.sched_getaffinity(0)
    busy = stolen = 0.0
    try:
        for line in (proc / "stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu" and int(name[3:]) in allowed:
                user, nice, system, _idle, _wait, _irq, _softirq, steal = map(int, fields[:8])
                busy += (user + nice + system + steal) * _TICK_S
                stolen += steal * _TICK_S
    except (OSError, ValueError):
        return None
    return CpuReading(time.monotonic(), busy, stolen, _family_s(proc), len(allowed))


def _family_s(proc: Path) -> float:
    """Return the CPU time of this process and its descendants, including children that have ended."""
    table = stats(proc)
    return sum(sum(map(int, table[pid][11:15])) for pid in family([os.getpid()], table)) * _TICK_S


def others_share(before: CpuReading | None, after: CpuReading | None) -> float | None:
    """Return the share of all cores that others used between two readings, 0 to 1; None if it is unknown."""
    if before is None or after is None or after.at_s <= before.at_s:
        return None
    others_s = (after.busy_s - before.busy_s) - (after.family_s - before.family_s)
    return min(max(others_s / ((after.at_s - before.at_s) * after.cores), 0.0), 1.0)


def steal_share(before: CpuReading | None, after: CpuReading | None) -> float | None:
    """Return the share of all cores that the hypervisor gave to others, 0 to 1; None if it is unknown."""
    if before is None or after is None or after.at_s <= before.at_s:
        return None
    return min(max((after.steal_s - before.steal_s) / ((after.at_s - before.at_s) * after.cores), 0.0), 1.0)


#: CPU time of each thread, and the time in which it was ready to run but waited for a CPU; by its number.
ThreadTimes = dict[int, tuple[float, float]]


def read_threads(roots: Sequence[int], proc: Path = Path("/proc")) -> ThreadTimes:
    """Read the times of all threads of process trees; empty if the kernel does not report them."""
    times: ThreadTimes = {}
    for pid in descendants(roots, proc) if roots else ():
        try:
            for task in (proc / str(pid) / "task").iterdir():
                ran_ns, waited_ns, _ = (task / "schedstat").read_text().split()
                times[int(task.name)] = int(ran_ns) / 1e9, int(waited_ns) / 1e9
        except (OSError, ValueError):
            continue  # the process or thread has ended
    return times


def threads_between(before: ThreadTimes, after: ThreadTimes) -> tuple[float, float]:
    """Return how long all threads ran, and how long they waited, between two readings."""
    pairs = [(before.get(thread, (0.0, 0.0)), times) for thread, times in after.items()]
    ran_s, waited_s = (sum(max(times[part] - old[part], 0.0) for old, times in pairs) for part in (0, 1))
    return ran_s, waited_s
