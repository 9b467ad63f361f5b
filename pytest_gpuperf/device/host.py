"""Readings of the operating system for ``gpuperf doctor``."""

from __future__ import annotations

import os
import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.clock import time

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Long enough to notice that a machine is swapping.
_SWAP_WATCH_S = 0.5


@dataclass(frozen=True)
class Host:
    """Readings of one moment; empty or None if the kernel does not report them.

    Attributes:
        governors: Number of cores, by frequency governor.
        turbo: Whether clocks above the nominal one are allowed.
        swapped_bytes_per_s: Traffic to and from the swap.
        quota_cores: Smallest CPU quota of the control groups, in cores; None without a quota.
        open_files: Number of files that this process may open.
        clock_source: Clock source of the kernel.
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
    """Read the host; takes half a second.

    Args:
        root: Root of the file system with ``proc`` and ``sys``.
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
        quota_cores=cpu_quota_cores(root),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        clock_source=_text(system / "clocksource/clocksource0/current_clocksource"),
    )


def _text(path: Path) -> str:
    """Return the text of a file; empty if it can't be read, since the kernel does not report it."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _memory(path: Path) -> dict[str, int]:
    """Return bytes by name; the file has kB."""
    sizes = {}
    for line in _text(path).splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdigit():
            sizes[name] = int(words[0]) * 1024
    return sizes


def _turbo(cpu: Path) -> bool | None:
    # Intel's driver has no_turbo, the others have boost.
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
    pages = [int(words[1]) for words in counts if len(words) == 2 and words[0] in ("pswpin", "pswpout")]
    return sum(pages) if pages else None


def cpu_quota_cores(root: Path = Path("/")) -> float | None:
    """Return the smallest CPU quota of this process's control groups, in cores; None without a quota.

    A container sees its own group at the root of the hierarchy. Outside of one, a quota may be set for any parent.
    """
    quotas = [quota for folder in _cpu_groups(root) if (quota := _quota(folder)) is not None]
    return round(min(quotas), 3) if quotas else None


def _cpu_groups(root: Path) -> Iterator[Path]:
    """Yield the directories of this process's control group and its parents, for versions 2 and 1."""
    hierarchies = {"": ("cgroup", "cgroup/unified"), "cpu": ("cgroup/cpu", "cgroup/cpu,cpuacct", "cgroup/cpuacct,cpu")}
    groups = {"": "/", "cpu": "/"}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            groups["cpu" if controllers else ""] = group
    for controller, group in groups.items():
        for hierarchy in hierarchies[controller]:
            top = root / "sys/fs" / hierarchy
            # A group of the host, seen from a container, may not exist here, or begin with "/..".
            folder = top / group.strip("/") if ".." not in group else top
            yield from (top, *(parent for parent in (folder, *folder.parents) if top in parent.parents))


def _quota(folder: Path) -> float | None:
    """Return the quota of a control group of version 2 or 1, in cores."""
    second = _text(folder / "cpu.max").split()
    first = [_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = second if len(second) == 2 else first
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)
