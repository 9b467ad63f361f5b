"""Options that several commands have, and types of options. Each type says in its error what to write."""

from __future__ import annotations

import argparse
import math
import re
import shlex
from collections.abc import Callable
from datetime import date

from pytest_gpuperf.analysis.cost.prices import newest_prices
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import METRIC_NAMES, Price, metric_of
from pytest_gpuperf.store import Store
from pytest_gpuperf.store.prices import read_prices
from pytest_gpuperf.store.project.location import (
    DEFAULT_STORE,
    chosen_store,
    default_store,
    expanded,
    option_for,
    start_directory,
    stores_below,
)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the store."""
    text = (
        "directory or fsspec URL (default: gpuperf_store of pytest's configuration file, else .gpuperf in this "
        "directory or one above)"
    )
    parser.add_argument("--store", metavar="URL", help=text)


def open_store(options: argparse.Namespace, *, create: bool = False) -> Store:
    """Return the store named by ``--store``, else the one that a pytest started here would use.

    Args:
        create: Whether the store may be a new one.

    Raises:
        GpuperfError: There is no such store.
    """
    start = start_directory()
    if options.store:
        return existing_store(str(options.store), create=create)
    url = chosen_store(start)
    store = Store(url)
    if create or store.exists():
        return store
    if url != str(default_store(start)):
        raise GpuperfError(f"There is no store at {url}, which pytest's configuration file names.")
    below = stores_below(start)
    hint = f"There is one below: --store {shlex.quote(below[0])}" if below else "Run `pytest --gpuperf` first, or name"
    hint += "" if below else " the store with --store."
    raise GpuperfError(f"There is no {DEFAULT_STORE} in {start} or above it.\n{hint}")


def existing_store(url: str, *, create: bool = False) -> Store:
    """Return the store at a URL.

    Args:
        create: Whether the store may be a new one.

    Raises:
        GpuperfError: There is no such store.
    """
    url = expanded(url, start_directory())
    store = Store(url, option_for(url, start_directory()))
    if not create and not store.exists():
        raise GpuperfError(f"There is no store at {url}. Name an existing directory or URL.")
    return store


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose records by test and key."""
    parser.add_argument("--test", default="", metavar="TEXT", help="only tests whose id contains TEXT")
    text = "only comparison keys whose digest begins with DIGEST (column key of gpuperf baseline list)"
    parser.add_argument("--key", default="", metavar="DIGEST", help=text)


def add_newest(parser: argparse.ArgumentParser) -> None:
    """Add the option that limits the records of each key."""
    parser.add_argument("--last", type=integer(), metavar="N", help="only the newest N records of each key")


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses sweeps."""
    parser.add_argument("--sweep", default="", metavar="TEXT", help="only sweeps whose name contains TEXT")


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the option that chooses how figures are printed."""
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table", help="(default: table)")


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose prices."""
    table = "TOML file of machine prices (default: a table of list prices)"
    parser.add_argument("--prices", default="", metavar="FILE", help=table)
    text = "use the prices of a day, for example 2026-01-31 (default: the newest)"
    parser.add_argument("--as-of", type=_day, metavar="DATE", help=text)


def chosen_prices(options: argparse.Namespace) -> tuple[Price, ...]:
    """Return the price of each instance, on the chosen day.

    Raises:
        OptionError: The price table can't be used.
    """
    return newest_prices(read_prices(options.prices), options.as_of)


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a day, for example 2026-01-31") from None


def metric_name(text: str) -> str:
    """Return the name of a metric after checking it; for argparse."""
    if metric_of(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a metric; write one of {', '.join(METRIC_NAMES)}")
    return text


def integer(least: int = 1) -> Callable[[str], int]:
    """Return a type for whole numbers of ``least`` or more."""

    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: write a whole number of {least} or more")
        return int(text)

    return read


def number(valid: Callable[[float], bool], expected: str, *, percent: bool = False) -> Callable[[str], float]:
    """Return a type for numbers.

    Args:
        valid: Whether a number can be used.
        expected: What the error says to write.
        percent: Whether ``2%`` is another way to write 0.02.
    """

    def read(text: str) -> float:
        divisor = 100 if percent and text.endswith("%") else 1
        try:
            value = float(text.removesuffix("%") if percent else text) / divisor
        except ValueError:
            value = math.nan
        if not valid(value):
            raise argparse.ArgumentTypeError(f"{text!r}: write {expected}")
        return value

    return read


share = number(lambda share: 0 <= share < 1, "a share of 0 or more and below 1, for example 2% or 0.02", percent=True)
