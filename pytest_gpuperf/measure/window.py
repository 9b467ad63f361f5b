"""A window at a load point: its requests' figures, the server's times, and what disturbed it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import NoReturn

from pytest_gpuperf.analysis.guard import (
    cache_findings,
    client_findings,
    cpu_findings,
    device_findings,
    instrument_findings,
)
from pytest_gpuperf.analysis.window import WindowFigures, endpoint_figures, window_figures
from pytest_gpuperf.clock import time
from pytest_gpuperf.device import (
    Monitor,
    instruments,
    others_share,
    read_cpu,
    read_threads,
    steal_share,
    threads_between,
)
from pytest_gpuperf.errors import CallFailed, LoadError, TargetError
from pytest_gpuperf.load import LoadGenerator, Recording, WindowSpec
from pytest_gpuperf.measure.policy import WindowRequest
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

#: How long a target that gives no answers is watched for its end, before its answers are called wrong.
_DYING_S = 2.0


def take_window(
    generator: LoadGenerator,
    started: StartedTarget,
    workload: Workload,
    request: WindowRequest,
    *,
    name: str,
    watch_cpu: bool = False,
    monitor: Monitor | None = None,
) -> tuple[Window, Recording]:
    """Measure a window.

    Args:
        name: Name of the sweep.
        watch_cpu: Whether the CPU is the device under test: what other processes take of it is then recorded.
        monitor: Reads energy, memory and the state of the devices; may lengthen the window.

    Returns:
        The window, and the times of every request in it.

    Raises:
        TargetDied: The target is gone.
        LoadError: It gives no correct answers, or the load generator failed.
    """
    point, spec = request.point, request.spec
    if monitor is not None:
        device_ids = started.device_ids if isinstance(started, OnDevices) else ()
        monitor.attach(started.processes, started.metrics_url, local=started.local, device_ids=device_ids)
        spec = _fitted(spec, monitor)
    replicated = started if isinstance(started, Replicated) else None
    before = started.server_times()
    counts_before: Mapping[str, int] = {}
    if replicated is not None:
        workload, counts_before = replicated.current(workload), replicated.requests_by_server()
    instrument_names = instruments(started.processes)
    threads_before = {} if watch_cpu else read_threads(started.processes)
    cpu_before = read_cpu()
    with monitor.watching() if monitor is not None else nullcontext():
        recording = generator.window(workload, spec)
    cpu_after = read_cpu()
    target_cpu_s, target_wait_s = threads_between(threads_before, {} if watch_cpu else read_threads(started.processes))
    if recording.lost or not recording.answered:
        give_up(recording, started, point)
    after = started.server_times()
    edges = recording.start_ns, recording.stop_ns
    resources = monitor.window(*edges) if monitor is not None else Resources()
    undisturbed = [window for window in request.earlier if window.point == point and window.undisturbed]
    answered = window_figures(
        ((lane.due_ns, lane.sent_ns, lane.done_ns) for lane in recording.lanes), *edges, point.batch_size
    )
    window_s, others = (edges[1] - edges[0]) / 1e9, others_share(cpu_before, cpu_after)
    errors = sum(recording.errors.values())
    findings = device_findings(resources.gpus, resources.failures, undisturbed) + client_findings(
        window_s=window_s,
        client_cpu_s=recording.cpu_s,
        workers=recording.workers,
        requests=answered.requests,
        errors=errors,
        stall_s=recording.stall_s,
        wait_s=recording.wait_s,
        halted_s=recording.halted_s,
        stops=recording.stops,
        late=answered.late,
        due_rate=(answered.requests + errors) * point.batch_size / window_s if spec.arrivals is not None else 0.0,
        done_rate=answered.throughput,
        skew_s=recording.skew_s,
        inside=isinstance(workload, CallWorkload),
        shares_cores=watch_cpu,
        others_share=others,
    )
    findings += cpu_findings(
        window_s=window_s,
        steal_share=steal_share(cpu_before, cpu_after),
        others_share=others,
        target_cpu_s=target_cpu_s,
        target_wait_s=target_wait_s,
    )
    server = after - before if before is not None and after is not None else None
    findings += cache_findings(server) + instrument_findings(instrument_names)
    endpoints = _endpoints(recording, workload)
    if replicated is not None:
        findings += replicated.findings()
        endpoints = endpoints or _behind_balancer(counts_before, replicated.requests_by_server(), answered)
    firsts = [(lane.due_ns, lane.first_ns, lane.first_ns) for lane in recording.lanes if lane.first_ns is not None]
    window = Window(
        sweep=name,
        point=point,
        visit=request.visit,
        window_s=window_s,
        requests=answered.requests,
        throughput=answered.throughput,
        latency_mean_ns=answered.latency_mean_ns,
        latency=answered.latency,
        errors=recording.errors,
        error_sentences=recording.error_sentences,
        client_cpu_s=recording.cpu_s,
        stall_s=recording.stall_s,
        client_wait_s=recording.wait_s,
        client_halted_s=recording.halted_s,
        client_stops=recording.stops,
        service=answered.service if spec.arrivals is not None else None,
        late=answered.late,
        lag_p99_ns=answered.lag_p99_ns,
        first=window_figures(firsts, *edges, 1).latency if firsts else None,
        answers=_answers(recording),
        endpoints=endpoints,
        server=server,
        others_cpu_share=others if watch_cpu else None,
        energy=resources.energy,
        memory=resources.memory,
        gpus=resources.gpus,
        findings=tuple(dict.fromkeys(findings)),
    )
    return window, recording


def _fitted(spec: WindowSpec, monitor: Monitor) -> WindowSpec:
    """Fit the window's length to the energy counters; the length of a ramp is given."""
    if spec.once or spec.start_ns or isinstance(spec.arrivals, Ramp):
        return spec
    window_s, lead_in_s = monitor.fit(spec.window_s, spec.lead_in_s, spec.max_window_s)
    return replace(spec, window_s=window_s, lead_in_s=lead_in_s)


def _answers(recording: Recording) -> int:
    """Count the answers to the window's requests; 0 without streams."""
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
    before: Mapping[str, int], after: Mapping[str, int], window: WindowFigures
) -> tuple[EndpointFigures, ...]:
    """Return the shares of servers behind a balancer, by the requests that they count."""
    served = {server: after[server] - before.get(server, 0) for server in after}
    total = sum(served.values())
    if len(served) < 2 or not total:
        return ()
    return tuple(
        EndpointFigures(server, count, 0, window.throughput * count / total) for server, count in served.items()
    )


def check_target(started: StartedTarget, point: LoadPoint) -> None:
    """Return if the target is alive; else raise its error, with the load point."""
    try:
        started.check()
    except TargetError as error:
        raise type(error)(f"At {point.label}: {error}") from error


def give_up(recording: Recording, started: StartedTarget, point: LoadPoint) -> NoReturn:
    """Raise the error of a window without correct answers: TargetDied if the target is gone, else LoadError."""
    problem = recording.lost or recording.error_sample or "no request was answered"
    # A server that is shutting down closes its connections first and may take a while to end.
    end = time.monotonic() + _DYING_S
    while time.monotonic() < end:
        check_target(started, point)
        time.sleep(_DYING_S / 20)
    detail = f"\nFirst failure: {recording.error_sample}" if recording.error_sample and recording.lost else ""
    kind = LoadError if recording.call_error is None else CallFailed
    raise kind(
        f"At {point.label} the target is running but gives no correct answers: {problem}.{detail}"
    ) from recording.call_error
