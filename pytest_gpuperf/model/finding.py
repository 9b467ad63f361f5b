"""Findings: what disturbed a window, or could not be read during it.

A finding is stored as data; ``report.findings`` puts it into words.
"""

from __future__ import annotations

from dataclasses import dataclass

# Guards: classes of findings that put a window's latencies in doubt.

#: The load generator was busy or kept from its sockets, so it may have measured itself.
CLIENT = "client"
#: Open loop: requests were sent late, though the target kept up and had other cores. The clock says when to send, so a
#: slower target does not make it later.
LATE = "late"
#: Open loop: the target did not keep up.
RATE = "rate"
#: Other processes or machines kept the load generator or the target from running: its CPU was taken, it was stopped,
#: or its machine was paused.
STARVED = "starved"
#: Requests failed.
ERRORS = "errors"
#: Servers of a fleet were lost.
SERVERS = "servers"
#: Reasons for lowered clocks were active.
THROTTLED = "throttled"
#: The clocks changed during the window, or between windows of one load point.
CLOCKS = "clocks"
#: Another process computed on the GPU.
CO_TENANT = "co_tenant"
#: The GPU was still warming up.
WARMING = "warming"
#: The GPU or its driver failed, or gave no readings.
DEVICE = "device"
#: Something traced or profiled the Python code under test. It is part of the comparison key, too.
INSTRUMENTED = "instrumented"
#: Answers came from the server's response cache.
CACHED = "cached"

#: Guards that mark a window without making it a disturbed one: failures, lost servers and overload are the target's own
#: doing, and the load generator is the busier the faster a target is. Leaving out such windows would select by the
#: result. What instruments Python does so in all windows alike.
MARKS = frozenset({CLIENT, RATE, ERRORS, SERVERS, INSTRUMENTED, CACHED})

# Kinds, with the meaning of ``value`` and ``reference``.

#: Share of the load generator's cores in use.
CLIENT_BUSY = "client_busy"
#: Share of the window in which the load generator could not serve its sockets.
CLIENT_STALLED = "client_stalled"
#: Share of the window in which the load generator was ready to run, but waited for a CPU.
CLIENT_WAITED = "client_waited"
#: Share of the window in which the load generator did not run, though it was due.
CLIENT_HALTED = "client_halted"
#: How often the processes that make the load were stopped.
CLIENT_STOPPED = "client_stopped"
#: Share of the time in which the target's threads were ready to run that they waited for a CPU.
TARGET_WAITED = "target_waited"
#: Share of the CPU that the hypervisor gave to other machines.
CPU_STOLEN = "cpu_stolen"
#: Seconds between the clocks of the load generator's machines.
CLOCK_SKEW = "clock_skew"
#: ``names`` are the tracers, profilers and debug modes, for example ``coverage``.
PYTHON_INSTRUMENTED = "python_instrumented"
#: Share of the requests that were sent more than 1 ms late.
LATE_SENDS = "late_sends"
#: Inferences per second that were answered, and that were due.
RATE_NOT_SUSTAINED = "rate_not_sustained"
#: Share of the requests that were answered from the server's response cache.
CACHE_HITS = "cache_hits"
#: Failed requests, and all requests.
REQUESTS_FAILED = "requests_failed"
#: Lost servers, and all servers; ``names`` are the lost ones.
SERVERS_LOST = "servers_lost"
#: ``names`` are the active reasons, for example ``hw_thermal``.
THROTTLING = "throttling"
#: Highest and lowest SM clock during the window, in MHz.
CLOCK_MOVED = "clock_moved"
#: Mean SM clock of the window, and of earlier windows, in MHz.
CLOCK_CHANGED = "clock_changed"
#: ``names`` are the other processes on the GPU, for example ``1234 python``.
CO_TENANTS = "co_tenants"
#: Temperature at the end and at the beginning of the window, in degrees Celsius.
WARMING_UP = "warming_up"
#: The energy counter went back: the driver was reloaded.
COUNTER_RESET = "counter_reset"
#: The energy counter moved too rarely; ``names`` is the method.
ENERGY_UNKNOWN = "energy_unknown"
#: A GPU gave no readings; ``names`` is its index.
NO_READINGS = "no_readings"
#: The server's metrics can't be read; ``detail`` says why.
METRICS_UNREADABLE = "metrics_unreadable"
#: Beginning of the kinds for an ``NvmlError``, for example ``nvml_lost``; ``detail`` is its message.
NVML = "nvml_"
#: An imported file does not say where its windows begin and end.
WINDOWS_UNKNOWN = "windows_unknown"


@dataclass(frozen=True)
class Finding:
    """One reason to doubt a window, or one reading that failed during it.

    Attributes:
        kind: One of this module's kinds.
        guard: The guard that it raises; empty when the window's latencies are not in doubt.
        value: Observed amount.
        reference: What ``value`` is compared with.
        names: Processes, servers or reasons.
        detail: Message of a library, in its own words.
    """

    kind: str
    guard: str = ""
    value: float = 0.0
    reference: float = 0.0
    names: tuple[str, ...] = ()
    detail: str = ""
