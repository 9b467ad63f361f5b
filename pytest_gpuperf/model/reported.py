"""What a report shows of one test: everything is decided and computed before a report sees it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.model.curve import Curve
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.record import Record
from pytest_gpuperf.model.verdict import Comparison


@dataclass(frozen=True)
class PointCost:
    """What the inferences of one load point cost on a priced machine that does nothing else.

    Attributes:
        instance: the price's name, as ``g5.xlarge``.
        usd_per_hour: of the part of the instance that was measured: of one GPU where it has several.
        usd_per_million: of inferences.
        price_date, price_source: when that was the price, and where it was read.
    """

    sweep: str
    point: LoadPoint
    instance: str
    usd_per_hour: float
    usd_per_million: float
    throughput: float
    p90_ns: float
    p50_ns: float = 0.0
    price_date: str = ""
    price_source: str = ""


@dataclass(frozen=True)
class ReportedTest:
    """One test of a report.

    Attributes:
        record: the candidate.
        curves: its sweeps.
        base_curves: of the newest baseline record (in a duet: of the reference), for curves beside each other; empty
            without one.
        baseline: the records it was compared with, newest first.
        history: records of its key, oldest first, for the chart over time; the last is the candidate.
        costs: empty where the device has no price.
        path: where the record is stored.
        store_option: what makes the command line tool look there, as `` --store URL``; empty for the default store.
        error: why the test failed, where that was not the gate; its first line.
        file, line: where the test is, from pytest's root directory and from 1; empty and 0 where that is not known.
    """

    record: Record
    curves: tuple[Curve, ...]
    comparison: Comparison
    base_curves: tuple[Curve, ...] = ()
    baseline: tuple[Record, ...] = ()
    history: tuple[Record, ...] = ()
    costs: tuple[PointCost, ...] = ()
    path: str = ""
    store_option: str = ""
    error: str = ""
    file: str = ""
    line: int = 0
