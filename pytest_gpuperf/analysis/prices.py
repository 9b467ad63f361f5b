"""Which price is whose, and what it makes of a throughput."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_gpuperf.model import PlainMapping, Price

#: Words before a product's name that NVML has or hasn't, by driver: "Tesla T4" and "NVIDIA T4" are one product.
_BRANDS = ("nvidia", "tesla")


def usd_per_million(usd_per_hour: float, throughput: float) -> float:
    """Dollars for a million inferences at so many per second; infinite at none."""
    return usd_per_hour / 3600 / throughput * 1e6 if throughput > 0 else math.inf


def newest_prices(prices: Iterable[Price], at: str | None = None) -> tuple[Price, ...]:
    """One price for each instance: its newest.

    Args:
        at: a date as ``2026-01-31``: prices that are younger don't count.
    """
    newest: dict[tuple[str, str], Price] = {}
    for price in sorted(prices, key=lambda price: price.date):
        if at is None or price.date <= at:
            newest[price.instance, price.mig_profile] = price
    return tuple(newest.values())


def copies_per_instance(price: Price, key: PlainMapping) -> int:
    """How many of what a record measured one instance has; 0 where it has another device, or too few of them.

    Names are compared as a whole: an A10 is no A10G, and a T4G no T4.
    """
    same = _product(price.gpu) == _product(str(key.get("device", "")))
    if not same or price.mig_profile != str(key.get("mig_profile") or ""):
        return 0
    if price.cores and price.cores != key.get("cores"):
        return 0
    needed = key.get("device_count")
    return price.count // needed if isinstance(needed, int) and needed > 1 else price.count


def _product(name: str) -> str:
    return " ".join(word for word in name.casefold().split() if word not in _BRANDS)


def cheapest(prices: Iterable[Price], key: PlainMapping) -> tuple[Price, int] | None:
    """The price at which one copy of what was measured costs least, and copies in one instance; None without any."""
    fitting = [(price, copies) for price in prices if (copies := copies_per_instance(price, key))]
    return min(fitting, key=lambda one: (one[0].usd_per_hour / one[1], one[0].instance), default=None)


def device_of(key: PlainMapping) -> str:
    """What people call the device of a key."""
    count = key.get("device_count")
    name = " ".join(str(part) for part in (key.get("device", "?"), key.get("mig_profile")) if part)
    return f"{count} x {name}" if isinstance(count, int) and count > 1 else name
