"""Stored records as perf_client's CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from pytest_gpuperf.model import ReportedTest, figures_by_point
from pytest_gpuperf.model.level import STABLE, MeasuredLevel
from pytest_gpuperf.report.exchange.perf_client import Layout, csv_rows

#: What tells several tables apart, in front of perf_client's own columns.
_OURS = ("Test", "Sweep", "Batch Size")
#: What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def records_csv(reported: Sequence[ReportedTest]) -> str:
    """All load points.

    One sweep of one batch size is perf_client's table to the letter. perf_client has no word for more than that, so
    several have three columns in front, and each row the cells of the columns that its own table has.
    """
    tables = [(names, csv_rows(levels, Layout())) for names, levels in _tables(reported).items()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if len(tables) == 1:
        writer.writerows(tables[0][1])
    elif tables:
        titles = _all_titles([rows[0] for _, rows in tables])
        writer.writerow([*_OURS, *titles])
        for (test, sweep, batch_size, _), (own, *rows) in tables:
            for row in rows:
                cells = dict(zip(own, row, strict=True))
                front = (_unspoken(test), _unspoken(sweep), str(batch_size))
                writer.writerow([*front, *(cells.get(title, "") for title in titles)])
    return text.getvalue()


def _tables(reported: Sequence[ReportedTest]) -> dict[tuple[str, str, int, bool], list[MeasuredLevel]]:
    """Levels by test, sweep, batch size, and whether the loop was closed."""
    found: dict[tuple[str, str, int, bool], list[MeasuredLevel]] = {}
    for one in reported:
        for curve in one.curves:
            for figures in figures_by_point(run for run in one.record.runs if run.sweep == curve.name).values():
                level = MeasuredLevel(figures, len(figures.windows), STABLE)
                key = (one.record.test, curve.name, level.point.batch_size, level.point.concurrency > 0)
                found.setdefault(key, []).append(level)
    return found


def _all_titles(several: Sequence[Sequence[str]]) -> list[str]:
    """Every title once; a load's kind in front."""
    titles = dict.fromkeys(title for titles in several for title in titles)
    first = [title for title in ("Concurrency", "Request Rate") if title in titles]
    return [*first, *(title for title in titles if title not in first)]


def _unspoken(name: str) -> str:
    return f"'{name}" if name.startswith(_FORMULA) else name
