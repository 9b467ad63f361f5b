"""Input of the reports: everything is decided and computed before a report sees it."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.model.comparison.verdict import Comparison, Verdict
from pytest_gpuperf.model.curve import Curve
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.record import Record


@dataclass(frozen=True)
class PointCost:
    """The cost of inferences at one load point, on an instance that does nothing else.

    Attributes:
        usd_per_hour: Price of the measured part of the instance: of one GPU where it has several.
        price_date, price_source: Day of the price, and where it was read.
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
        curves: Curves of the candidate's sweeps.
        base_curves: Curves of the newest baseline record, or of a duet's reference, to draw next to them; empty without
            one.
        baseline: Records of the baseline, newest first.
        history: Records of the key for the chart over time, oldest first; the last is the candidate.
        costs: Costs of each load point; empty for a device without a price.
        store_option: Option that leads the ``gpuperf`` command to the store, `` --store URL``; empty for the default
            store.
        error: First line of the error that failed the test, if the gate didn't.
        file, line: Location of the test: path from pytest's root directory, line from 1; empty and 0 if unknown.
        expected_failure: Why the test was expected to fail, and did (pytest's xfail); empty otherwise.
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
    expected_failure: str = ""

    @property
    def regressed(self) -> bool:
        """Whether the test regressed, and was not expected to fail."""
        return self.comparison.verdict is Verdict.REGRESSED and not self.expected_failure
