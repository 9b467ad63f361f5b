"""Disturbances of a window: by the load generator, the device, and others that use it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pytest_gpuperf.model import TIMEOUT, Finding, GpuReadings, PointFigures, Run, ServerTimes, Window, finding
from pytest_gpuperf.model.figures import CACHED_SHARE

#: A load generator this busy measures itself: above it, the time a response waits for the client is no longer small.
CLIENT_BUSY_SHARE = 0.9
#: Share of failed requests from which a test fails. Not zero, since one reset connection in a long sweep on a shared
#: machine should be visible and not stop the work; every failed request is still counted and shown.
ERROR_BUDGET = 0.01

#: Share of late sends from which an open-loop window says more about the client than about arrivals.
LATE_SHARE = 0.01
#: Share of the window during which the load generator may be kept from its sockets, by its work or by the machine.
STALLED_SHARE = 0.05
#: Share of the window during which the load generator may wait for a CPU, or not run at all; and which the hypervisor
#: may give to others. Throughput of a closed loop drops by about as much (docs/measuring.md has the table).
STARVED_SHARE = 0.05
#: Shorter waits are one or two time slices of others: chance, which matters for short windows only.
STARVED_S = 0.02
#: Share of the time in which the target's threads could run that they may wait for a CPU.
TARGET_WAITED_SHARE = 0.10
#: Other processes use less of the CPU on an idle machine. Below it, a thread that waits for a CPU waits for this
#: invocation's processes.
IDLE_OTHERS_SHARE = 0.03
#: An open loop that is answered more slowly than it sends builds an endless queue: its latencies then depend on the
#: length of the window.
SUSTAINED = 0.95
#: Clocks of several machines that differ by more than this put latencies of short requests in doubt at the edges.
SKEW_S = 0.05

#: Compute is roughly proportional to the SM clock. Boost moves in steps of 15 MHz, which is 1%, and takes two or three
#: of them in ordinary use; a larger step would look like a change of the target.
CLOCK_SHARE = 0.05
#: Within one window. The sensor reports whole degrees, so one of them may be rounding.
CLIMB_C = 2.0
#: Failed readings that put latencies in doubt as well, and not just the energy or one figure.
_BROKEN = frozenset(
    [finding.COUNTER_RESET, finding.NO_READINGS, *(finding.NVML + state for state in ("lost", "driver", "absent"))]
)


def client_findings(
    *,
    window_s: float,
    client_cpu_s: float,
    workers: int,
    requests: int,
    errors: int,
    stall_s: float = 0.0,
    wait_s: float = 0.0,
    halted_s: float = 0.0,
    stops: int = 0,
    late: int = 0,
    due_rate: float = 0.0,
    done_rate: float = 0.0,
    skew_s: float = 0.0,
    inside: bool = False,
    shares_cores: bool = False,
    others_share: float | None = None,
) -> tuple[Finding, ...]:
    """Judge a window by the load generator's own figures.

    Args:
        workers: Processes or threads of the load generator that share the work.
        due_rate: Inferences per second that were due; 0 in closed loop.
        done_rate: Inferences per second that were answered.
        inside: Whether callers in this process, which wait for the target, make the load.
        shares_cores: Whether the target computes on the load generator's cores.
        others_share: Share of the CPU that others used; None if it is unknown.
    """
    findings = []
    busy, stalled = (seconds / (window_s * workers) for seconds in (client_cpu_s, stall_s))
    if busy > CLIENT_BUSY_SHARE:
        findings.append(Finding(finding.CLIENT_BUSY, finding.CLIENT, busy))
    if stalled > STALLED_SHARE:
        findings.append(Finding(finding.CLIENT_STALLED, finding.CLIENT, stalled))
    others_present = others_share is not None and others_share > IDLE_OTHERS_SHARE
    waited, halted = (seconds / (window_s * workers) for seconds in (wait_s, halted_s))
    # Callers in this process are the target's own threads: without others, they wait for each other.
    if _is_starved(waited, window_s) and (others_present or not inside):
        guard = finding.STARVED if others_present and not shares_cores else finding.CLIENT
        findings.append(Finding(finding.CLIENT_WAITED, guard, waited))
    if _is_starved(halted, window_s):
        findings.append(Finding(finding.CLIENT_HALTED, finding.STARVED, halted))
    if stops:
        findings.append(Finding(finding.CLIENT_STOPPED, finding.STARVED, stops))
    # At the edges chance alone moves as many requests in or out as are in flight, give or take their root.
    chance = 2 / math.sqrt(max(requests + errors, 1))
    sustained = done_rate >= (SUSTAINED - chance) * due_rate
    if late > LATE_SHARE * requests:
        guard = finding.RATE if inside or not sustained else finding.CLIENT if shares_cores else finding.LATE
        findings.append(Finding(finding.LATE_SENDS, guard, late / requests))
    if not sustained:
        findings.append(Finding(finding.RATE_NOT_SUSTAINED, finding.RATE, done_rate, due_rate))
    if skew_s > SKEW_S:
        findings.append(Finding(finding.CLOCK_SKEW, finding.CLIENT, skew_s))
    if errors:
        findings.append(Finding(finding.REQUESTS_FAILED, finding.ERRORS, errors, requests + errors))
    return tuple(findings)


def cache_findings(server: ServerTimes | None) -> tuple[Finding, ...]:
    """Judge a window by the answers that came from the server's response cache; of an ensemble, or of its steps."""
    if server is None or server.all_cache_hits <= CACHED_SHARE * server.requests:
        return ()
    return (Finding(finding.CACHE_HITS, finding.CACHED, min(server.all_cache_hits / max(server.requests, 1), 1.0)),)


def instrument_findings(names: tuple[str, ...]) -> tuple[Finding, ...]:
    """Judge a window by what slowed Python down: tracers, profilers and debug modes."""
    return (Finding(finding.PYTHON_INSTRUMENTED, finding.INSTRUMENTED, names=names),) if names else ()


def _is_starved(share: float, window_s: float) -> bool:
    return share > STARVED_SHARE and share * window_s > STARVED_S


def cpu_findings(
    *,
    window_s: float,
    steal_share: float | None,
    others_share: float | None = None,
    target_cpu_s: float = 0.0,
    target_wait_s: float = 0.0,
) -> tuple[Finding, ...]:
    """Judge a window by what the CPU did.

    Args:
        steal_share: Share of the CPU that the hypervisor gave to others; None if it is unknown.
        others_share: Share of the CPU that other processes used; None if it is unknown.
        target_cpu_s, target_wait_s: How long all threads of the target ran, and were ready to run but waited for a CPU.
    """
    findings = []
    if steal_share is not None and _is_starved(steal_share, window_s):
        findings.append(Finding(finding.CPU_STOLEN, finding.STARVED, steal_share))
    # Without others the target's threads wait for each other. Threads that do little may wait without any effect.
    if (others_share or 0.0) > IDLE_OTHERS_SHARE and _is_starved(target_wait_s / window_s, window_s):
        waited = target_wait_s / (target_cpu_s + target_wait_s)
        if waited > TARGET_WAITED_SHARE:
            findings.append(Finding(finding.TARGET_WAITED, finding.STARVED, waited))
    return tuple(findings)


def device_findings(
    gpus: Sequence[GpuReadings], failures: Sequence[Finding] = (), earlier: Sequence[Window] = ()
) -> tuple[Finding, ...]:
    """Judge a window by the readings of the devices.

    Args:
        failures: Readings that failed; those that put latencies in doubt raise a guard.
        earlier: Undisturbed windows of the same load point in the same run. Other load points may have other clocks.
    """
    findings = [replace(failure, guard=finding.DEVICE) if failure.kind in _BROKEN else failure for failure in failures]
    for gpu in gpus:
        before = [reading.sm_clock_mhz for window in earlier for reading in window.gpus if reading.uuid == gpu.uuid]
        findings += _gpu_findings(gpu, [mhz for mhz in before if mhz])
    return tuple(findings)


def _gpu_findings(gpu: GpuReadings, before_mhz: Sequence[float]) -> list[Finding]:
    findings = []
    if gpu.throttled:
        findings.append(Finding(finding.THROTTLING, finding.THROTTLED, names=gpu.throttled))
    clock, lowest, highest = gpu.sm_clock_mhz, gpu.sm_clock_min_mhz, gpu.sm_clock_max_mhz
    if clock and lowest is not None and highest is not None:
        if highest - lowest > CLOCK_SHARE * clock:
            findings.append(Finding(finding.CLOCK_MOVED, finding.CLOCKS, highest, lowest))
        elif before_mhz:
            usual = sorted(before_mhz)[len(before_mhz) // 2]
            if abs(clock - usual) > CLOCK_SHARE * usual:
                findings.append(Finding(finding.CLOCK_CHANGED, finding.CLOCKS, clock, usual))
    if gpu.co_tenants:
        findings.append(Finding(finding.CO_TENANTS, finding.CO_TENANT, names=gpu.co_tenants))
    begin, end = gpu.temperature_begin_c, gpu.temperature_end_c
    if begin is not None and end is not None and end - begin >= CLIMB_C:
        findings.append(Finding(finding.WARMING_UP, finding.WARMING, end, begin))
    return findings


def worth_repeating(window: Window, earlier: Sequence[Window]) -> bool:
    """Return whether a further window of the same load point may be undisturbed.

    Args:
        earlier: The other windows of the load point in this run. A disturbance that two in a row already had (a GPU at
            its power limit, a co-tenant that stays) will not go away.
    """
    if window.undisturbed:
        return False
    last, disturbances = earlier[-2:], set(window.disturbances)
    lasting = disturbances and len(last) == 2 and all(disturbances.issubset(before.disturbances) for before in last)
    return not lasting


def is_unanswered(window: Window) -> bool:
    """Return whether so many requests of a window got no answer until their deadline that the test will fail.

    Each further window would take as long as the deadline, so that a sweep of seconds takes an hour to fail.
    """
    return window.errors.get(TIMEOUT, 0) > ERROR_BUDGET * (window.requests + window.error_count)


def error_report(runs: Sequence[Run]) -> str | None:
    """Describe the load points whose failed requests exceed the budget; None when all are within it."""
    lines = []
    for label, figures in _figures_by_label(runs).items():
        failed, total = figures.error_count, figures.requests + figures.error_count
        if failed > ERROR_BUDGET * total:
            lines.append(f"  {label}: {failed} of {total} requests failed ({figures.error_kinds})")
            lines += [f"    {sentence}" for sentence in figures.error_sentences]
    return "\n".join(lines) or None


def unanswered_report(runs: Sequence[Run]) -> str | None:
    """Describe the load points without a single request, failed or not; None if there are none."""
    lines = [
        f"  {label}: no request in {len(figures.windows)} windows"
        for label, figures in _figures_by_label(runs).items()
        if not figures.requests + figures.error_count
    ]
    return "\n".join(lines) or None


def unusable_report(runs: Sequence[Run]) -> str:
    """Describe why the figures of runs are not to be used; empty if they are."""
    if errors := error_report(runs):
        return f"too many requests failed\n{errors}"
    if unanswered := unanswered_report(runs):
        return f"nothing was measured\n{unanswered}"
    return ""


def _figures_by_label(runs: Sequence[Run]) -> dict[str, PointFigures]:
    windows_by_label: dict[str, list[Window]] = {}
    for window in (window for run in runs for window in run.windows):
        windows_by_label.setdefault(f"{window.sweep}, {window.point.label}", []).append(window)
    return {label: PointFigures(tuple(windows)) for label, windows in windows_by_label.items()}
