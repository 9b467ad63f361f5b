"""The width of the terminal that a command prints to."""

from __future__ import annotations

import os
import sys

_MIN_WIDTH = 40


def screen_width() -> int:
    """Return the columns of the terminal that standard output is, or that COLUMNS states; 0 if output goes to a file.

    A file or a pipe gets every column of a table, since another program may read it.
    """
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated):
        return max(int(stated), _MIN_WIDTH)
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 0
    return max(columns, _MIN_WIDTH) if columns else 0
