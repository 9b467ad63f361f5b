"""The table of a comparison's rows; each surface chooses its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from pytest_gpuperf.model import CurvePoint, LoadPoint, Row, Verdict
from pytest_gpuperf.report.figures import change, interval, plural, row_value, short_interval
from pytest_gpuperf.report.table import Table

ENTIRE_SWEEP = "whole sweep"
_ORDER = {verdict: rank for rank, verdict in enumerate(Verdict)}


def point_label(row: Row) -> str:
    """Return the label of a row's load point."""
    return row.point.label if row.point else ENTIRE_SWEEP


def short_point_label(row: Row) -> str:
    """Return the label of a row's load point for narrow columns."""
    if row.point is None:
        return "all"
    return short_load(row.point) if isinstance(row.point, LoadPoint) else row.point.label


def short_load(point: LoadPoint | CurvePoint, *, batch: bool | None = None) -> str:
    """Return the label of a load point for narrow columns, as ``4`` or ``500/s x 8``.

    Args:
        batch: Whether to show the batch size; None shows it unless it is 1.
    """
    load = str(point.concurrency) if point.concurrency else f"{point.rate:g}/s"
    return f"{load} x {point.batch_size}" if (point.batch_size != 1 if batch is None else batch) else load


def short_metric(metric: str) -> str:
    """Return the name of a metric for narrow columns."""
    return "inf/s" if metric == "throughput" else metric


def _named(row: Row) -> str:
    return f"{row.sweep}: {point_label(row)}"


#: Columns by name: title and cell.
_COLUMNS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "verdict": ("verdict", lambda row: str(row.verdict)),
    "point": ("load point", point_label),
    "short point": ("load", short_point_label),
    "sweep and point": ("load point", _named),
    "metric": ("metric", lambda row: row.metric),
    "short metric": ("metric", lambda row: short_metric(row.metric)),
    "before": (">baseline", lambda row: row_value(row, row.baseline)),
    "now": (">now", lambda row: row_value(row, row.candidate)),
    "change": ("change [95%]", interval),
    "short change": ("change [95%]", short_interval),
    "p": (">p", lambda row: f"{row.p_value:.1g}"),
    "detectable": (">detectable", lambda row: change(1 + row.min_detectable)),
    "against": ("against", lambda row: row.against),
}
_TALLIED = {str(Verdict.NO_BASELINE): "with no baseline"}
_DUET_TITLES = {"before": ">reference", "now": ">candidate"}


def row_table(rows: Iterable[Row], columns: Sequence[str], *, duet: bool = False) -> Table:
    """Return rows as a table.

    Args:
        columns: Names of columns: ``verdict``, ``point``, ``short point``, ``sweep and point``, ``metric``,
            ``short metric``, ``before``, ``now``, ``change``, ``short change``, ``p``, ``detectable``, ``against``.
        duet: Whether the rows compare with a reference instead of a baseline.
    """
    chosen = [_COLUMNS[name] for name in columns]
    replaced = _DUET_TITLES if duet else {}
    titles = tuple(replaced.get(name, title) for name, (title, _) in zip(columns, chosen, strict=True))
    return Table(titles, tuple(tuple(cell(row) for _, cell in chosen) for row in rows))


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Sort rows by verdict, the worst first, then by worsening, the largest first."""
    return sorted(rows, key=lambda row: (_ORDER[row.verdict], -row.worsening))


def changed_or_undecided(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that are not unchanged, the worst first."""
    return worst_first(row for row in rows if row.verdict is not Verdict.UNCHANGED)


def tally(verdicts: Iterable[str], noun: str = "") -> str:
    """Count verdicts, the worst first, as ``2 tests: 1 regressed, 1 unchanged``."""
    counts = Counter(map(str, verdicts))
    order = [*map(str, Verdict)]
    if noun and list(counts) == [Verdict.NO_BASELINE]:
        return f"{plural(counts.total(), f'new {noun}')}, nothing to compare with yet"
    names = sorted(counts, key=lambda name: order.index(name) if name in order else len(order))
    listed = ", ".join(f"{counts[name]} {_TALLIED.get(name, name)}" for name in names)
    return f"{plural(counts.total(), noun)}: {listed}" if noun else listed
