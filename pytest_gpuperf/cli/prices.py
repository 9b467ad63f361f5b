"""Options that choose prices, and the chosen prices."""

from __future__ import annotations

import argparse
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gpuperf.model import Price


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose prices."""
    parser.add_argument(
        "--prices", default="", metavar="FILE", help="price table in TOML (default: the package's own table)"
    )
    parser.add_argument("--as-of", type=_day, metavar="DATE", help="prices of a day, as 2026-01-31 (default: newest)")


def chosen_prices(options: argparse.Namespace) -> tuple[Price, ...]:
    """Return the price of each instance, on the chosen day.

    Raises:
        OptionError: The price table can't be used.
    """
    from pytest_gpuperf.analysis.prices import newest_prices
    from pytest_gpuperf.store.prices import read_prices

    return newest_prices(read_prices(options.prices), options.as_of)


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a day, for example 2026-01-31") from None
