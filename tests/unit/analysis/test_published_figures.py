"""The published comparisons that these functions come from, from their printed figures.

* AWS: "Achieve four times higher ML inference throughput at three times lower cost per inference with Amazon EC2 G5
  instances for NLP and CV PyTorch models", AWS Machine Learning Blog, 2022.
* Photoroom: "How we divided our server latency by 3 by switching from T4 GPUs to A10g", 2022-10-12.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pytest_gpuperf.analysis.cost.fleets import fleet, price_curve
from pytest_gpuperf.analysis.cost.knee import knee
from pytest_gpuperf.analysis.cost.prices import newest_prices, usd_per_million
from pytest_gpuperf.model import CurvePoint, Demand, Fleet, LoadPoint, OperatingPoint, Price
from pytest_gpuperf.store.prices import read_prices
from tests.unit.factories import curve_point

PRICES = {price.instance: price for price in newest_prices(read_prices(), "2022-12-31")}
#: The text's table of instances has these two the other way round. Its costs per million inferences only come out with
#: the dearer G5, and it says itself: "in spite of a higher cost per instance, G5 consistently outperforms G4dn".
G5, G4DN = PRICES["g5.4xlarge"].usd_per_hour, PRICES["g4dn.4xlarge"].usd_per_hour


class Row(NamedTuple):
    """Inferences per second, latency in ms and $ per million inferences, on G5 and on G4dn; G5's benefit."""

    model: str
    precision: str
    batch_size: int
    rates: tuple[float, float]
    latencies_ms: tuple[float, float]
    usd: tuple[float, float]
    benefit: float


TABLE = [
    Row("BERT-base", "full", 32, (723, 154), (44, 208), (0.6, 2.2), 3.7),
    Row("BERT-base", "mixed", 32, (870, 410), (37, 79), (0.5, 0.8), 1.6),
    Row("BERT-base", "full", 16, (651, 158), (25, 102), (0.7, 2.1), 3.0),
    Row("BERT-base", "mixed", 16, (762, 376), (21, 43), (0.6, 0.9), 1.5),
    Row("BERT-base", "full", 8, (642, 142), (13, 57), (0.7, 2.3), 3.3),
    Row("BERT-base", "mixed", 8, (681, 350), (12, 23), (0.7, 1.0), 1.4),
    Row("BERT-base", "full", 1, (160, 116), (6, 9), (2.8, 2.9), 1.0),
    Row("BERT-base", "mixed", 1, (137, 102), (7, 10), (3.3, 3.3), 1.0),
    Row("ResNet-50", "full", 32, (941, 397), (34, 82), (0.5, 0.8), 1.6),
    Row("ResNet-50", "mixed", 32, (1533, 851), (21, 38), (0.3, 0.4), 1.3),
    Row("ResNet-50", "full", 16, (888, 384), (18, 42), (0.5, 0.9), 1.8),
    Row("ResNet-50", "mixed", 16, (1474, 819), (11, 20), (0.3, 0.4), 1.3),
    Row("ResNet-50", "full", 8, (805, 340), (10, 24), (0.6, 1.0), 1.7),
    Row("ResNet-50", "mixed", 8, (1419, 772), (6, 10), (0.3, 0.4), 1.3),
    Row("ResNet-50", "full", 1, (202, 164), (5, 6), (2.2, 2.0), 0.9),
    Row("ResNet-50", "mixed", 1, (196, 180), (5, 6), (2.3, 1.9), 0.8),
]
SERIES = sorted({(row.model, row.precision) for row in TABLE})


def test_published_prices_are_in_the_right_order() -> None:
    assert (G5, G4DN) == (1.624, 1.204)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.model}-{row.precision}-{row.batch_size}")
def test_dollars_per_million_inferences(row: Row) -> None:
    (g5_rate, g4_rate), (g5_usd, g4_usd) = row.rates, row.usd
    # Both sides are rounded: rates to whole inferences (which is what lets BERT-base 8 full, $2.355, be printed as
    # $2.3), costs to ten cents.
    for usd_per_hour, rate, printed in ((G5, g5_rate, g5_usd), (G4DN, g4_rate, g4_usd)):
        assert usd_per_million(usd_per_hour, rate + 0.5) <= printed + 0.05
        assert usd_per_million(usd_per_hour, rate - 0.5) >= printed - 0.05
    # The printed benefit is the quotient of the printed, rounded costs: 3.7 for BERT-base 32 full, where it is 3.5.
    assert g4_usd / g5_usd == pytest.approx(row.benefit, abs=0.051)
    ours = usd_per_million(G4DN, g4_rate) / usd_per_million(G5, g5_rate)
    assert (g4_usd - 0.06) / (g5_usd + 0.06) <= ours <= (g4_usd + 0.06) / (g5_usd - 0.06)


def series(model: str, precision: str, gpu: int) -> list[CurvePoint]:
    """Batch sizes in increasing order, with one request at a time."""
    rows = [row for row in TABLE if (row.model, row.precision) == (model, precision)]
    return [
        curve_point(1, row.batch_size, throughput=row.rates[gpu], p50_ms=row.latencies_ms[gpu])
        for row in sorted(rows, key=lambda row: row.batch_size)
    ]


@pytest.mark.parametrize(("model", "precision"), SERIES)
def test_the_knee_divides_the_rising_section_from_the_flat_one(model: str, precision: str) -> None:
    """Behind it "any further increase in batch size would result in the same throughput at a worse latency"."""
    for gpu in (0, 1):
        points = series(model, precision, gpu)
        found = knee(points)
        assert found is not None
        last = points[-1]
        assert last.throughput / found.throughput < 0.5 * last.mean_ns / found.mean_ns
        before = [point for point in points if point.batch_size < found.batch_size]
        assert all(point.throughput < 0.5 * found.throughput for point in before)


@pytest.mark.parametrize(("model", "precision"), SERIES)
def test_the_faster_gpu_s_knee_is_at_no_smaller_batch(model: str, precision: str) -> None:
    """G5 "is able to stretch the rising section to higher batch sizes than G4dn"."""
    g5, g4dn = knee(series(model, precision, 0)), knee(series(model, precision, 1))
    assert g5 is not None
    assert g4dn is not None
    assert g5.batch_size >= g4dn.batch_size
    assert g5.batch_size == 8


def one_at_100_qps(instances: int, p50_ms: float) -> OperatingPoint:
    """What each instance of a fleet of that size gets from a round-robin balancer, and the printed server latency."""
    rate = 100.0 / instances
    return OperatingPoint("", LoadPoint(0, 1, rate, "poisson"), rate, p50_ms * 1e6, {"p50": p50_ms * 1e6})


def photoroom(t4_usd: float, a10g_usd: float) -> tuple[Fleet, Fleet]:
    """The text has the curves as pictures; of their points it prints the two fleets that cost the same."""
    demand = Demand(100.0, budget_ns={"p50": 500e6})
    t4 = fleet([one_at_100_qps(20, 475.0)], Price("t4", "NVIDIA T4", 1, t4_usd, "2022-10-12", "-"), 1, demand)
    a10g = fleet([one_at_100_qps(7, 150.0)], Price("a10g", "NVIDIA A10G", 1, a10g_usd, "2022-10-12", "-"), 1, demand)
    assert t4 is not None
    assert a10g is not None
    return t4, a10g


def test_twenty_t4_cost_as_much_as_seven_a10g_at_a_third_of_the_latency() -> None:
    # No hourly price is printed: what is said is that one A10G costs as much as 20/7 T4.
    t4, a10g = photoroom(1.0, 20 / 7)
    assert (t4.instances, a10g.instances) == (20, 7)
    assert t4.usd_per_month == pytest.approx(a10g.usd_per_month)
    assert t4.usd_per_month == pytest.approx(20 * 730)
    assert t4.at.latency_ns["p50"] / a10g.at.latency_ns["p50"] == pytest.approx(3, abs=1 / 3)


def test_at_list_prices_the_switch_pays_all_the_more() -> None:
    """AWS' own prices of that year are 1.35 to 1, not 20/7: the text's T4s were cheaper than AWS' on-demand ones."""
    t4, a10g = photoroom(G4DN, G5)
    assert a10g.usd_per_month < 0.5 * t4.usd_per_month


def test_the_curve_of_price_against_latency() -> None:
    """More instances, each with less to do: dearer and faster, from one sweep over rates."""
    price = PRICES["g5.4xlarge"]
    points = [one_at_100_qps(instances, p50_ms) for instances, p50_ms in ((7, 150.0), (10, 120.0), (14, 110.0))]
    demand = Demand(100.0, budget_ns={"p50": 1e9})
    curve = price_curve(points, price, 1, demand)
    assert [one.instances for one in curve] == [7, 10, 14]
    assert [one.usd_per_month for one in curve] == pytest.approx([n * 1.624 * 730 for n in (7, 10, 14)])
