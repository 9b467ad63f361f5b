"""Types of options, shared by the commands. Each says in its error what to write."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable


def integer(text: str, least: int = 1) -> int:
    """Read a whole number of ``least`` or more."""
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number of {least} or more")
    return int(text)


def at_least_two(text: str) -> int:
    """Read a whole number of 2 or more."""
    return integer(text, 2)


def number_between(low: float, high: float, example: str) -> Callable[[str], float]:
    """Return a type for numbers above ``low`` and up to ``high``."""

    def read(text: str) -> float:
        number = number_or_nan(text)
        if not low < number <= high:
            raise argparse.ArgumentTypeError(f"{text!r}: write a number above {low:g} and up to {high:g}, {example}")
        return number

    return read


def share(text: str) -> float:
    """Read a share of 0 or more and below 1, as ``2%`` or ``0.02``."""
    number = share_or_nan(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a share of 0 or more and below 1, for example 2% or 0.02")
    return number


def share_or_nan(text: str) -> float:
    """Read a share, as ``2%`` or ``0.02``; NaN if the text isn't a number."""
    return number_or_nan(text.removesuffix("%")) / (100 if text.endswith("%") else 1)


def number_or_nan(text: str) -> float:
    """Read a number; NaN if the text isn't one."""
    try:
        return float(text)
    except ValueError:
        return math.nan
