"""The comparison of one test on several devices: a table and its notes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from pytest_gpuperf.model import DeviceComparison, DevicePoint, DeviceResult, Ratio
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.comparison_table import ENTIRE_SWEEP
from pytest_gpuperf.report.cost import price_line, usd
from pytest_gpuperf.report.figures import dated, duration, figure, rate
from pytest_gpuperf.report.markdown.comment import MAX_CHARACTERS, marker_line
from pytest_gpuperf.report.markdown.size_limit import TextPart, cut_note, fit
from pytest_gpuperf.report.table import Table


def device_table(comparison: DeviceComparison) -> Table:
    """Return a row for each load point and device; every ``x`` is the ratio to the first device with its 95% interval.

    Columns of dollars and joules are shown if any device has them.
    """
    dollars = any(point.usd_per_million is not None for side in comparison.sides for point in side.points)
    joules = any(point.energy_j is not None for side in comparison.sides for point in side.points)
    titles = ["load point", "GPU", ">inf/s", ">x", ">p90", ">x"]
    titles += [">$/million", ">inf per $"] if dollars else []
    titles += [">J/inf", ">inf per J"] if joules else []
    rows = []
    for sweep, label in _load_points(comparison.sides):
        title = f"{sweep}: {label}"
        for side in comparison.sides:
            for point in side.points:
                if (point.sweep, _label(point)) == (sweep, label):
                    rows.append(_cells(title, side, point, dollars, joules))
                    title = ""
    return Table(tuple(titles), tuple(rows))


def _load_points(sides: Sequence[DeviceResult]) -> list[tuple[str, str]]:
    """Return sweeps with their load points, the figures of the whole sweep last."""
    pairs = dict.fromkeys((point.sweep, _label(point)) for side in sides for point in side.points)
    sweeps = list(dict.fromkeys(sweep for sweep, _ in pairs))
    return sorted(pairs, key=lambda pair: (sweeps.index(pair[0]), pair[1] == ENTIRE_SWEEP))


def _label(point: DevicePoint) -> str:
    return point.point.label if point.point else ENTIRE_SWEEP


def _cells(title: str, side: DeviceResult, point: DevicePoint, dollars: bool, joules: bool) -> tuple[str, ...]:
    known = point.point is not None
    cells = [title, side.device, rate(point.throughput) if known else "", ratio_text(point.ratios.get("throughput"))]
    cells += [duration(point.p90_ns) if known and point.p90_ns else "", ratio_text(point.ratios.get("p90"))]
    if dollars:
        cells += ["" if point.usd_per_million is None else usd(point.usd_per_million)]
        cells += [ratio_text(point.ratios.get("inferences_per_usd"))]
    if joules:
        cells += ["" if point.energy_j is None else figure("energy", point.energy_j)]
        cells += [ratio_text(point.ratios.get("inferences_per_j"))]
    return tuple(cells)


def ratio_text(ratio: Ratio | None) -> str:
    """Format a ratio with its interval, as ``2.51x [2.40, 2.63]``."""
    if ratio is None:
        return ""
    ends = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:.3g}, {ratio.high:.3g}]"
    return f"{ratio.value:.3g}x{ends}"


def device_notes(comparison: DeviceComparison) -> list[str]:
    """Return notes on the records behind the table, on what else differs, and on prices."""
    first = comparison.sides[0]
    lines = [f"x is the ratio to {first.device} with its 95% interval; nothing is gated"]
    for side in comparison.sides:
        lines.append(f"{side.device}: record {side.record} of {dated(side.created_utc, side.commit)}")
    for side in comparison.sides:
        lines += side.notes
        lines += side.missing
        lines += [
            f"differs on {side.device}: {change.where}: {change.name} {change.before} -> {change.after}"
            for change in side.changes
        ]
    if not any(side.points for side in comparison.sides):
        lines.append("the devices have no load point in common")
    lines += [f"no price for {side.device}" for side in comparison.sides if side.price is None]
    lines += dict.fromkeys(f"price: {price_line(side.price)}" for side in comparison.sides if side.price)
    return lines


def device_comparison_markdown(comparison: DeviceComparison) -> list[str]:
    """Return the comparison of one test as lines of Markdown."""
    lines = [f"### {escape.code(comparison.test)}", "", *device_table(comparison).as_markdown(), ""]
    return lines + [f"* {escape.code(note)}" for note in device_notes(comparison)]


def device_comparison_comment(comparisons: Sequence[DeviceComparison], *, title: str = "", marker: str = "") -> str:
    """Return the comparisons of several tests as a comment within GitHub's size limit."""
    head = [marker_line(marker)] + ([f"## {escape.code(escape.shorten(title, 120))}"] if title else [])
    tests = [TextPart(("\n".join(device_comparison_markdown(test)), ""), 1, "test") for test in comparisons]
    note = partial(cut_note, "run `gpuperf report --by gpu`")
    return fit([TextPart(("\n\n".join(head),)), *tests], MAX_CHARACTERS, note) + "\n"
