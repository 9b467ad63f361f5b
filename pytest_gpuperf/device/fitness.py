"""Whether a machine is fit to measure: pure judgements on what was read of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpuperf.device.host import Host
from pytest_gpuperf.device.noise import Noise

#: In this order: what makes a measurement worthless, what makes it worse, what is as it should be, and what can't be
#: told here.
UNFIT, DOUBTFUL, GOOD, UNKNOWN = "unfit", "doubtful", "good", "unknown"

#: A spread between windows of fixed work from which a gate with a 5% effect in mind is blind, and one that costs power.
#: Idle machines show a few tenths of a percent.
NOISE_UNFIT, NOISE_DOUBTFUL = 0.10, 0.02
#: Others' share of the CPU, likewise; an idle Linux machine shows 1 to 3%.
OTHERS_UNFIT, OTHERS_DOUBTFUL = 0.50, 0.10
#: A thread that is kept from its core for longer than this shows as a latency.
STALL_DOUBTFUL_S = 0.05
#: Connections beside those of the libraries; a sweep goes up to a concurrency of thousands.
FEW_FILES = 4096
#: With less, a model that grows pushes the machine into its swap.
LOW_MEMORY = 0.10


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        state: ``unfit``, ``doubtful``, ``good`` or ``unknown``.
        observed: what was read or measured.
        remedy: the command, or the advice, that makes it better; empty where nothing has to be done.
    """

    name: str
    state: str
    observed: str
    remedy: str = ""


def host_checks(host: Host) -> list[Check]:
    """What the operating system tells."""
    checks = [_governor(host.governors), _turbo(host.turbo), _swap(host), _memory(host), _quota(host), _files(host)]
    return [*checks, _clock(host.clock_source)]


def noise_checks(noise: Noise) -> list[Check]:
    """What a few seconds of fixed work show."""
    remedy = "end other work, or cancel it: gpuperf duet, or pytest --gpuperf --gpuperf-anchor"
    spread = _graded(noise.spread, NOISE_DOUBTFUL, NOISE_UNFIT)
    checks = [
        Check(
            "noise floor",
            spread,
            f"{noise.windows} windows of fixed work of {noise.window_s:.1f} s spread by {noise.spread:.1%} (sd)",
            "" if spread == GOOD else remedy,
        )
    ]
    if noise.others_share is None:
        checks.append(Check("co-tenants of the CPU", UNKNOWN, "the kernel doesn't show CPU times"))
    else:
        state = _graded(noise.others_share, OTHERS_DOUBTFUL, OTHERS_UNFIT)
        found = f"others took {noise.others_share:.0%} of the CPU"
        checks.append(Check("co-tenants of the CPU", state, found, "" if state == GOOD else f"{remedy} (see: top)"))
    stalled = noise.stall_s > STALL_DOUBTFUL_S
    checks.append(
        Check(
            "stalls",
            DOUBTFUL if stalled else GOOD,
            f"longest {1e3 * noise.stall_s:.1f} ms",
            remedy if stalled else "",
        )
    )
    return checks


def verdict(checks: Sequence[Check]) -> str:
    """The worst of them; what can't be told does not count."""
    states = [check.state for check in checks]
    return next((state for state in (UNFIT, DOUBTFUL) if state in states), GOOD)


def _graded(value: float, doubtful: float, unfit: float) -> str:
    return UNFIT if value >= unfit else DOUBTFUL if value >= doubtful else GOOD


def _governor(governors: Mapping[str, int]) -> Check:
    if not governors:
        return Check("CPU governor", UNKNOWN, "not shown here (a virtual machine, most often)")
    found = ", ".join(f"{name} on {count} core{'' if count == 1 else 's'}" for name, count in sorted(governors.items()))
    if set(governors) == {"performance"}:
        return Check("CPU governor", GOOD, found)
    return Check("CPU governor", DOUBTFUL, found, "sudo cpupower frequency-set -g performance")


def _turbo(turbo: bool | None) -> Check:
    if turbo is None:
        return Check("CPU turbo", UNKNOWN, "not shown here")
    if not turbo:
        return Check("CPU turbo", GOOD, "off")
    # Its clock depends on how many cores are busy and how warm they are, but people serve with it.
    return Check("CPU turbo", GOOD, "on: clocks depend on load and heat")


def _swap(host: Host) -> Check:
    if host.swapped_bytes_per_s is None:
        return Check("swap", UNKNOWN, "the kernel doesn't show it")
    if host.swapped_bytes_per_s > 0:
        return Check(
            "swap",
            UNFIT,
            f"{host.swapped_bytes_per_s / 1e6:.1f} MB/s go to or from it just now",
            "end what takes the memory, then: sudo swapoff -a && sudo swapon -a",
        )
    if host.swap_used_bytes:
        return Check(
            "swap",
            DOUBTFUL,
            f"{host.swap_used_bytes / 1e6:.0f} MB lie in it",
            "sudo swapoff -a && sudo swapon -a",
        )
    return Check("swap", GOOD, "nothing lies in it")


def _memory(host: Host) -> Check:
    if not host.memory_bytes:
        return Check("memory", UNKNOWN, "the kernel doesn't show it")
    found = f"{host.available_bytes / 1e9:.1f} of {host.memory_bytes / 1e9:.1f} GB available"
    if host.available_bytes < LOW_MEMORY * host.memory_bytes:
        return Check("memory", DOUBTFUL, found, "end what takes it (see: ps aux --sort=-rss | head)")
    return Check("memory", GOOD, found)


def _quota(host: Host) -> Check:
    if host.quota_cores is None:
        return Check("CPU quota", GOOD, "none")
    found = f"{host.quota_cores:g} of {host.cores} cores"
    if host.quota_cores < host.cores:
        remedy = "give the container whole cores: docker run --cpuset-cpus, or in Kubernetes the static CPU manager"
        return Check("CPU quota", DOUBTFUL, f"{found}; beyond it all threads stand still until the next period", remedy)
    return Check("CPU quota", GOOD, found)


def _files(host: Host) -> Check:
    found = f"{host.open_files} may be open"
    if host.open_files < FEW_FILES:
        return Check("files", DOUBTFUL, f"{found}, so a concurrency beyond that fails", "ulimit -n 65536")
    return Check("files", GOOD, found)


def _clock(source: str) -> Check:
    if not source:
        return Check("clock", UNKNOWN, "not shown here")
    if source in ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen"):
        return Check("clock", GOOD, source)
    remedy = "reading it takes microseconds; boot with clocksource=tsc, where the CPU's counter is stable"
    return Check("clock", DOUBTFUL, source, remedy)
