"""Prices: which instance has the device of a record, and what an inference costs there."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pytest_gpuperf.model import PlainMapping, Price

#: Words that NVML puts before a product's name or not, depending on the driver: "Tesla T4" and "NVIDIA T4" are the same
#: product.
_BRANDS = ("nvidia", "tesla")


def usd_per_million(usd_per_hour: float, throughput: float) -> float:
    """Return the dollars for a million inferences at a throughput; infinite at 0."""
    return usd_per_hour / 3600 / throughput * 1e6 if throughput > 0 else math.inf


def newest_prices(prices: Iterable[Price], at: str | None = None) -> tuple[Price, ...]:
    """Return the newest price of each instance up to a day such as ``2026-01-31``, or of all days."""
    newest: dict[tuple[str, str], Price] = {}
    for price in sorted(prices, key=lambda price: price.date):
        if at is None or price.date <= at:
            newest[price.instance, price.mig_profile] = price
    return tuple(newest.values())


def copies_per_instance(price: Price, key: PlainMapping) -> int:
    """Return how many copies of a record's target fit on one instance; 0 if it has another device, or too few.

    Names must be equal: an A10 is not an A10G.
    """
    same = _product(price.gpu) == _product(str(key.get("device", "")))
    if not same or price.mig_profile != str(key.get("mig_profile") or ""):
        return 0
    if price.cores and price.cores != key.get("cores"):
        return 0
    devices = key.get("device_count")
    return price.count // devices if isinstance(devices, int) and devices > 1 else price.count


def _product(name: str) -> str:
    return " ".join(word for word in name.casefold().split() if word not in _BRANDS)


def cheapest(prices: Iterable[Price], key: PlainMapping) -> tuple[Price, int] | None:
    """Return the price at which one copy is cheapest, and the copies on one instance; None if no instance fits."""
    fitting = [(price, copies) for price in prices if (copies := copies_per_instance(price, key))]
    return min(fitting, key=lambda fit: (fit[0].usd_per_hour / fit[1], fit[0].instance), default=None)


def device_of(key: PlainMapping) -> str:
    """Return the device of a key as people call it."""
    count = key.get("device_count")
    name = " ".join(str(part) for part in (key.get("device", "?"), key.get("mig_profile")) if part)
    return f"{count} x {name}" if isinstance(count, int) and count > 1 else name
