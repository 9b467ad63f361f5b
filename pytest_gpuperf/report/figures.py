"""Figures as text: numbers with their unit, rounded for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pytest_gpuperf.model import CommonMode, CurvePoint, Row, is_share
from pytest_gpuperf.report import escape

_TIME_UNITS = ((1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns"))
_BYTE_UNITS = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_UNITS = {
    "energy": ((1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ")),
    "memory": _BYTE_UNITS,
    "host_memory": _BYTE_UNITS,
}

#: Ratio from which a change is written as a factor.
_LARGE_RATIO = 11.0
#: Ratio whose exact value means nothing to anybody.
_ENDLESS_RATIO = 1000.0


def duration(ns: float) -> str:
    """Format a time with its unit and three or four digits."""
    return figure("latency", ns)


def rate(per_s: float) -> str:
    """Format inferences per second, without the unit."""
    return _digits(per_s) if per_s < 1e5 else f"{per_s:,.0f}"


def _digits(value: float) -> str:
    if value >= 999.5:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 99.95 else f"{value:.2f}"


def three_digits(value: float) -> str:
    """Format a number with three significant digits."""
    if value >= 99.95:
        return f"{value:.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def marked(point: CurvePoint, quantile: str, text: str) -> str:
    """Mark the text of a quantile that has too few requests."""
    return text if quantile in point.supported else f"~{text}"


def change(ratio: float) -> str:
    """Format a ratio as a signed percentage, or as ``x12`` from 1000% on."""
    percent = 100 * (ratio - 1)
    if ratio >= _LARGE_RATIO:
        return _factor(ratio)
    return f"{percent:+.0f}%" if abs(percent) >= 9.95 else f"{percent:+.1f}%"


def _factor(ratio: float) -> str:
    """Format a ratio as ``x12`` or ``x0.85``."""
    if ratio >= _ENDLESS_RATIO:
        return f"x{_ENDLESS_RATIO:.0f}+"
    return f"x{ratio:.0f}" if ratio >= 9.95 else f"x{ratio:.2g}"


def change_of(metric: str, ratio: float) -> str:
    """Format a ratio of a metric's figures; that of a share as percentage points, as ``+5.0 pp``."""
    return f"{100 * (ratio - 1):+.1f} pp" if is_share(metric) else change(ratio)


def interval(row: Row | CommonMode) -> str:
    """Format the change of a row with its interval, as ``+5% [+3%, +7%]``; all three as factors where one is large.

    The change of a share is in percentage points, as ``+5.0 pp [+3.0, +7.0]``.
    """
    if is_share(row.metric):
        low, high = (change_of(row.metric, end).removesuffix(" pp") for end in (row.low, row.high))
        return f"{change_of(row.metric, row.ratio)} [{low}, {high}]"
    ratios = (row.ratio, row.low, row.high)
    text = _factor if max(ratios) >= _LARGE_RATIO else change
    middle, low, high = map(text, ratios)
    return f"{middle} [{low}, {high}]"


def short_interval(row: Row | CommonMode) -> str:
    """Format the change of a row for narrow columns, as ``+5% [+3, +7]``."""
    return interval(row).replace("%,", ",").replace("%]", "]")


def interval_with_level(row: Row) -> str:
    """Format the change of a row where no column title names the level, as ``+5% (99.8% interval +3% to +7%)``."""
    middle, ends = interval(row).rstrip("]").split(" [")
    return f"{middle} ({confidence(row.confidence)} interval {ends.replace(', ', ' to ')})"


def confidence(level: float) -> str:
    """Format a confidence with the digits that distinguish it from 100%: ``95%``, ``98.7%``, ``99.97%``."""
    beside = 100 * (1 - level)
    digits = max(1, math.ceil(-math.log10(beside) - 1e-9)) if beside > 0 else 1
    return f"{100 - round(beside, digits):.{digits}f}".rstrip("0").rstrip(".") + "%"


def confidences(rows: Iterable[Row | CommonMode]) -> str:
    """Format the confidence of the intervals of rows, as ``99.8%`` or ``99.4 to 99.97%``; 95% without rows."""
    levels = {row.confidence for row in rows} or {0.95}
    lowest, highest = confidence(min(levels)), confidence(max(levels))
    return lowest if lowest == highest else f"{lowest.removesuffix('%')} to {highest}"


def figure(metric: str, number: float) -> str:
    """Format the figure of a metric with its unit."""
    if metric == "throughput":
        return f"{rate(number)} inf/s"
    if is_share(metric):
        return f"{100 * number:.2f}%"
    scale, unit = metric_unit(metric, number)
    return f"{_digits(number / scale)} {unit}"


def metric_unit(metric: str, highest: float) -> tuple[float, str]:
    """Return the unit for values of a metric up to the highest one: its length and its name."""
    if metric == "throughput":
        return 1.0, "inf/s"
    if is_share(metric):
        return 0.01, "%"
    units = _UNITS.get(metric, _TIME_UNITS)
    return next((unit for unit in units if highest >= unit[0]), units[-1])


def fact(value: object, most: int = 60) -> str:
    """Return a recorded fact as text, shortened in the middle; ``not set`` for None."""
    return "not set" if value is None else escape.shorten(str(value), most)


def plural(count: int, noun: str) -> str:
    """Format a count with its noun, as ``1 record`` or ``2 records``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int) -> str:
    """Join names with commas, as ``a, b and 3 more``."""
    hidden = len(names) - most
    return ", ".join(names[:most]) + (f" and {hidden} more" if hidden > 0 else "")


def cut(lines: Sequence[str], most: int, bullet: str = "") -> list[str]:
    """Return the first lines, and how many more there are."""
    hidden = len(lines) - most
    return [*lines[:most], f"{bullet}and {hidden} more"] if hidden > 0 else list(lines)


def minute(utc: str) -> str:
    """Format a moment in ISO 8601 up to the minute, as ``2026-01-01 00:05``."""
    return utc[:16].replace("T", " ")


def dated(utc: str, commit: str) -> str:
    """Format the date and commit of a record, as ``2026-01-01 00:05 UTC, commit 0a1b2c3d``."""
    return f"{minute(utc)} UTC{f', commit {commit[:8]}' if commit else ''}"


def minutes_seconds(duration_s: float) -> str:
    """Format seconds as ``2:05``."""
    total = max(round(duration_s), 0)
    return f"{total // 60}:{total % 60:02d}"
