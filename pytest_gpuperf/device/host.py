"""What the operating system tells of a machine that is to measure."""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Long enough for a machine that swaps to be seen at it.
_SWAP_WATCH_S = 0.5


@dataclass(frozen=True)
class Host:
    """Readings of one moment; empty or None where the kernel doesn't show them.

    Attributes:
        governors: cores by their frequency governor.
        turbo: clocks above the nominal one are allowed.
        swapped_bytes_per_s: to and from the swap.
        quota_cores: of this control group, in cores; None without a quota.
        open_files: how many this process may have.
        clock_source: of the kernel.
    """

    cores: int
    governors: Mapping[str, int]
    turbo: bool | None
    memory_bytes: int
    available_bytes: int
    swap_used_bytes: int
    swapped_bytes_per_s: float | None
    quota_cores: float | None
    open_files: int
    clock_source: str


def read_host(root: Path = Path("/")) -> Host:
    """Read them; takes half a second.

    Args:
        root: of the file system that has ``proc`` and ``sys``.
    """
    memory = _memory(root / "proc/meminfo")
    system = root / "sys/devices/system"
    return Host(
        cores=len(os.sched_getaffinity(0)),
        governors=Counter(
            text for path in sorted(system.glob("cpu/cpu[0-9]*/cpufreq/scaling_governor")) if (text := _text(path))
        ),
        turbo=_turbo(system / "cpu"),
        memory_bytes=memory.get("MemTotal", 0),
        available_bytes=memory.get("MemAvailable", 0),
        swap_used_bytes=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        swapped_bytes_per_s=_swapped_bytes_per_s(root / "proc/vmstat"),
        quota_cores=_quota(root / "sys/fs/cgroup"),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        clock_source=_text(system / "clocksource/clocksource0/current_clocksource"),
    )


def _text(path: Path) -> str:
    """Empty where there is no such file, or it can't be read: the kernel doesn't show it here."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _memory(path: Path) -> dict[str, int]:
    """Bytes by name; the file has kB."""
    found = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * 1024
    return found


def _turbo(cpu: Path) -> bool | None:
    # Intel's driver says no_turbo, the others boost.
    if off := _text(cpu / "intel_pstate/no_turbo"):
        return off == "0"
    on = _text(cpu / "cpufreq/boost")
    return on == "1" if on else None


def _swapped_bytes_per_s(path: Path) -> float | None:
    before, begin = _swapped_pages(path), time.monotonic()
    if before is None:
        return None
    time.sleep(_SWAP_WATCH_S)
    after = _swapped_pages(path)
    return None if after is None else (after - before) * _PAGE / (time.monotonic() - begin)


def _swapped_pages(path: Path) -> int | None:
    counts = [line.split() for line in _text(path).splitlines()]
    found = [int(words[1]) for words in counts if len(words) == 2 and words[0] in ("pswpin", "pswpout")]
    return sum(found) if found else None


def _quota(cgroup: Path) -> float | None:
    """Of control groups version 2 or 1, as a container sees its own at the root."""
    second = _text(cgroup / "cpu.max").split()
    first = [_text(cgroup / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = second if len(second) == 2 else first
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)
