"""Reads price tables: the built-in one, or the user's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Price

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILT_IN_TABLE = Path(__file__).with_name("prices.toml")
_REQUIRED: Mapping[str, tuple[type, str]] = {
    "instance": (str, '"g5.xlarge"'),
    "gpu": (str, '"NVIDIA A10G"'),
    "count": (int, "1"),
    "usd_per_hour": (float, "1.006"),
    "date": (date, "2026-01-31"),
    "source": (str, '"AWS price list, on demand, Linux, us-east-1"'),
}
_OPTIONAL: Mapping[str, tuple[type, str]] = {"mig_profile": (str, '"1g.5gb"'), "cores": (int, "16")}
#: A larger file is not a table that somebody wrote.
_MOST_BYTES = 1 << 20


def read_prices(path: str | Path = "") -> tuple[Price, ...]:
    """Read the rows of a price table, in order.

    Args:
        path: A TOML file in the format that ``prices.toml`` explains; the built-in table when empty.

    Raises:
        OptionError: The table can't be read, or a row is invalid; the message says where, and what to write.
    """
    where = Path(path) if str(path) else BUILT_IN_TABLE
    table = _table(where)
    rows = table.get("price")
    unknown = sorted(set(table) - {"price"})
    if unknown or not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        problem = f"has {', '.join(unknown)}" if unknown else "has no [[price]]"
        raise OptionError(f"{where}: {problem}. Write one table [[price]] for each price, with {', '.join(_REQUIRED)}.")
    prices = tuple(_price(row, f"{where}, price {number}") for number, row in enumerate(rows, 1))
    _check_once(prices, where)
    return prices


def _table(where: Path) -> dict[str, Any]:
    try:
        with where.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise OptionError(f"The price table {where} can't be read: {error.strerror}. Name an existing file.") from error
    if len(content) > _MOST_BYTES:
        raise OptionError(f"The price table {where} is larger than 1 MiB. Name a file that holds prices only.")
    try:
        table: dict[str, Any] = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        # A ValueError is raised for invalid TOML, for a text that is not UTF-8, and for a number with too many digits.
        raise OptionError(f"The price table {where} is not TOML in UTF-8: {error}. Correct it.") from error
    return table


def _price(row: dict[str, Any], where: str) -> Price:
    place = f"{where} ({row['instance']})" if isinstance(row.get("instance"), str) else where
    unknown = sorted(set(row) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        raise OptionError(f"{place}: {', '.join(unknown)} is unknown; known are {', '.join([*_REQUIRED, *_OPTIONAL])}.")
    fields = {name: _field(row, name, *form, place) for name, form in _REQUIRED.items()}
    fields |= {name: _field(row, name, *form, place) for name, form in _OPTIONAL.items() if name in row}
    if fields["gpu"].startswith("CPU ") and "cores" not in fields:
        raise OptionError(f"{place}: a CPU's price needs the instance's number of cores; write cores = 16.")
    return Price(**fields)


def _field(row: Mapping[str, Any], name: str, kind: type, example: str, where: str) -> Any:
    if name not in row:
        raise OptionError(f"{where}: {name} is missing; write for example {name} = {example}.")
    value = row[name]
    valid: Any
    if kind is date:
        valid = _date(value)
    elif kind is str:
        valid = value if isinstance(value, str) and value.strip() and value.isprintable() else None
    else:
        valid = _positive(value, kind)
    if valid is None:
        shown = repr(value)
        raise OptionError(
            f"{where}: {name} = {shown if len(shown) <= 40 else shown[:37] + '...'} can't be used; "
            f"write for example {name} = {example}."
        )
    return valid


def _positive(value: Any, kind: type) -> int | float | None:
    # isinstance takes a bool for an int.
    integer = isinstance(value, int) and not isinstance(value, bool)
    if not (integer or (kind is float and isinstance(value, float))):
        return None
    # Beyond these bounds sums of money exceed the precision of floats.
    return kind(value) if 1e-9 <= value <= 1e9 else None


def _date(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    try:
        return date.fromisoformat(value).isoformat() if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        return None


def _check_once(prices: tuple[Price, ...], where: Path) -> None:
    """Refuse two prices of one instance at one date, since only one could count."""
    seen: dict[tuple[str, str, str], int] = {}
    for number, price in enumerate(prices, 1):
        identity = (price.instance, price.mig_profile, price.date)
        if identity in seen:
            raise OptionError(
                f"{where}: prices {seen[identity]} and {number} are both for {price.instance} on {price.date}. "
                "Remove one, or give them different names, such as 'g5.xlarge spot'."
            )
        seen[identity] = number
