from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_gpuperf.analysis.cost.prices import cheapest, copies_per_instance, newest_prices, usd_per_million
from pytest_gpuperf.model import Plain, Price

T4 = Price("g4dn.xlarge", "NVIDIA T4", 1, 0.526, "2026-01-01", "a list")


@pytest.mark.parametrize("device", ["Tesla T4", "NVIDIA T4", "T4", "tesla  t4"])
def test_brands_make_no_difference(device: str) -> None:
    assert copies_per_instance(T4, {"device": device}) == 1


@pytest.mark.parametrize("device", ["NVIDIA T4G", "Tesla T40", "NVIDIA A10G", "CPU T4", "", "NVIDIA T4-2Q"])
def test_different_products_do_not_match(device: str) -> None:
    assert copies_per_instance(T4, {"device": device}) == 0
    assert copies_per_instance(replace(T4, gpu="NVIDIA A10"), {"device": "NVIDIA A10G"}) == 0


@pytest.mark.parametrize(
    ("price", "key", "copies"),
    [
        (replace(T4, count=4), {"device": "Tesla T4"}, 4),
        (replace(T4, count=4), {"device": "Tesla T4", "device_count": 2}, 2),
        (replace(T4, count=4), {"device": "Tesla T4", "device_count": 3}, 1),
        (T4, {"device": "Tesla T4", "device_count": 2}, 0),
        (T4, {"device": "Tesla T4", "mig_profile": "1g.5gb"}, 0),
        (replace(T4, mig_profile="1g.5gb", count=7), {"device": "Tesla T4", "mig_profile": "1g.5gb"}, 7),
        (replace(T4, mig_profile="1g.5gb"), {"device": "Tesla T4", "mig_profile": None}, 0),
        (replace(T4, gpu="CPU Some Model", cores=8), {"device": "CPU Some Model", "cores": 8}, 1),
        (replace(T4, gpu="CPU Some Model", cores=8), {"device": "CPU Some Model", "cores": 4}, 0),
    ],
)
def test_copies_in_one_instance(price: Price, key: dict[str, Plain], copies: int) -> None:
    assert copies_per_instance(price, key) == copies


def test_the_newest_price_of_each_instance() -> None:
    old, other = replace(T4, usd_per_hour=0.6, date="2022-06-01"), replace(T4, instance="g4dn.2xlarge")
    assert set(newest_prices([T4, old, other])) == {T4, other}
    assert newest_prices([T4, old, other], "2025-12-31") == (old,)
    assert newest_prices([T4], "2020-01-01") == ()


def test_the_cheapest_for_one_copy() -> None:
    four = replace(T4, instance="g4dn.12xlarge", count=4, usd_per_hour=2.0)
    assert cheapest([T4, four], {"device": "Tesla T4"}) == (four, 4)
    assert cheapest([T4, four], {"device": "NVIDIA L4"}) is None


def test_dollars_for_a_million() -> None:
    assert usd_per_million(3.6, 1000.0) == pytest.approx(1.0)
    assert usd_per_million(3.6, 0.0) == float("inf")


def test_prices_are_positive() -> None:
    with pytest.raises(ValueError, match="a price must be positive"):
        replace(T4, usd_per_hour=0.0)
    with pytest.raises(ValueError, match="one GPU or more"):
        replace(T4, count=0)
