"""A table with one content and two renderings, so that the terminal and Markdown cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.report import escape
from pytest_gpuperf.safe_text import printable


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        titles: Column titles. A leading ``>`` right-aligns the column and is not shown.
        rows: Cells, one for each title.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self, indent: str = "") -> list[str]:
        """Return lines of aligned text."""
        titles = [title.lstrip(">") for title in self.titles]
        rows = [titles, *([printable(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [indent + self._line(row, widths) for row in rows]

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        aligned = [
            cell.rjust(width) if title.startswith(">") else cell.ljust(width)
            for cell, width, title in zip(cells, widths, self.titles, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    def as_markdown(self) -> list[str]:
        """Return lines of a GitHub-flavoured table. Cells that could be markup are written as code."""
        rule = ["---:" if title.startswith(">") else "---" for title in self.titles]
        rows = [[title.lstrip(">") for title in self.titles], rule]
        rows += [[escape.text(cell) for cell in row] for row in self.rows]
        return [f"| {' | '.join(row)} |" for row in rows]
