"""All figures of one test, folded away at the end of a comment."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_gpuperf.model import ReportedTest
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.comparison_table import row_table, worst_first
from pytest_gpuperf.report.conditions import baseline_text
from pytest_gpuperf.report.notes import (
    comparison_notes,
    curve_notes,
    endpoint_table,
    few_requests_notes,
    interference_notes,
    reliability_notes,
)
from pytest_gpuperf.report.summary import curve_table, headline


def details_of(test: ReportedTest, *, with_rows: bool) -> str:
    """Return the figures of a test, and its notes."""
    record, comparison = test.record, test.comparison
    name = escape.html_code(escape.shorten(record.test, 160))
    lines = [
        "<details>",
        f"<summary>{name}: {'failed, ' if test.error else ''}{comparison.verdict}</summary>",
        "",
        escape.text(headline(record, comparison)),
    ]
    for curve in test.curves:
        if len(test.curves) > 1:
            lines += ["", f"**{escape.code(escape.shorten(curve.name))}**"]
        lines += ["", *curve_table(curve, comparison.rows).as_markdown()]
        lines += [line for note in few_requests_notes(curve) for line in ("", note)]
        if table := endpoint_table(curve):
            lines += ["", *table.as_markdown()]
        lines += _bullets([*reliability_notes(curve), *curve_notes(curve)])
    if with_rows and comparison.rows:
        point = "sweep and point" if len(test.curves) > 1 else "point"
        columns = (point, "metric", "before", "now", "change", "p", "detectable", "verdict")
        duet = comparison.mode == "duet"
        lines += ["", *row_table(worst_first(comparison.rows), columns, duet=duet).as_markdown()]
    lines += _bullets([*interference_notes(record), *comparison_notes(comparison, record)])
    lines += ["", f"{baseline_text(test)}", "", "</details>"]
    return "\n".join(lines)


def _bullets(notes: Sequence[str]) -> list[str]:
    """Return notes as a list; notes that begin with blanks are indented below the note before them."""
    lines = [f"{' ' * (len(note) - len(note.lstrip()))}- {escape.text(note.lstrip())}" for note in notes]
    return ["", *lines] if lines else []
