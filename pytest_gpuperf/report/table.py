"""A table with one content and two renderings, so that the terminal and Markdown cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_gpuperf.report import escape
from pytest_gpuperf.safe_text import printable

_GAP = "  "
_CONTINUED = "    "


def _parts(widths: Sequence[int], room: int) -> list[slice]:
    """Divide columns into lines that fit; a column that is wider than the room has a line to itself."""
    starts, used = [0], 0
    for index, width in enumerate(widths):
        if used and used + len(_GAP) + width > room:
            starts.append(index)
            used = len(_CONTINUED) + width
        else:
            used += width + (len(_GAP) if used else 0)
    return [slice(start, stop) for start, stop in pairwise([*starts, len(widths)])]


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        titles: Column titles. A leading ``>`` right-aligns the column and is not shown.
        rows: Cells, one for each title.
    """

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def as_text(self, indent: str = "", width: int = 0) -> list[str]:
        """Return lines of aligned text.

        Args:
            width: Columns of the screen; 0 for as many as the table needs. The columns of a wider table that do not
                fit stand on further lines below each row, indented.
        """
        titles = [title.lstrip(">") for title in self.titles]
        rows = [titles, *([printable(cell) for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        parts = _parts(widths, width - len(indent)) if width else [slice(0, len(widths))]
        return [
            indent + _CONTINUED * min(number, 1) + self._line(row, widths, part)
            for row in rows
            for number, part in enumerate(parts)
        ]

    def _line(self, cells: Sequence[str], widths: Sequence[int], part: slice) -> str:
        aligned = [
            cell.rjust(width) if title.startswith(">") else cell.ljust(width)
            for cell, width, title in zip(cells[part], widths[part], self.titles[part], strict=True)
        ]
        return _GAP.join(aligned).rstrip()

    def as_markdown(self) -> list[str]:
        """Return lines of a GitHub-flavoured table. Cells that could be markup are written as code."""
        rule = ["---:" if title.startswith(">") else "---" for title in self.titles]
        rows = [[title.lstrip(">") for title in self.titles], rule]
        rows += [[escape.text(cell) for cell in row] for row in self.rows]
        return [f"| {' | '.join(row)} |" for row in rows]
