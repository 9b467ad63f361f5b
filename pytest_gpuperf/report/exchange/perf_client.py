"""Levels of a sweep in the output format of perf_client: its lines and its CSV.

The client's own send and receive times are not measured; all time outside the server is "Network+Server Send/Recv". In
open loop, "Client Send" is the wait from the scheduled instant to the send, so that the parts add up to the latency.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from pytest_gpuperf.model import Histogram, LoadPoint, PointFigures, ServerTimes, Window
from pytest_gpuperf.model.level import MeasuredLevel
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.report.findings import words
from pytest_gpuperf.report.latency_parts import deviation_of, latency_parts, mean_of

_PERCENTILES = (50.0, 90.0, 95.0, 99.0)
_COMPUTE = ("input", "infer", "output")
Cell = Callable[[MeasuredLevel], str]


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
        lines += _composing(figures.server, figures.point.batch_size)
    lines += [f"  [WARNING] {words([finding])}" for finding in level.findings]
    if level.mark:
        lines.append(f"  [WARNING] {level.mark}" + (f": {level.reason}" if level.reason else ""))
    return lines


def _client(figures: PointFigures, layout: Layout) -> list[str]:
    lines = [f"Request count: {figures.requests}"]
    if figures.error_count:
        lines.append(f"Failed requests: {figures.error_count} ({figures.error_kinds})")
        lines += [f"  {sentence}" for sentence in figures.error_sentences]
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


def _composing(server: ServerTimes, batch_size: int) -> list[str]:
    """Return the lines of the models that an ensemble consists of."""
    lines = ["", "  Composing models: "] if server.stages else []
    for name, times in server.stages.items():
        parts = (times.compute_input_ns, times.compute_infer_ns, times.compute_output_ns)
        queue = _us(times.queue_ns / max(times.requests, 1))
        given, infer, output = (_us(part / max(times.computed, 1)) for part in parts)
        lines += [
            f"  {name}",
            f"      Inference count: {times.computed * batch_size}",
            f"      Execution count: {times.executions}",
            f"      Successful request count: {times.requests}",
            f"      Avg request latency: {_us(times.total_ns / max(times.requests, 1))} usec (queue {queue} usec + "
            f"compute input {given} usec + compute infer {infer} usec + compute output {output} usec)",
            "",
            *_composing(times, batch_size)[2:],
        ]
    return lines


def _server(figures: PointFigures) -> list[str]:
    server, where = figures.server, latency_parts(figures)
    assert server is not None
    compute = [f"compute {part} {_us(getattr(where, f'{part}_ns'))} usec" for part in _COMPUTE]
    breakdown = " + ".join([f"queue {_us(where.queue_ns)} usec", *compute])
    return [
        f"Inference count: {server.computed * figures.point.batch_size}",
        f"Execution count: {server.executions}",
        f"Successful request count: {server.requests}",
        *([f"Cache hit count: {server.cache_hits}"] if server.cache_hits else []),
        f"Avg request latency: {_us(where.server_ns)} usec ({breakdown})",
    ]


def closing_lines(levels: Sequence[MeasuredLevel], layout: Layout) -> list[str]:
    """Return the list at the end, in the order of measurement."""
    name = "Average" if layout.percentile is None else f"p{layout.percentile:g}"
    lines = [f"Inferences/Second vs. Client {name} Batch Latency"]
    for level in levels:
        figures = level.figures
        latency = "no request answered"
        if figures.latency.total:
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
    return csv_of(csv_rows(levels, layout)) if levels else ""


def csv_of(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def csv_rows(levels: Sequence[MeasuredLevel], layout: Layout) -> list[list[str]]:
    """Return the cells of the CSV, titles first.

    Args:
        levels: At least one level; all in closed loop, or all in open loop.
    """
    columns = _columns(levels, layout)
    kept = [level for level in levels if level.within is not False]
    ordered = sorted(kept, key=lambda level: level.figures.throughput)
    return [list(columns), *([cell(level) for cell in columns.values()] for level in ordered)]


def _columns(levels: Sequence[MeasuredLevel], layout: Layout) -> dict[str, Cell]:
    columns: dict[str, Cell] = {}
    if levels[0].point.concurrency:
        columns["Concurrency"] = lambda level: str(level.point.concurrency)
    else:
        columns["Request Rate"] = lambda level: _number(level.point.rate)
    columns["Inferences/Second"] = lambda level: _number(level.figures.throughput)
    if any(_multiple_answers(level.figures) for level in levels):
        columns["Response Throughput"] = lambda level: _number(level.figures.answers / level.figures.window_s)
    columns["Client Send"] = _part("send_ns")
    if all(level.figures.server is not None for level in levels):
        columns["Network+Server Send/Recv"] = _part("network_ns")
        columns["Server Queue"] = _part("queue_ns")
        columns |= {f"Server Compute {part.capitalize()}": _part(f"{part}_ns") for part in _COMPUTE}
    # Not measured apart from the network.
    columns["Client Recv"] = lambda _: "0"
    columns |= {f"p{p:g} latency": _answered(partial(_quantile, percentile=p)) for p in layout.percentiles}
    return columns | ({**_verbose_columns(layout), **_stage_columns(levels)} if layout.verbose else {})


def _verbose_columns(layout: Layout) -> dict[str, Cell]:
    mean: dict[str, Cell] = {"Avg latency": _answered(lambda figures: figures.latency_mean_ns)}
    return {
        **(mean if layout.percentile is None else {}),
        "request/response": _part("send_ns"),
        "response wait": lambda level: _us(level.figures.latency_mean_ns - latency_parts(level.figures).send_ns),
        "Stability": lambda level: level.state,
        "Windows": lambda level: str(level.window_count),
        "Failed requests": lambda level: str(level.figures.error_count),
        "Late sends": lambda level: str(level.figures.late),
        "Send lag p99": lambda level: _us(level.figures.lag_p99_ns),
        "Service p50": lambda level: _service(level.figures.service, 0.5),
        "Service p99": lambda level: _service(level.figures.service, 0.99),
        "Client CPU per request": lambda level: f"{level.figures.client_cpu_per_request_s * 1e6:.1f}",
        "Client stalled": lambda level: _us(level.figures.stall_s * 1e9),
    }


_STAGE_TIMES = {
    "Queue": "queue_ns",
    "Compute Input": "compute_input_ns",
    "Compute Infer": "compute_infer_ns",
    "Compute Output": "compute_output_ns",
}


def _stage_columns(levels: Sequence[MeasuredLevel]) -> dict[str, Cell]:
    """Return the times of each model of an ensemble, per request of it."""
    servers = [level.figures.server for level in levels]
    names = dict.fromkeys(name for server in servers if server is not None for name in server.stages)
    return {
        f"{name} {title}": partial(_stage_time, name=name, part=part)
        for name in names
        for title, part in _STAGE_TIMES.items()
    }


def _stage_time(level: MeasuredLevel, name: str, part: str) -> str:
    server = level.figures.server
    times = None if server is None else server.stages.get(name)
    return "" if times is None or not times.requests else _us(getattr(times, part) / times.requests)


def _part(name: str) -> Cell:
    return lambda level: _us(getattr(latency_parts(level.figures), name))


def _answered(time_ns: Callable[[PointFigures], float]) -> Cell:
    """Return a cell that is empty without answers: a latency of 0 would look like the best."""
    return lambda level: _us(time_ns(level.figures)) if level.figures.latency.total else ""


def _service(histogram: Histogram | None, q: float) -> str:
    return _us(histogram.quantile_ns(q)) if histogram is not None and histogram.total else ""


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
