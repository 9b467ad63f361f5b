"""Stored records as CSV in the format of perf_client."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.model import ReportedTest, figures_by_point
from pytest_gpuperf.model.level import STABLE, MeasuredLevel
from pytest_gpuperf.report.exchange.perf_client import Layout, csv_of, csv_rows

#: Columns in front of those of perf_client, which distinguish several sweeps.
_ADDED = ("Test", "Sweep", "Batch Size")
#: First characters that make a spreadsheet read a cell as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def records_csv(reported: Sequence[ReportedTest]) -> str:
    """Return the load points of all tests.

    A single sweep of a single batch size is exactly the table of perf_client. For several, three columns are put in
    front, and cells of columns that a sweep lacks are empty.
    """
    tables = [(names, csv_rows(levels, Layout())) for names, levels in _tables(reported).items()]
    if len(tables) < 2:
        return csv_of(row for _, rows in tables for row in rows)
    titles = _all_titles([rows[0] for _, rows in tables])
    lines = [[*_ADDED, *titles]]
    for (test, sweep, batch_size, _), (sweep_titles, *rows) in tables:
        for row in rows:
            cells = dict(zip(sweep_titles, row, strict=True))
            front = (_without_formula(test), _without_formula(sweep), str(batch_size))
            lines.append([*front, *(cells.get(title, "") for title in titles)])
    return csv_of(lines)


def _tables(reported: Sequence[ReportedTest]) -> dict[tuple[str, str, int, bool], list[MeasuredLevel]]:
    """Group levels by test, sweep, batch size, and whether the loop is closed."""
    tables: dict[tuple[str, str, int, bool], list[MeasuredLevel]] = {}
    for test in reported:
        for curve in test.curves:
            for figures in figures_by_point(run for run in test.record.runs if run.sweep == curve.name).values():
                level = MeasuredLevel(figures, len(figures.windows), STABLE)
                key = (test.record.test, curve.name, level.point.batch_size, level.point.concurrency > 0)
                tables.setdefault(key, []).append(level)
    return tables


def _all_titles(several: Sequence[Sequence[str]]) -> list[str]:
    """Return every title once, the kind of load first."""
    titles = dict.fromkeys(title for titles in several for title in titles)
    first = [title for title in ("Concurrency", "Request Rate") if title in titles]
    return [*first, *(title for title in titles if title not in first)]


def _without_formula(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA) else name
