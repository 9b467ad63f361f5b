"""Levels of a sweep as perf_client's users read them: its lines, its CSV, its columns. Pure.

What perf_client splits the client's time into (send, receive) is not measured here; what is beside the server's own
times is "Network+Server Send/Recv". In open loop "Client Send" is the wait from the scheduled instant to the send, so
that the parts still add up to the latency.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import Histogram, LoadPoint, PointFigures, Window
from pytest_gpuperf.model.histogram import GAMMA
from pytest_gpuperf.model.level import MeasuredLevel
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.report.findings import words

_PERCENTILES = (50.0, 90.0, 95.0, 99.0)


@dataclass(frozen=True)
class Layout:
    """What the reader asked to see.

    Attributes:
        percentile: asked for beside the usual ones, and used for stability; None for the mean.
        verbose: also the further columns of the CSV.
    """

    percentile: float | None = None
    verbose: bool = False

    @property
    def percentiles(self) -> list[float]:
        return sorted({*_PERCENTILES, *(() if self.percentile is None else (self.percentile,))})


@dataclass(frozen=True)
class Parts:
    """Where the mean latency of a request went, in ns; None where the server doesn't say.

    Attributes:
        send_ns: from its scheduled instant to its send; 0 in closed loop.
        network_ns: neither waiting to be sent nor accounted for by the server.
    """

    send_ns: float
    network_ns: float
    queue_ns: float | None = None
    input_ns: float | None = None
    infer_ns: float | None = None
    output_ns: float | None = None

    @property
    def server_ns(self) -> float:
        return sum(part or 0.0 for part in (self.queue_ns, self.input_ns, self.infer_ns, self.output_ns))


def parts(figures: PointFigures) -> Parts:
    """Where the time went, on average."""
    mean_ns, service = figures.latency_mean_ns, figures.service
    send_ns = max(mean_ns - mean_of(service), 0.0) if service is not None and service.total else 0.0
    server = figures.server
    if server is None:
        return Parts(send_ns, max(mean_ns - send_ns, 0.0))
    count = max(server.requests, 1)
    times = [
        total / count
        for total in (server.queue_ns, server.compute_input_ns, server.compute_infer_ns, server.compute_output_ns)
    ]
    # Measured by another clock over other requests: the difference can be below zero.
    return Parts(send_ns, max(mean_ns - send_ns - sum(times), 0.0), *times)


def mean_of(histogram: Histogram) -> float:
    """The mean, within the histogram's precision."""
    return _sum(histogram, 1) / histogram.total


def deviation_of(histogram: Histogram) -> float:
    """The standard deviation."""
    mean = mean_of(histogram)
    return math.sqrt(max(_sum(histogram, 2) / histogram.total - mean * mean, 0.0))


def _sum(histogram: Histogram, power: int) -> float:
    pairs = zip(histogram.buckets, histogram.counts, strict=True)
    return math.fsum(count * math.pow(GAMMA, (bucket + 0.5) * power) for bucket, count in pairs)


# The lines.


def load_of(point: LoadPoint) -> str:
    """``Concurrency: 4`` or ``Request Rate: 500``, as in the verdict_counts list."""
    return f"Concurrency: {point.concurrency}" if point.concurrency else f"Request Rate: {_number(point.rate)}"


def title(point: LoadPoint, source: str = "") -> str:
    """The line above a level.

    Args:
        source: where its intervals come from.
    """
    if point.concurrency:
        return f"Request concurrency: {point.concurrency}"
    return f"Request Rate: {_number(point.rate)} inference requests per seconds" + (f" ({source})" if source else "")


def pass_line(number: int, window: Window, layout: Layout) -> str:
    """One window of a level, counted from 1."""
    text = f"  Pass [{number}] throughput: {_number(window.throughput)} infer/sec. "
    if not window.latency.total:
        return text + "No request was answered."
    if layout.percentile is not None:
        return text + f"p{layout.percentile:g} latency: {_us(_quantile(window, layout.percentile))} usec"
    return text + f"Avg latency: {_us(window.latency_mean_ns)} usec (std {_us(deviation_of(window.latency))} usec)."


def level_lines(level: MeasuredLevel, layout: Layout) -> list[str]:
    """The block of a level, below its title."""
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
    if _several(figures):
        lines.append(f"Response Throughput: {_number(figures.answers / figures.window_s)} infer/sec")
    if figures.latency.total:
        lines.append(
            f"Avg latency: {_us(figures.latency_mean_ns)} usec "
            f"(standard deviation {_us(deviation_of(figures.latency))} usec)"
        )
        lines += [f"p{p:g} latency: {_us(_quantile(figures, p))} usec" for p in layout.percentiles]
    if figures.first is not None and figures.first.total and _several(figures):
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
        f"{one.address}: {plural(one.requests, 'request')}"
        + (f", {one.errors} failed" if one.latency is not None else "")
        + f", {_number(one.throughput)} infer/sec"
        + (f", p50 {_us(one.p50_ns)} usec, p90 {_us(one.p90_ns)} usec" if one.p50_ns else "")
        for one in figures.endpoints
    ]
    return lines


def _server(figures: PointFigures) -> list[str]:
    server, where = figures.server, parts(figures)
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
    """The list at the end, in the order of measurement."""
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


# The CSV.


def csv_text(levels: Sequence[MeasuredLevel], layout: Layout) -> str:
    """perf_client's table, in order of throughput; empty without a level.

    Columns are perf_client's, to the letter; times are whole microseconds. Levels over the latency threshold are left
    out, as there. The verbose table has further columns of ours at its end, the first of which tells unstable levels.
    """
    if not levels:
        return ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(csv_rows(levels, layout))
    return text.getvalue()


def csv_rows(levels: Sequence[MeasuredLevel], layout: Layout) -> list[list[str]]:
    """The same as cells: the titles, then the rows.

    Args:
        levels: one or more, all of closed or all of open loop.
    """
    rows = [level for level in levels if level.within is not False]
    served = all(level.figures.server is not None for level in levels)
    several = any(_several(level.figures) for level in levels)
    titles = _titles(layout, closed=levels[0].point.concurrency > 0, served=served, several=several)
    ordered = sorted(rows, key=lambda level: level.figures.throughput)
    return [titles, *(_cells(level, layout, served=served, several=several) for level in ordered)]


def _titles(layout: Layout, *, closed: bool, served: bool, several: bool) -> list[str]:
    titles = ["Concurrency" if closed else "Request Rate", "Inferences/Second"]
    if several:
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


def _cells(level: MeasuredLevel, layout: Layout, *, served: bool, several: bool) -> list[str]:
    figures, where = level.figures, parts(level.figures)
    point = level.point
    cells = [str(point.concurrency) if point.concurrency else _number(point.rate), _number(figures.throughput)]
    if several:
        cells.append(_number(figures.answers / figures.window_s))
    cells.append(_us(where.send_ns))
    if served:
        times = (where.network_ns, where.queue_ns, where.input_ns, where.infer_ns, where.output_ns)
        cells += [_us(time_ns or 0.0) for time_ns in times]
    # Not measured apart from the network.
    cells.append("0")
    # Nothing was answered: a latency of 0 would be the best of all.
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


def _several(figures: PointFigures) -> bool:
    """Of a stream on which requests have other than one answer each."""
    return figures.answers not in (0, figures.requests)


def _quantile(figures: PointFigures | Window, percentile: float) -> float:
    return figures.latency.quantile_ns(percentile / 100)


def _brief(histogram: Histogram) -> str:
    named = ", ".join(f"p{q * 100:g} {_us(histogram.quantile_ns(q))} usec" for q in (0.5, 0.9, 0.99))
    return f"avg {_us(mean_of(histogram))} usec, {named}"


def _us(time_ns: float) -> str:
    """Whole microseconds, cut and not rounded."""
    return str(int(time_ns / 1000))


def _number(value: float) -> str:
    """Six digits that count, as C++ streams print them, but never in scientific notation."""
    text = f"{value:.6g}"
    return f"{value:.0f}" if "e" in text else text
