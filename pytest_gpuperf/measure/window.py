"""One window at one load point: its spec, its figures, the server's own times, the guard."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import NoReturn

from pytest_gpuperf.analysis.guard import client_findings, device_findings
from pytest_gpuperf.analysis.window import WindowFigures, endpoint_figures, figures
from pytest_gpuperf.device import Monitor, others_share, read_cpu
from pytest_gpuperf.errors import LoadError, TargetError
from pytest_gpuperf.load import LoadGenerator, Recording, WindowSpec
from pytest_gpuperf.model import (
    CallWorkload,
    EndpointFigures,
    LoadPoint,
    Ramp,
    Resources,
    Window,
    WireWorkload,
    Workload,
)
from pytest_gpuperf.targets import OnDevices, Replicated, StartedTarget

#: How long a target that gives no answers is watched for signs of dying, before it is called wrong.
_DYING_S = 2.0


def take_window(
    generator: LoadGenerator,
    started: StartedTarget,
    workload: Workload,
    *,
    name: str,
    point: LoadPoint,
    spec: WindowSpec,
    visit: int = 0,
    watched: bool = False,
    monitor: Monitor | None = None,
    earlier: Sequence[Window] = (),
) -> tuple[Window, Recording]:
    """Measure one window.

    Args:
        name: of the sweep that it belongs to.
        watched: see what others take of the CPU.
        monitor: tells energy, memory and what the devices say; may lengthen the window.
        earlier: windows of this run, to which the device's state is compared.

    Returns:
        The window, and the times of every request that it was made of.

    Raises:
        TargetDied: the target is gone.
        LoadError: it gives no correct answers, or the load generator failed.
    """
    if monitor is not None:
        device_ids = started.device_ids if isinstance(started, OnDevices) else ()
        monitor.attach(started.processes, started.metrics_url, local=started.local, places=device_ids)
        spec = _fitted(spec, monitor)
    replicated = started if isinstance(started, Replicated) else None
    before = started.server_times()
    counts_before: Mapping[str, int] = {}
    if replicated is not None:
        workload, counts_before = replicated.current(workload), replicated.requests_by_server()
    cpu_before = read_cpu() if watched else None
    with monitor.watching() if monitor is not None else nullcontext():
        recording = generator.window(workload, spec)
    cpu_after = read_cpu() if watched else None
    if recording.lost or not recording.answered:
        give_up(recording, started, point)
    after = started.server_times()
    edges = recording.start_ns, recording.stop_ns
    took = monitor.window(*edges) if monitor is not None else Resources()
    own = [one for one in earlier if one.point == point and one.undisturbed]
    times = figures(((one.due_ns, one.sent_ns, one.done_ns) for one in recording.lanes), *edges, point.batch_size)
    window_s = (recording.stop_ns - recording.start_ns) / 1e9
    errors = sum(recording.errors.values())
    findings = device_findings(took.gpus, took.failures, own) + client_findings(
        window_s=window_s,
        client_cpu_s=recording.cpu_s,
        workers=recording.workers,
        requests=times.requests,
        errors=errors,
        stall_s=recording.stall_s,
        late=times.late,
        due_rate=(times.requests + errors) * point.batch_size / window_s if spec.arrivals is not None else 0.0,
        done_rate=times.throughput,
        skew_s=recording.skew_s,
        inside=isinstance(workload, CallWorkload),
        shares_cores=watched,
    )
    if replicated is not None:
        findings += replicated.findings()
    firsts = [(one.due_ns, one.first_ns, one.first_ns) for one in recording.lanes if one.first_ns is not None]
    window = Window(
        sweep=name,
        point=point,
        visit=visit,
        window_s=window_s,
        requests=times.requests,
        throughput=times.throughput,
        latency_mean_ns=times.latency_mean_ns,
        latency=times.latency,
        errors=recording.errors,
        client_cpu_s=recording.cpu_s,
        stall_s=recording.stall_s,
        service=times.service if spec.arrivals is not None else None,
        late=times.late,
        lag_p99_ns=times.lag_p99_ns,
        first=figures(firsts, *edges, 1).latency if firsts else None,
        answers=_answers(recording),
        endpoints=_endpoints(recording, workload)
        or (_behind_balancer(counts_before, replicated.requests_by_server(), times) if replicated is not None else ()),
        server=after - before if before is not None and after is not None else None,
        others_cpu_share=others_share(cpu_before, cpu_after),
        energy=took.energy,
        memory=took.memory,
        gpus=took.gpus,
        findings=tuple(dict.fromkeys(findings)),
    )
    return window, recording


def _fitted(spec: WindowSpec, monitor: Monitor) -> WindowSpec:
    """Timed so that the energy counters can tell; a ramp has the length that it has."""
    if spec.once or spec.start_ns or isinstance(spec.arrivals, Ramp):
        return spec
    window_s, lead_in_s = monitor.fit(spec.window_s, spec.lead_in_s, spec.max_window_s)
    return replace(spec, window_s=window_s, lead_in_s=lead_in_s)


def _answers(recording: Recording) -> int:
    """Of streams: answers to the window's requests."""
    return sum(
        count
        for lane in recording.lanes
        if lane.answers is not None
        for due_ns, count in zip(lane.due_ns, lane.answers, strict=True)
        if recording.start_ns <= due_ns < recording.stop_ns
    )


def _endpoints(recording: Recording, workload: Workload) -> tuple[EndpointFigures, ...]:
    if not isinstance(workload, WireWorkload) or len(workload.addresses) < 2:
        return ()
    return endpoint_figures(
        [(lane.due_ns, lane.done_ns, lane.address) for lane in recording.lanes],
        [address.label for address in workload.addresses],
        recording.address_errors,
        (recording.start_ns, recording.stop_ns),
        workload.batch_size,
    )


def _behind_balancer(
    before: Mapping[str, int], after: Mapping[str, int], whole: WindowFigures
) -> tuple[EndpointFigures, ...]:
    """How servers that only the balancer sees shared the window, by what they count themselves."""
    served = {server: after[server] - before.get(server, 0) for server in after}
    total = sum(served.values())
    if len(served) < 2 or not total:
        return ()
    return tuple(
        EndpointFigures(server, count, 0, whole.throughput * count / total) for server, count in served.items()
    )


def give_up(recording: Recording, started: StartedTarget, point: LoadPoint) -> NoReturn:
    """No correct answers: say whether the target is gone or wrong.

    Raises:
        TargetDied: gone.
        LoadError: wrong.
    """
    problem = recording.lost or recording.error_sample or "no request was answered"
    # A server that was told to end closes its connections first and may take a while over the rest.
    end = time.monotonic() + _DYING_S
    while time.monotonic() < end:
        try:
            started.check()
        except TargetError as error:
            raise type(error)(f"At {point.label}: {error}") from error
        time.sleep(_DYING_S / 20)
    detail = f"\nFirst failure: {recording.error_sample}" if recording.error_sample and recording.lost else ""
    raise LoadError(f"At {point.label} the target is there but gives no correct answers: {problem}.{detail}")
