"""Whether a machine is fit to measure, judged from readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpuperf.device.host import Host
from pytest_gpuperf.device.noise import Noise

#: States of a check: a measurement would be worthless, would be less exact, is fine, or can't be judged.
UNFIT, DOUBTFUL, GOOD, UNKNOWN = "unfit", "doubtful", "good", "unknown"

#: Spread between windows of fixed work from which a gate can't detect 5%, and from which it loses power. Idle machines
#: show a few tenths of a percent.
NOISE_UNFIT, NOISE_DOUBTFUL = 0.10, 0.02
#: Share of the CPU that others use, with the same meaning; an idle Linux machine shows 1 to 3%.
OTHERS_UNFIT, OTHERS_DOUBTFUL = 0.50, 0.10
#: A thread that waits longer than this for its core shows as a latency.
STALL_DOUBTFUL_S = 0.05
#: A sweep may need thousands of connections, besides the files of the libraries.
FEW_FILES = 4096
#: With less available memory, a growing model makes the machine swap.
LOW_MEMORY = 0.10


@dataclass(frozen=True)
class Check:
    """One check of a machine or device.

    Attributes:
        state: ``unfit``, ``doubtful``, ``good`` or ``unknown``.
        observed: What was read or measured.
        remedy: Command or advice that improves it; empty if nothing needs to be done.
    """

    name: str
    state: str
    observed: str
    remedy: str = ""


def host_checks(host: Host) -> list[Check]:
    """Judge the readings of the operating system."""
    checks = [_governor(host.governors), _turbo(host.turbo), _swap(host), _memory(host), _quota(host), _files(host)]
    return [*checks, _clock(host.clock_source)]


def noise_checks(noise: Noise) -> list[Check]:
    """Judge a noise measurement."""
    remedy = "end other work, or cancel its effect with gpuperf duet or pytest --gpuperf --gpuperf-anchor"
    spread = f"fixed work varied in time by {noise.spread:.1%} (sd of {noise.windows} windows of {noise.window_s:g} s)"
    tenants = Check("co-tenants of the CPU", UNKNOWN, "the kernel does not report CPU times")
    if noise.others_share is not None:
        used = f"other processes used {noise.others_share:.0%} of the CPU"
        state = _graded(noise.others_share, OTHERS_DOUBTFUL, OTHERS_UNFIT)
        tenants = _judged(tenants.name, state, used, f"{remedy} (see: top)")
    stalls = DOUBTFUL if noise.stall_s > STALL_DOUBTFUL_S else GOOD
    return [
        _judged("noise floor", _graded(noise.spread, NOISE_DOUBTFUL, NOISE_UNFIT), spread, remedy),
        tenants,
        _judged("stalls", stalls, f"longest pause of a busy thread: {1e3 * noise.stall_s:.1f} ms", remedy),
    ]


def verdict(checks: Sequence[Check]) -> str:
    """Return the worst state; unknown ones do not count."""
    states = [check.state for check in checks]
    return next((state for state in (UNFIT, DOUBTFUL) if state in states), GOOD)


def _graded(value: float, doubtful: float, unfit: float) -> str:
    return UNFIT if value >= unfit else DOUBTFUL if value >= doubtful else GOOD


def _judged(name: str, state: str, observed: str, remedy: str) -> Check:
    return Check(name, state, observed, "" if state == GOOD else remedy)


def _governor(governors: Mapping[str, int]) -> Check:
    if not governors:
        return Check("CPU governor", UNKNOWN, "not reported, as in most virtual machines")
    observed = ", ".join(
        f"{name} on {count} core{'' if count == 1 else 's'}" for name, count in sorted(governors.items())
    )
    state = GOOD if set(governors) == {"performance"} else DOUBTFUL
    return _judged("CPU governor", state, observed, "sudo cpupower frequency-set -g performance")


def _turbo(turbo: bool | None) -> Check:
    if turbo is None:
        return Check("CPU turbo", UNKNOWN, "not reported")
    # The clock depends on load and heat, but people serve with it.
    return Check("CPU turbo", GOOD, "on: clocks depend on load and heat" if turbo else "off")


def _swap(host: Host) -> Check:
    if host.swapped_bytes_per_s is None:
        return Check("swap", UNKNOWN, "not reported by the kernel")
    remedy = "sudo swapoff -a && sudo swapon -a"
    if host.swapped_bytes_per_s > 0:
        traffic = f"{host.swapped_bytes_per_s / 1e6:.1f} MB/s of swap traffic"
        return Check("swap", UNFIT, traffic, f"end the processes that use the memory, then: {remedy}")
    if host.swap_used_bytes:
        return Check("swap", DOUBTFUL, f"{host.swap_used_bytes / 1e6:.0f} MB in use", remedy)
    return Check("swap", GOOD, "not in use")


def _memory(host: Host) -> Check:
    if not host.memory_bytes:
        return Check("memory", UNKNOWN, "not reported by the kernel")
    observed = f"{host.available_bytes / 1e9:.1f} of {host.memory_bytes / 1e9:.1f} GB available"
    state = DOUBTFUL if host.available_bytes < LOW_MEMORY * host.memory_bytes else GOOD
    return _judged("memory", state, observed, "end the processes that use it (see: ps aux --sort=-rss | head)")


def _quota(host: Host) -> Check:
    if host.quota_cores is None:
        return Check("CPU quota", GOOD, "none")
    observed = f"{host.quota_cores:g} of {host.cores} cores"
    if host.quota_cores < host.cores:
        remedy = "give the container whole cores: docker run --cpuset-cpus, or in Kubernetes the static CPU manager"
        return Check("CPU quota", DOUBTFUL, f"{observed}; beyond it all threads wait for the next period", remedy)
    return Check("CPU quota", GOOD, observed)


def _files(host: Host) -> Check:
    observed = f"a process may open {host.open_files}"
    if host.open_files < FEW_FILES:
        return Check("files", DOUBTFUL, f"{observed}, so a higher concurrency fails", "ulimit -n 65536")
    return Check("files", GOOD, observed)


def _clock(source: str) -> Check:
    if not source:
        return Check("clock", UNKNOWN, "not reported")
    fast = source in ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen")
    remedy = "reading it takes microseconds; boot with clocksource=tsc if the CPU's counter is stable"
    return _judged("clock", GOOD if fast else DOUBTFUL, source, remedy)
