"""Notes beside the tables, one sentence each, the same in terminal, Markdown, HTML and commands.

A note that begins with two blanks belongs to the note before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from pytest_gpuperf.model import (
    MARKS,
    QUANTILES,
    ROUNDS,
    Comparison,
    Curve,
    CurvePoint,
    Record,
    Row,
    ServerTimes,
    Verdict,
)
from pytest_gpuperf.model.histogram import BEYOND_QUANTILE
from pytest_gpuperf.report.comparison_table import point_label, short_load, undecided_beside_regressions
from pytest_gpuperf.report.figures import change_of, confidences, duration, figure, plural, rate, short_interval
from pytest_gpuperf.report.findings import finding_notes
from pytest_gpuperf.report.inherited import inherited_notes
from pytest_gpuperf.report.table import Table

_PEAKS = (
    ("target on the device", "target_memory_bytes"),
    ("whole device", "device_memory_bytes"),
    ("host", "host_memory_bytes"),
)
#: Smallest share of stalled time that is worth a note.
_MIN_STALL = 0.01
#: Smallest change of all tests together that is worth a note.
_MIN_COMMON = 0.0005


# Notes on a sweep.


def reliability_notes(curve: Curve) -> list[str]:
    """Name the load points at which some run has only disturbed windows."""
    disturbances = {point.load.label: [guard for guard in point.guards if guard not in MARKS] for point in curve}
    return [
        f"{label} is less reliable: at least one run was disturbed throughout ({', '.join(guards)})"
        for label, guards in disturbances.items()
        if guards
    ]


def few_requests_notes(points: Iterable[CurvePoint]) -> list[str]:
    """Explain the mark of a quantile with too few requests, if some point has one."""
    return ["~ too few requests for this percentile"] if any(len(point.supported) < 4 for point in points) else []


def rounds_notes(curve: Curve) -> list[str]:
    """Return how many rounds pytest-benchmark measured, and which gated quantiles need more."""
    notes = []
    for point in curve if curve.name.partition(",")[0] == ROUNDS else ():
        needed = {name: math.ceil(BEYOND_QUANTILE / (1 - QUANTILES[name]) - 1e-9) for name in ("p50", "p90")}
        lacking = [f"{name} ({rounds})" for name, rounds in needed.items() if name not in point.supported]
        few = f", too few for {' and '.join(lacking)}" if lacking else ""
        notes.append(f"{plural(point.requests, 'round')} measured by pytest-benchmark{few}")
    return notes


def curve_notes(curve: Curve) -> list[str]:
    """Return where the time went, what the load generator cost, energy and memory."""
    return [*rounds_notes(curve), *_server_notes(curve), *client_notes(curve), *_resource_notes(curve)]


def _server_notes(curve: Curve) -> list[str]:
    """Return where the server spent its time at the highest load, with each step of an ensemble."""
    point = max(curve, key=lambda point: (point.concurrency or point.rate, point.batch_size), default=None)
    if point is None or point.server is None or not point.server.requests:
        return []
    server = point.server
    parts = _server_parts(server, server.requests, max(server.computed, 1))
    queue_ns = parts.pop("queue")
    outside_ns = max(point.mean_ns - server.total_ns / server.requests, 0.0)
    split = {"queue": queue_ns, "compute": sum(parts.values()), "outside": outside_ns}
    notes = [f"server time at {short_load(point, batch=False)}: {_listed(split)}", f"  compute: {_listed(parts)}"]
    return notes + _stage_notes(server, server.requests, "  ")


def _server_parts(server: ServerTimes, requests: int, computed: int) -> dict[str, float]:
    """Return mean times: all requests queue, but those that the response cache answers are not computed."""
    return {
        "queue": server.queue_ns / requests,
        "input": server.compute_input_ns / computed,
        "infer": server.compute_infer_ns / computed,
        "output": server.compute_output_ns / computed,
    }


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {duration(mean)}" for name, mean in parts.items())


def _stage_notes(server: ServerTimes, requests: int, indent: str) -> list[str]:
    """Return the time of each step per request to the ensemble; a step that runs twice counts twice."""
    total_ns = max(sum(stage.total_ns for stage in server.stages.values()), 1)
    notes = []
    for name, stage in server.stages.items():
        notes.append(
            f"{indent}{name} {stage.total_ns / total_ns:.0%}: {_listed(_server_parts(stage, requests, requests))}"
        )
        notes += _stage_notes(stage, requests, indent + "  ")
    return notes


def client_notes(curve: Curve) -> list[str]:
    """Return what the load generator cost and, in open loop, how well it kept its schedule."""
    if not any(point.client_cpu_per_request_s for point in curve):
        return []
    point = max(curve, key=lambda point: point.throughput)
    text = f"load generator: {duration(point.client_cpu_per_request_s * 1e9)} CPU per request"
    opened = [point for point in curve if point.rate]
    if opened:
        late = max(point.late_share for point in opened)
        lag_ns = max(point.lag_p99_ns for point in opened)
        text += f", {late:.1%} sent late (p99 of the delay: {duration(lag_ns)})"
    if (stalled := max(point.stall_share for point in curve)) >= _MIN_STALL:
        text += f", stalled {stalled:.0%}"
    notes = [text]
    for point in opened:
        service = f"p50 {duration(point.service_p50_ns)}, p90 {duration(point.service_p90_ns)}"
        notes.append(f"service time (from the send) at {point.rate:g}/s: {service}")
    for point in curve:
        if point.answers:
            first = f"p50 {duration(point.first_p50_ns)}, p90 {duration(point.first_p90_ns)}"
            notes.append(f"first of {point.answers / point.requests:.3g} answers at {point.load.label}: {first}")
    return notes


def _resource_notes(curve: Curve) -> list[str]:
    notes = []
    metered = [point for point in curve if point.gpu_energy_j is not None or point.cpu_energy_j is not None]
    if metered:
        best = min(metered, key=lambda point: (point.gpu_energy_j or 0.0) + (point.cpu_energy_j or 0.0))
        joules = {"GPU": best.gpu_energy_j, "CPU": best.cpu_energy_j}
        parts = [f"{name} {figure('energy', value)}" for name, value in joules.items() if value is not None]
        notes.append(f"energy per inference: {', '.join(parts)} at {best.load.label} ({best.energy_method})")
    texts = []
    for name, field in _PEAKS:
        peaks = [peak for point in curve if (peak := getattr(point, field)) is not None]
        texts += [f"{name} {figure('memory', max(peaks))}"] if peaks else []
    if texts:
        notes.append(f"peak memory: {', '.join(texts)}")
    return notes


def endpoint_table(curve: Curve) -> Table | None:
    """Return the figures of each endpoint at the point of the highest throughput; None for a single endpoint.

    Behind a balancer, errors and latencies of an endpoint are unknown.
    """
    point = max(curve, key=lambda point: point.throughput, default=None)
    if point is None or not point.endpoints:
        return None
    rows = []
    for endpoint in point.endpoints:
        errors = str(endpoint.errors) if endpoint.latency is not None else "-"
        quantiles = (duration(ns) if ns else "-" for ns in (endpoint.p50_ns, endpoint.p90_ns))
        rows.append((endpoint.address, str(endpoint.requests), errors, *quantiles, rate(endpoint.throughput)))
    return Table((f"endpoint at {point.load.label}", ">requests", ">errors", ">p50", ">p90", ">inf/s"), tuple(rows))


# Notes on a record and on its comparison.


def interference_notes(record: Record, *, by_load_point: bool = True) -> list[str]:
    """Return what disturbed the windows of a record, with all affected load points or a few of them."""
    cold = [run for run in record.runs if not run.warmed_up]
    notes = [f"run {run.index + 1} did not reach a steady state during warm-up" for run in cold]
    return notes + finding_notes([record], by_load_point=by_load_point)


def key_differences(comparison: Comparison) -> str:
    """Return the fields of the key that differ, as ``device is NVIDIA A10, not NVIDIA L4``."""
    differing = comparison.differing or {}
    return "; ".join(f"{name} is {there}, not {here}" for name, (there, here) in differing.items())


def interval_notes(comparison: Comparison) -> list[str]:
    """Explain why intervals are wider than the usual 95% intervals; empty if none is."""
    if confidences(comparison.rows) == confidences(()):
        return []
    alpha = f"{100 * comparison.alpha:.3g}%"
    return [f"intervals [ ] are wide enough to keep the risk of any false alarm at {alpha}"]


def comparison_notes(comparison: Comparison, record: Record, *, brief: bool = False) -> list[str]:
    """Return what the rows of a comparison do not show.

    Args:
        record: The record that was compared.
        brief: Whether to leave out the figures that were measured but not compared.
    """
    duet = comparison.mode == "duet"
    notes = []
    if comparison.differing:
        which = "the reference" if duet else "the newest record of this test"
        notes.append(f"{which} has a different key: {key_differences(comparison)}")
    notes += inherited_notes(comparison)
    notes += _device_notes(comparison, record)
    notes += _common_notes(comparison)
    notes += _anchored_notes(comparison)
    if beside := undecided_beside_regressions(comparison.rows):
        notes += _undecided_beside_notes(beside)
    elif undecided := comparison.of(Verdict.INCONCLUSIVE):
        notes += _inconclusive_notes(undecided, comparison, record)
    there = "reference" if duet else "baseline"
    notes += [f"measured now but not in the {there}: {label}" for label in comparison.new_points]
    notes += [f"in the {there} but not measured now: {label}" for label in comparison.missing_points]
    left_out = () if brief else comparison.left_out
    return notes + [f"not compared (too few requests in a run, or no value): {label}" for label in left_out]


def _anchored_notes(comparison: Comparison) -> list[str]:
    several = len({anchored.sweep for anchored in comparison.anchored}) > 1
    metrics = ", ".join(
        f"{f'{anchored.sweep}: ' if several else ''}{anchored.metric} "
        f"(spread {100 * anchored.anchored_sd:.2g}% instead of {100 * anchored.plain_sd:.2g}%)"
        for anchored in comparison.anchored
    )
    return [f"compared relative to the anchor, which varies less between records: {metrics}"] if metrics else []


def _device_notes(comparison: Comparison, record: Record) -> list[str]:
    """Say how much of the baseline was measured on this device, where GPUs of one model count as one kind."""
    devices = comparison.devices
    if devices is None:
        return []
    kind = "GPU" if record.device_kind == "gpu" else "machine"
    if devices.known:
        here = (
            f"{plural(devices.known, 'record')} of the baseline {'is' if devices.known == 1 else 'are'} of this {kind}"
        )
    else:
        here = f"first record on this {kind}"
    count = devices.others + bool(devices.known)
    source = f"estimated from {f'{count} {kind}s' if count > 1 else 'the store'}" if devices.measured else "assumed"
    return [f"{here}; other {kind}s of this model differ by {100 * devices.sd:.2g}% ({source})"]


def _common_notes(comparison: Comparison) -> list[str]:
    """Say by how much all tests changed together, since the rows show what a test changed by beyond that."""
    shown = [common for common in comparison.common if abs(common.ratio - 1) >= _MIN_COMMON]
    if not shown:
        return []
    changes = ", ".join(f"{common.metric} {change_of(common.metric, common.ratio)}" for common in shown)
    tests = plural(max(common.tests for common in shown), "test")
    return [f"baseline figures include what all {tests} changed by together: {changes}"]


def _undecided_beside_notes(rows: Sequence[Row]) -> list[str]:
    largest = rows[0]
    what = "1 comparison is" if len(rows) == 1 else f"{len(rows)} comparisons are"
    place = f"at {point_label(largest)}" if largest.point else "over the whole sweep"
    text = f"{largest.metric} {short_interval(largest)} {place}"
    where = text if len(rows) == 1 else f"the largest: {text}"
    return [f"{what} inconclusive when taken alone ({where}); the others show the regression"]


def _inconclusive_notes(rows: Sequence[Row], comparison: Comparison, record: Record) -> list[str]:
    finest = min(rows, key=lambda row: row.min_detectable)
    least = change_of(finest.metric, 1 + finest.min_detectable).removeprefix("+")
    detectable = f"inconclusive: could have detected a regression of {least} or more"
    needed = [row.records_to_decide for row in rows if row.records_to_decide is not None]
    count = max(needed, default=0) if len(needed) == len(rows) else None
    duet = comparison.mode == "duet"
    if not count:
        unit, remedy = ("block", "") if duet else ("record", "gpuperf duet or ")
        advice = f"more {unit}s alone will not decide; {remedy}a quieter machine could"
    elif duet:
        advice = f"about {plural(count, 'more block')} would decide"
    elif not joins_baseline(record, comparison) or all(row.against == "pinned" for row in rows):
        return [detectable]  # further records would not join the baseline, or would not change a pinned one
    else:
        advice = f"about {plural(count, 'more baseline record')} would decide, such as main's next"
    return [detectable, f"  {advice}"]


def joins_baseline(record: Record, comparison: Comparison) -> bool:
    """Return whether a record enters the baseline without being accepted by hand."""
    return record.may_be_baseline and not comparison.suspect and comparison.verdict is not Verdict.INHERITED
