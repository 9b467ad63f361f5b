"""The table of a comparison's rows; each surface chooses its columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from pytest_gpuperf.model import CurvePoint, LoadPoint, ReportedTest, Row, Verdict, worst
from pytest_gpuperf.report.figures import change_of, confidences, figure, interval, plural, short_interval
from pytest_gpuperf.report.table import Table

ENTIRE_SWEEP = "whole sweep"
_ORDER: dict[str, int] = {verdict: rank for rank, verdict in enumerate(Verdict)}


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


def side_names(*, duet: bool) -> tuple[str, str]:
    """Return the names of the two sides of a comparison."""
    return ("reference", "candidate") if duet else ("baseline", "now")


#: Columns by name: title and cell.
_COLUMNS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "verdict": ("verdict", lambda row: str(row.verdict)),
    "point": ("load point", point_label),
    "short point": ("load", short_point_label),
    "sweep and point": ("load point", lambda row: f"{row.sweep}: {point_label(row)}"),
    "metric": ("metric", lambda row: row.metric),
    "short metric": ("metric", lambda row: short_metric(row.metric)),
    "before": (">before", lambda row: figure(row.metric, row.baseline)),
    "now": (">now", lambda row: figure(row.metric, row.candidate)),
    "change": ("change", interval),
    "short change": ("change", short_interval),
    "p": (">p", lambda row: f"{row.p_value:.1g}"),
    "exact p": (">p", lambda row: f"{row.p_value:.2g}"),
    "detectable": (">detectable", lambda row: change_of(row.metric, 1 + row.min_detectable)),
    "against": ("against", lambda row: row.against),
}
#: Verdicts of rows that are worse than the baseline.
_WORSE = (Verdict.REGRESSED, Verdict.INHERITED)
_TALLIED = {str(Verdict.NO_BASELINE): "with no baseline"}


def row_table(rows: Iterable[Row], columns: Sequence[str], *, duet: bool = False) -> Table:
    """Return rows as a table.

    Args:
        columns: Names of columns, as in ``_COLUMNS``.
        duet: Whether the rows compare with a reference instead of a baseline.
    """
    rows = list(rows)
    chosen = [_COLUMNS[name] for name in columns]
    before, now = side_names(duet=duet)
    names = {">before": f">{before}", ">now": f">{now}", "change": change_title(rows)}
    titles = tuple(names.get(title, title) for title, _ in chosen)
    return Table(titles, tuple(tuple(cell(row) for _, cell in chosen) for row in rows))


def change_title(rows: Iterable[Row]) -> str:
    """Return the title of a column of changes, which names the confidence of their intervals."""
    return f"change [{confidences(rows)}]"


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """Sort rows by verdict, the worst first, then by worsening, the largest first."""
    return sorted(rows, key=row_rank)


def row_rank(row: Row) -> tuple[int, float]:
    return _ORDER[row.verdict], -row.worsening


def deciding_row(rows: Sequence[Row]) -> Row | None:
    """Return the row of the worst verdict with the largest change, for the worse if the verdict is about that."""
    verdict = worst([row.verdict for row in rows]) if rows else None
    members = [row for row in rows if row.verdict is verdict]
    signed = verdict in (Verdict.REGRESSED, Verdict.INHERITED, Verdict.INCONCLUSIVE)
    return max(members, key=lambda row: row.worsening if signed else abs(row.worsening), default=None)


def severity(test: ReportedTest) -> tuple[bool, bool, int]:
    """Return a sort key: regressed first, then failed, then the other verdicts."""
    return not test.regressed, not test.error, _ORDER[test.comparison.verdict]


def changed_or_undecided(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that decide a verdict other than unchanged, the worst first.

    Where some rows show a regression, those that are inconclusive by themselves decide nothing.
    """
    rows = list(rows)
    hidden = {Verdict.UNCHANGED, *(row.verdict for row in undecided_beside_regressions(rows))}
    return worst_first(row for row in rows if row.verdict not in hidden)


def undecided_beside_regressions(rows: Iterable[Row]) -> list[Row]:
    """Return the inconclusive rows of a test of which other rows regressed, the largest worsening first."""
    rows = list(rows)
    if not any(row.verdict in _WORSE for row in rows):
        return []
    return worst_first(row for row in rows if row.verdict is Verdict.INCONCLUSIVE)


def tally(verdicts: Iterable[str], noun: str = "") -> str:
    """Count verdicts, the worst first, as ``2 tests: 1 regressed, 1 unchanged``."""
    counts = Counter(map(str, verdicts))
    if noun and list(counts) == [Verdict.NO_BASELINE]:
        return f"{plural(counts.total(), f'new {noun}')}, nothing to compare with yet"
    names = sorted(counts, key=lambda name: _ORDER.get(name, len(_ORDER)))
    listed = ", ".join(f"{counts[name]} {_TALLIED.get(name, name)}" for name in names)
    return f"{plural(counts.total(), noun)}: {listed}" if noun else listed
