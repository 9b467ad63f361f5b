"""One test's results as lines: the terminal section, and the message of a failed gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import Change, Comparison, Curve, CurvePoint, Row, ServerTimes, Session, Verdict, worst
from pytest_gpuperf.report.conditions import disturbance, findings, guarded
from pytest_gpuperf.report.rows import row_table, short_load, short_metric, worst_first
from pytest_gpuperf.report.table import Table
from pytest_gpuperf.report.words import (
    change,
    duration,
    figure,
    plural,
    rate,
    short_interval,
    significant,
    time_unit,
)

_SHOWN_CHANGES = 6
_SHOWN_ROWS = 12
_SHOWN_STALL = 0.01
_NOTHING_SHARED = "NOT COMPARED: there is nothing that both sides measured"


@dataclass(frozen=True)
class Place:
    """Where a session was stored, as people type it.

    Attributes:
        option: what makes the command line tool look there; empty for the default store.
    """

    path: str
    option: str = ""


def curve_table(curve: Curve, rows: Sequence[Row]) -> Table:
    """Load points with their latencies, throughput and, where there is a baseline, the change that decides."""
    batches = any(point.batch_size != 1 for point in curve)
    scale, unit = time_unit(max((point.p50_ns for point in curve), default=1e6))
    table = []
    for point in curve:
        own = [r for r in rows if r.sweep == curve.name and r.point == point.load]
        cells = (short_load(point, batch=batches), *_figures(point, scale))
        table.append(cells + (_verdict_cells(own) if rows else ()))
    whole = [row for row in rows if row.sweep == curve.name and row.point is None]
    if whole:
        blank = ("",) * (len(table[0]) - 3)
        table.append(("all", *blank, *_verdict_cells(whole)))
    kind = "conc" if all(point.concurrency for point in curve) else "load"
    titles = (f">{kind} x b" if batches else f">{kind}", f">p50 {unit}", ">p90", ">p99", ">inf/s")
    return Table(titles + (("change [95%]", "verdict") if rows else ()), tuple(table))


def _figures(point: CurvePoint, scale: float) -> tuple[str, ...]:
    def quantile(name: str) -> str:
        text = significant(getattr(point, f"{name}_ns") / scale)
        return text if name in point.supported else f"~{text}"

    return quantile("p50"), quantile("p90"), quantile("p99"), rate(point.throughput)


def _verdict_cells(rows: Sequence[Row]) -> tuple[str, str]:
    """The row that decides: of the worst verdict, the one with the largest change."""
    if not rows:
        return "", str(Verdict.NO_BASELINE)
    verdict = worst([row.verdict for row in rows])
    row = max((row for row in rows if row.verdict is verdict), key=lambda row: abs(row.worsening))
    return f"{short_metric(row.metric)} {short_interval(row)}", str(verdict)


def session_lines(session: Session, curves: Sequence[Curve], comparison: Comparison, place: Place) -> list[str]:
    """The test's part of the terminal section, without its headline."""
    lines = []
    for curve in curves:
        if len(curves) > 1:
            lines.append(curve.name)
        table = curve_table(curve, comparison.rows)
        lines += table.as_text("  ")
        lines += _marked_lines(curve)
        lines += _server_lines(curve)
        lines += _client_lines(curve)
        lines += _taken_lines(curve)
        lines += _endpoint_lines(curve)
    if any(len(point.supported) < 4 for curve in curves for point in curve):
        lines.append("  ~ too few requests for this percentile")
    lines += guard_lines(session)
    lines += comparison_lines(comparison)
    lines.append(f"  stored as {place.path}")
    return lines


def headline(session: Session, comparison: Comparison) -> str:
    """What happened, in one line."""
    duet = comparison.mode == "duet"
    count = plural(max((run.index + 1 for run in session.runs), default=0), "block" if duet else "run")
    if session.status == "incomplete":
        return f"measurement cut short after {count}; stored, but never part of a baseline"
    nothing = comparison.verdict in (Verdict.NOT_COMPARABLE, Verdict.NO_BASELINE)
    if duet:
        different = comparison.verdict is Verdict.NOT_COMPARABLE
        why = "NOT COMPARABLE: the two sides have different keys" if different else _NOTHING_SHARED
        return why if nothing else f"{comparison.verdict}: {count} against the reference"
    if nothing:
        other = comparison.verdict is Verdict.NOT_COMPARABLE or comparison.differing is not None
        return f"NO BASELINE {'with this key' if other else 'yet'}; recorded one from {count}"
    return f"{comparison.verdict}: {count} against {plural(len(comparison.baseline), 'baseline session')}"


def _marked_lines(curve: Curve) -> list[str]:
    """Points that had to be told from disturbed windows, since they have no others."""
    return [
        f"  ! {point.load.label}: to be taken with care, some run had no undisturbed window ({', '.join(point.guards)})"
        for point in curve
        if point.guards
    ]


def _server_lines(curve: Curve) -> list[str]:
    """Where the time went at the highest load, as the server tells it; of an ensemble, step by step."""
    point = max(curve, key=lambda point: (point.concurrency or point.rate, point.batch_size), default=None)
    if point is None or point.server is None or not point.server.requests:
        return []
    server = point.server
    parts = _server_parts(server, server.requests)
    parts["outside"] = max(point.mean_ns - server.total_ns / server.requests, 0.0)
    lines = [f"  server at {short_load(point, batch=False)}: {_listed(parts)}"]
    return lines + _stage_lines(server, server.requests, "    ")


def _server_parts(server: ServerTimes, requests: int) -> dict[str, float]:
    """Means in ns."""
    return {
        "queue": server.queue_ns / requests,
        "input": server.compute_input_ns / requests,
        "infer": server.compute_infer_ns / requests,
        "output": server.compute_output_ns / requests,
    }


def _listed(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {duration(mean)}" for name, mean in parts.items())


def _stage_lines(server: ServerTimes, requests: int, indent: str) -> list[str]:
    """Of every step, per request of the whole: a step that is run twice counts twice."""
    total_ns = max(sum(stage.total_ns for stage in server.stages.values()), 1)
    lines = []
    for name, stage in server.stages.items():
        lines.append(f"{indent}{name} {stage.total_ns / total_ns:.0%}: {_listed(_server_parts(stage, requests))}")
        lines += _stage_lines(stage, requests, indent + "  ")
    return lines


def _client_lines(curve: Curve) -> list[str]:
    """What the load generator itself cost; in open loop, how well it kept to its schedule."""
    if not any(point.client_cpu_per_request_s for point in curve):
        return []
    point = max(curve, key=lambda point: point.throughput)
    text = f"  client: {duration(point.client_cpu_per_request_s * 1e9)} CPU per request"
    opened = [point for point in curve if point.rate]
    if opened:
        late = max(point.late_share for point in opened)
        lag_ns = max(point.lag_p99_ns for point in opened)
        text += f", sent late {late:.1%} (p99 of the delay {duration(lag_ns)})"
    if (stalled := max(point.stall_share for point in curve)) >= _SHOWN_STALL:
        text += f", stalled {stalled:.0%}"
    lines = [text]
    for point in opened:
        service = f"p50 {duration(point.service_p50_ns)}, p90 {duration(point.service_p90_ns)}"
        lines.append(f"  from the send, at {point.rate:g}/s: {service}")
    for point in curve:
        if point.answers:
            first = f"p50 {duration(point.first_p50_ns)}, p90 {duration(point.first_p90_ns)}"
            lines.append(f"  first of {point.answers / point.requests:.3g} answers, at {point.load.label}: {first}")
    return lines


def _taken_lines(curve: Curve) -> list[str]:
    """Energy and memory, where they can be had; energy at the point where an inference takes the least of it."""
    lines = []
    told = [point for point in curve if point.gpu_energy_j is not None or point.cpu_energy_j is not None]
    if told:
        best = min(told, key=lambda point: (point.gpu_energy_j or 0.0) + (point.cpu_energy_j or 0.0))
        parts = [
            f"{name} {figure('energy', energy_j)}"
            for name, energy_j in (("GPU", best.gpu_energy_j), ("CPU", best.cpu_energy_j))
            if energy_j is not None
        ]
        lines.append(f"  energy per inference: {', '.join(parts)} at {best.load.label} ({best.energy_method})")
    peaks = {
        "target on the device": [point.target_memory_bytes for point in curve],
        "whole device": [point.device_memory_bytes for point in curve],
        "host": [point.host_memory_bytes for point in curve],
    }
    known = {name: [one for one in found if one is not None] for name, found in peaks.items()}
    texts = [f"{name} {figure('memory', max(found))}" for name, found in known.items() if found]
    if texts:
        lines.append(f"  peak memory: {', '.join(texts)}")
    return lines


def _endpoint_lines(curve: Curve) -> list[str]:
    """The figures of each of several endpoints, at the point of the highest throughput."""
    point = max(curve, key=lambda point: point.throughput, default=None)
    if point is None or not point.endpoints:
        return []
    table = Table(
        (f"endpoint at {point.load.label}", ">requests", ">errors", ">p50", ">p90", ">inf/s"),
        tuple(
            (
                one.address,
                str(one.requests),
                str(one.errors),
                duration(one.p50_ns) if one.p50_ns else "-",
                duration(one.p90_ns) if one.p90_ns else "-",
                rate(one.throughput),
            )
            for one in point.endpoints
        ),
    )
    return table.as_text("  ")


def guard_lines(session: Session) -> list[str]:
    """What says that some of a session's windows are not to be trusted."""
    cold = [run for run in session.runs if not run.warmed_up]
    lines = [f"  ! run {run.index + 1} did not become steady while warming up" for run in cold]
    for one in findings([session])[:_SHOWN_ROWS]:
        times = f" (the worst of {plural(one.windows, 'window')})" if one.windows > 1 else ""
        lines.append(f"  ! {one.label}: {one.text}{times}")
    lines += [f"  ! {text}" for text in (guarded([session]), disturbance([session])) if text]
    return lines


def comparison_lines(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.differing is not None:
        fields = ", ".join(
            f"{name} ({there} there, {here} here)" for name, (there, here) in comparison.differing.items()
        )
        which = "the reference" if comparison.mode == "duet" else "the newest other session of this test"
        lines.append(f"  {which} is not comparable: {fields}")
    if comparison.anchored:
        told = ", ".join(
            f"{one.metric} ({100 * one.anchored_sd:.2g}% instead of {100 * one.plain_sd:.2g}%)"
            for one in comparison.anchored
        )
        lines.append(f"  relative to the anchor, which spreads less between sessions: {told}")
    unsure = comparison.of(Verdict.INCONCLUSIVE)
    if unsure:
        lines += _inconclusive_lines(unsure, "block" if comparison.mode == "duet" else "session")
    there = "reference" if comparison.mode == "duet" else "baseline"
    for label in comparison.new_points:
        lines.append(f"  not in the {there}: {label}")
    for label in comparison.missing_points:
        lines.append(f"  in the {there} but not measured now: {label}")
    return lines


def _inconclusive_lines(rows: Sequence[Row], unit: str) -> list[str]:
    least, most = (change(1 + pick(row.min_detectable for row in rows)) for pick in (min, max))
    sees = f"  inconclusive: smallest regression visible here {least}" + (f" to {most}" if most != least else "")
    needed = [row.sessions_to_decide for row in rows if row.sessions_to_decide is not None]
    if len(needed) < len(rows):
        more = f"not every row is decided by more {unit}s; a quieter machine helps more"
    else:
        more = f"about {plural(max(needed), f'more {unit}')} would decide"
        more += ": run it again" if unit == "session" else ""
    return [sees, f"    {more}"]


def failure_message(session: Session, comparison: Comparison, place: Place, baseline: Sequence[Session]) -> str:
    """Which points regressed, by how much, against what, and what to do."""
    regressed = worst_first(comparison.of(Verdict.REGRESSED))
    shown = regressed or worst_first(comparison.of(Verdict.INCONCLUSIVE))
    what = "regressed" if regressed else "is inconclusive (--gpuperf-on-inconclusive fail)"
    duet = comparison.mode == "duet"
    table = row_table(shown[:_SHOWN_ROWS], ("place", "metric", "before", "now", "change", "p"), duet=duet)
    against = "its reference" if duet else plural(len(baseline), "baseline session")
    lines = [f"{session.test} {what} against {against}", *table.as_text("  ")]
    if len(shown) > _SHOWN_ROWS:
        lines.append(f"  and {len(shown) - _SHOWN_ROWS} more")
    if duet:
        return "\n".join([*lines, *_change_lines(comparison.changes, "differs"), f"this session: {place.path}"])
    newest = baseline[0]
    commit = f", commit {newest.commit[:8]}" if newest.commit else ""
    lines.append(f"newest baseline session: {newest.id} of {newest.created_utc[:16].replace('T', ' ')} UTC{commit}")
    lines += _change_lines(comparison.changes)
    lines.append(f"this session: {place.path}")
    lines.append("if the change is meant, accept it as the new baseline:")
    lines.append(f'  gpuperf baseline accept {session.id}{place.option} --reason "..."')
    return "\n".join(lines)


def _change_lines(changes: Sequence[Change], what: str = "changed since") -> list[str]:
    if not changes:
        return [f"what else {what}: nothing that is recorded"]
    lines = [f"what else {what}:"]
    lines += [
        f"  {one.where}: {one.name} {_brief(one.before)} -> {_brief(one.after)}" for one in changes[:_SHOWN_CHANGES]
    ]
    if len(changes) > _SHOWN_CHANGES:
        lines.append(f"  and {len(changes) - _SHOWN_CHANGES} more")
    return lines


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 32 else f"{text[:29]}..."
