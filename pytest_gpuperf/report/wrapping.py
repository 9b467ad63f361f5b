"""Lines that fit a screen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

_CONTINUED = "  "


def wrapped(lines: Iterable[str], width: int) -> list[str]:
    """Break lines at blanks where they are wider than the screen; what is continued is indented further.

    Args:
        width: Columns of the screen; 0 breaks nothing.
    """
    result = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        if not width or len(line) <= width:
            result.append(line)
            continue
        result += textwrap.wrap(
            line.strip(),
            width,
            initial_indent=indent,
            subsequent_indent=indent + _CONTINUED,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return result
