"""Levels of a sweep in the output format of perf_client: its lines and its CSV.

The client's own send and receive times are not measured; all time outside the server is "Network+Server Send/Recv". In
open loop, "Client Send" is the wait from the scheduled instant to the send, so that the parts add up to the latency.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import Histogram, LoadPoint, PointFigures, Window
from pytest_gpuperf.model.level import MeasuredLevel
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.report.findings import words
from pytest_gpuperf.report.latency_parts import deviation_of, latency_parts, mean_of

_PERCENTILES = (50.0, 90.0, 95.0, 99.0)


@dataclass(frozen=True)
class Layout:
    """The output that the user asked for.

    Attributes:
        percentile: Additional percentile, which also decides stability; None uses the mean.
        verbose: Whether the CSV has its additional columns.
    """

    percentile: float | None = None
    verbose: bool = False

    @property
    def percentiles(self) -> list[float]:
        return sorted({*_PERCENTILES, *(() if self.percentile is None else (self.percentile,))})


# Lines.


def load_of(point: LoadPoint) -> str:
    """Return ``Concurrency: 4`` or ``Request Rate: 500``, as in the closing list."""
    return f"Concurrency: {point.concurrency}" if point.concurrency else f"Request Rate: {_number(point.rate)}"


def title(point: LoadPoint, source: str = "") -> str:
    """Return the line above a level.

    Args:
        source: Source of the request intervals.
    """
    if point.concurrency:
        return f"Request concurrency: {point.concurrency}"
    return f"Request Rate: {_number(point.rate)} inference requests per seconds" + (f" ({source})" if source else "")


def pass_line(number: int, window: Window, layout: Layout) -> str:
    """Return the line of a window; the number counts from 1."""
    text = f"  Pass [{number}] throughput: {_number(window.throughput)} infer/sec. "
    if not window.latency.total:
        return text + "No request was answered."
    if layout.percentile is not None:
        return text + f"p{layout.percentile:g} latency: {_us(_quantile(window, layout.percentile))} usec"
    return text + f"Avg latency: {_us(window.latency_mean_ns)} usec (std {_us(deviation_of(window.latency))} usec)."


def level_lines(level: MeasuredLevel, layout: Layout) -> list[str]:
    """Return the lines of a level, below its title."""
    figures = level.figures
    lines = ["  Client: ", *(f"    {line}" for line in _client(figures, layout))]
    if figures.server is not None and figures.server.requests:
        lines += ["  Server: ", *(f"    {line}" for line in _server(figures))]
    lines += [f"  [WARNING] {words([finding])}" for finding in level.findings]
    if level.mark:
        lines.append(f"  [WARNING] {level.mark}" + (f": {level.reason}" if level.reason else ""))
    return lines


def _client(figures: PointFigures, layout: Layout) -> list[str]:
    lines = [f"Request count: {figures.requests}"]
    if figures.error_count:
        kinds = ", ".join(f"{kind} x {count}" for kind, count in figures.errors.items())
        lines.append(f"Failed requests: {figures.error_count} ({kinds})")
    lines.append(f"Throughput: {_number(figures.throughput)} infer/sec")
    if _multiple_answers(figures):
        lines.append(f"Response Throughput: {_number(figures.answers / figures.window_s)} infer/sec")
    if figures.latency.total:
        lines.append(
            f"Avg latency: {_us(figures.latency_mean_ns)} usec "
            f"(standard deviation {_us(deviation_of(figures.latency))} usec)"
        )
        lines += [f"p{p:g} latency: {_us(_quantile(figures, p))} usec" for p in layout.percentiles]
    if figures.first is not None and figures.first.total and _multiple_answers(figures):
        lines.append(f"First response: {_brief(figures.first)}")
    if figures.service is not None and figures.service.total:
        lines.append(f"Service time (from the send, not the schedule): {_brief(figures.service)}")
        share = figures.late / figures.requests
        lines.append(
            f"Late sends: {figures.late} of {figures.requests} ({share:.2%}) more than 1 msec late; "
            f"99% within {_us(figures.lag_p99_ns)} usec"
        )
    cost = f"Load generator: {figures.client_cpu_per_request_s * 1e6:.1f} usec CPU per request"
    lines.append(cost + (f", stalled for {figures.stall_s * 1e3:.1f} msec" if figures.stall_s else ""))
    lines += [
        f"{endpoint.address}: {plural(endpoint.requests, 'request')}"
        + (f", {endpoint.errors} failed" if endpoint.latency is not None else "")
        + f", {_number(endpoint.throughput)} infer/sec"
        + (f", p50 {_us(endpoint.p50_ns)} usec, p90 {_us(endpoint.p90_ns)} usec" if endpoint.p50_ns else "")
        for endpoint in figures.endpoints
    ]
    return lines


def _server(figures: PointFigures) -> list[str]:
    server, where = figures.server, latency_parts(figures)
    assert server is not None
    named = (
        ("queue", where.queue_ns),
        ("compute input", where.input_ns),
        ("compute infer", where.infer_ns),
        ("compute output", where.output_ns),
    )
    breakdown = " + ".join(f"{name} {_us(time_ns or 0.0)} usec" for name, time_ns in named)
    return [
        f"Inference count: {server.requests * figures.point.batch_size}",
        f"Execution count: {server.executions}",
        f"Successful request count: {server.requests}",
        f"Avg request latency: {_us(where.server_ns)} usec ({breakdown})",
    ]


def closing_lines(levels: Sequence[MeasuredLevel], layout: Layout) -> list[str]:
    """Return the list at the end, in the order of measurement."""
    name = "Average" if layout.percentile is None else f"p{layout.percentile:g}"
    lines = [f"Inferences/Second vs. Client {name} Batch Latency"]
    for level in levels:
        figures = level.figures
        if not figures.latency.total:
            latency = "no request answered"
        else:
            percentile = layout.percentile
            latency_ns = figures.latency_mean_ns if percentile is None else _quantile(figures, percentile)
            latency = f"latency {_us(latency_ns)} usec"
        mark = f" ({level.mark})" if level.mark else ""
        lines.append(f"{load_of(level.point)}, throughput: {_number(figures.throughput)} infer/sec, {latency}{mark}")
    return lines


# CSV.


def csv_text(levels: Sequence[MeasuredLevel], layout: Layout) -> str:
    """Return the CSV of perf_client, sorted by throughput; empty without levels.

    Columns are spelled as in perf_client, times are whole microseconds, and levels over the latency threshold are left
    out. The verbose CSV has additional columns at its end, the first of which marks unstable levels.
    """
    if not levels:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(csv_rows(levels, layout))
    return text.getvalue()


def csv_rows(levels: Sequence[MeasuredLevel], layout: Layout) -> list[list[str]]:
    """Return the cells of the CSV, titles first.

    Args:
        levels: At least one level; all in closed loop, or all in open loop.
    """
    kept = [level for level in levels if level.within is not False]
    served = all(level.figures.server is not None for level in levels)
    multiple_answers = any(_multiple_answers(level.figures) for level in levels)
    titles = _titles(layout, closed=levels[0].point.concurrency > 0, served=served, multiple_answers=multiple_answers)
    ordered = sorted(kept, key=lambda level: level.figures.throughput)
    return [titles, *(_cells(level, layout, served=served, multiple_answers=multiple_answers) for level in ordered)]


def _titles(layout: Layout, *, closed: bool, served: bool, multiple_answers: bool) -> list[str]:
    titles = ["Concurrency" if closed else "Request Rate", "Inferences/Second"]
    if multiple_answers:
        titles.append("Response Throughput")
    titles.append("Client Send")
    if served:
        titles += ["Network+Server Send/Recv", "Server Queue"]
        titles += ["Server Compute Input", "Server Compute Infer", "Server Compute Output"]
    titles += ["Client Recv", *(f"p{p:g} latency" for p in layout.percentiles)]
    if layout.verbose:
        if layout.percentile is None:
            titles.append("Avg latency")
        titles += ["request/response", "response wait"]
        titles += ["Stability", "Windows", "Failed requests", "Late sends", "Send lag p99"]
        titles += ["Service p50", "Service p99", "Client CPU per request", "Client stalled"]
    return titles


def _cells(level: MeasuredLevel, layout: Layout, *, served: bool, multiple_answers: bool) -> list[str]:
    figures, where = level.figures, latency_parts(level.figures)
    point = level.point
    cells = [str(point.concurrency) if point.concurrency else _number(point.rate), _number(figures.throughput)]
    if multiple_answers:
        cells.append(_number(figures.answers / figures.window_s))
    cells.append(_us(where.send_ns))
    if served:
        times = (where.network_ns, where.queue_ns, where.input_ns, where.infer_ns, where.output_ns)
        cells += [_us(time_ns or 0.0) for time_ns in times]
    # Not measured apart from the network.
    cells.append("0")
    # Without answers the cell is empty: a latency of 0 would look like the best.
    cells += [_us(_quantile(figures, p)) if figures.latency.total else "" for p in layout.percentiles]
    if layout.verbose:
        if layout.percentile is None:
            cells.append(_us(figures.latency_mean_ns) if figures.latency.total else "")
        cells += [_us(where.send_ns), _us(figures.latency_mean_ns - where.send_ns)]
        cells += [
            level.state,
            str(level.window_count),
            str(figures.error_count),
            str(figures.late),
            _us(figures.lag_p99_ns),
        ]
        service = figures.service if figures.service is not None and figures.service.total else None
        cells += ["" if service is None else _us(service.quantile_ns(q)) for q in (0.5, 0.99)]
        cells += [f"{figures.client_cpu_per_request_s * 1e6:.1f}", _us(figures.stall_s * 1e9)]
    return cells


def _multiple_answers(figures: PointFigures) -> bool:
    """Return whether requests have another number of answers than one."""
    return figures.answers not in (0, figures.requests)


def _quantile(figures: PointFigures | Window, percentile: float) -> float:
    return figures.latency.quantile_ns(percentile / 100)


def _brief(histogram: Histogram) -> str:
    named = ", ".join(f"p{q * 100:g} {_us(histogram.quantile_ns(q))} usec" for q in (0.5, 0.9, 0.99))
    return f"avg {_us(mean_of(histogram))} usec, {named}"


def _us(time_ns: float) -> str:
    """Format whole microseconds, truncated."""
    return str(int(time_ns / 1000))


def _number(value: float) -> str:
    """Format six significant digits like a C++ stream, but never in scientific notation."""
    text = f"{value:.6g}"
    return f"{value:.0f}" if "e" in text else text
