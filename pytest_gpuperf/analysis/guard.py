"""What says that a window is not to be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import GpuReadings, ReadingFailure, Run, Window

#: A load generator this busy measures itself: above it, the time a response waits for the client is no longer small.
CLIENT_BUSY = 0.9
#: Share of failed requests from which a test fails. Not zero, since one reset connection in a long sweep on a shared
#: machine should be seen and not stop the work; every single one is still counted and shown.
ERROR_BUDGET = 0.01

#: Share of late sends from which an open-loop window says more about the client than about arrivals.
LATE_SHARE = 0.01
#: Share of the window that the load generator may be kept from its sockets (by its own work or by the machine).
STALLED_SHARE = 0.05
#: An open loop whose answers come more slowly than its requests builds a queue without end: its latencies then tell how
#: long the window was.
SUSTAINED = 0.95
#: Clocks of several machines that differ by more than this make latencies of short requests doubtful at the edges.
SKEW_S = 0.05
#: The load generator was busy, or kept from its sockets: it may have measured itself.
CLIENT = "client"
#: Open loop: it sent late, though the target kept up and had other cores. The clock says when to send, so that a target
#: which becomes slower does not make it later.
LATE = "late"
#: Open loop: the target did not keep up.
RATE = "rate"
#: Requests failed.
ERRORS = "errors"
#: Servers of a fleet are gone.
SERVERS = "servers"
#: Reasons for lowered clocks were active.
THROTTLED = "throttled"
#: The clocks changed during the window, or between windows of one load point.
CLOCKS = "clocks"
#: Somebody else computes on the GPU.
CO_TENANT = "co_tenant"
#: The GPU is not yet as warm as it will be.
WARMING = "warming"
#: The GPU or its driver failed meanwhile, or told nothing.
DEVICE = "device"

#: Compute follows the SM clock about in proportion. Boost moves in steps of 15 MHz, which is 1%, and takes two or three
#: of them in ordinary use; what is beyond would be seen as a change of the target.
CLOCK_SHARE = 0.05
#: Within one window. The sensor tells whole degrees, so one of them may be rounding.
CLIMB_C = 2.0
#: Kinds of trouble that make times doubtful as well, and not just the energy or one reading.
_BROKEN = frozenset({"reset", "lost", "driver", "absent", "unread"})


@dataclass(frozen=True)
class Finding:
    """One reason not to trust a window.

    Attributes:
        kind: one of this module's.
        text: a sentence.
    """

    kind: str
    text: str


def findings(
    *,
    window_s: float,
    client_cpu_s: float,
    workers: int,
    requests: int,
    errors: int,
    stall_s: float = 0.0,
    late: int = 0,
    due_rate: float = 0.0,
    done_rate: float = 0.0,
    skew_s: float = 0.0,
    inside: bool = False,
    shares_cores: bool = False,
) -> tuple[Finding, ...]:
    """What the load generator's own figures of one window say against it.

    Args:
        workers: processes or threads of the load generator that share the work.
        due_rate, done_rate: open loop: inferences per second that were due, and that were answered.
        inside: the load is made by callers in this process, which wait for the target.
        shares_cores: the target computes on the load generator's cores.
    """
    found = []
    if client_cpu_s > CLIENT_BUSY * window_s * workers:
        busy = client_cpu_s / window_s / workers
        found.append(Finding(CLIENT, f"the load generator was busy for {busy:.0%} of the window"))
    if stall_s > STALLED_SHARE * window_s * workers:
        stalled = stall_s / window_s / workers
        found.append(Finding(CLIENT, f"the load generator was kept from its sockets for {stalled:.0%} of the window"))
    # At the edges chance alone moves as many requests in or out as are in flight, give or take their root.
    chance = 2 / math.sqrt(max(requests + errors, 1))
    sustained = done_rate >= (SUSTAINED - chance) * due_rate
    if late > LATE_SHARE * requests:
        kind = RATE if inside or not sustained else CLIENT if shares_cores else LATE
        found.append(Finding(kind, f"{late / requests:.1%} of the requests were sent more than 1 ms late"))
    if not sustained:
        found.append(Finding(RATE, f"the rate was not sustained: {done_rate:.4g}/s of {due_rate:.4g}/s"))
    if skew_s > SKEW_S:
        apart = f"the clocks of the load generator's machines were {skew_s * 1e3:.0f} ms apart"
        found.append(Finding(CLIENT, apart))
    if errors:
        found.append(Finding(ERRORS, f"{errors} of {requests + errors} requests failed"))
    return tuple(found)


def device_findings(
    gpus: Sequence[GpuReadings], trouble: Sequence[ReadingFailure] = (), earlier: Sequence[Window] = ()
) -> tuple[Finding, ...]:
    """What the devices' readings of one window say against it.

    Args:
        earlier: undisturbed windows of the same load point in the same run: other points may well have other clocks.
    """
    found = [Finding(DEVICE, one.text) for one in trouble if one.kind in _BROKEN]
    for gpu in gpus:
        before = [same.sm_clock_mhz for window in earlier for same in window.gpus if same.uuid == gpu.uuid]
        found += _gpu_findings(gpu, [mhz for mhz in before if mhz])
    return tuple(found)


def _gpu_findings(gpu: GpuReadings, before_mhz: Sequence[float]) -> list[Finding]:
    found = []
    if gpu.throttled:
        found.append(Finding(THROTTLED, f"the GPU was throttled ({', '.join(gpu.throttled)})"))
    clock, least, most = gpu.sm_clock_mhz, gpu.sm_clock_min_mhz, gpu.sm_clock_max_mhz
    if clock and least is not None and most is not None:
        if most - least > CLOCK_SHARE * clock:
            found.append(Finding(CLOCKS, f"the GPU's clock moved between {least:.0f} and {most:.0f} MHz"))
        elif before_mhz:
            usual = sorted(before_mhz)[len(before_mhz) // 2]
            if abs(clock - usual) > CLOCK_SHARE * usual:
                found.append(Finding(CLOCKS, f"the GPU ran at {clock:.0f} MHz, and at {usual:.0f} MHz before"))
    if gpu.co_tenants:
        found.append(Finding(CO_TENANT, f"others computed on the GPU: {', '.join(gpu.co_tenants)}"))
    begin, end = gpu.temperature_begin_c, gpu.temperature_end_c
    if begin is not None and end is not None and end - begin >= CLIMB_C:
        found.append(Finding(WARMING, f"the GPU was still warming up, from {begin:.0f} to {end:.0f} C"))
    return found


def worth_repeating(window: Window, earlier: Sequence[Window]) -> bool:
    """Whether a further window of its load point may be better.

    Args:
        earlier: the other windows of its point in its run. What two of them in a row had to suffer already (a GPU at
            its power limit, a co-tenant that stays) won't go away.
    """
    if window.undisturbed:
        return False
    last = list(earlier)[-2:]
    own = set(window.disturbances)
    lasting = own and len(last) == 2 and all(own.issubset(one.disturbances) for one in last)
    return not lasting


def error_report(runs: Sequence[Run]) -> str | None:
    """A description of the load points whose failed requests exceed the budget; None when all are within it."""
    totals: dict[str, tuple[int, dict[str, int]]] = {}
    for run in runs:
        for window in run.windows:
            requests, errors = totals.setdefault(f"{window.sweep}, {window.point.label}", (0, {}))
            for kind, count in window.errors.items():
                errors[kind] = errors.get(kind, 0) + count
            totals[f"{window.sweep}, {window.point.label}"] = (requests + window.requests, errors)
    lines = []
    for label, (requests, errors) in totals.items():
        failed = sum(errors.values())
        if failed > ERROR_BUDGET * (requests + failed):
            kinds = ", ".join(f"{kind} x {count}" for kind, count in sorted(errors.items(), key=lambda item: -item[1]))
            lines.append(f"  {label}: {failed} of {requests + failed} requests failed ({kinds})")
    return "\n".join(lines) or None
