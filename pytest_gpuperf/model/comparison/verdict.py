"""Verdicts: what a comparison decided. The analysis creates them, and the reports render them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.metric import is_share, worse_sign
from pytest_gpuperf.model.record import Plain

#: ``Row.against`` of a row that is about the part of the change alone.
MERGE_BASE = "merge base"


class Verdict(str, Enum):
    """The seven answers, worst first.

    ``INHERITED`` is worse than the baseline, but not than the record of the merge base: this change did not cause it.
    """

    REGRESSED = "regressed"
    INHERITED = "inherited"
    NOT_COMPARABLE = "not comparable"
    NO_BASELINE = "no baseline"
    INCONCLUSIVE = "inconclusive"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"

    def __str__(self) -> str:
        return self.value


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return the worst of some verdicts, in the order of ``Verdict``; ``NO_BASELINE`` if there is none."""
    order = list(Verdict)
    return min(verdicts, key=order.index, default=Verdict.NO_BASELINE)


@dataclass(frozen=True)
class NamedPoint:
    """A load point of another load tool, known only by its name."""

    label: str


#: In place of a load point, for what is measured at the starts of a target.
START = NamedPoint("start")


def _worsening(metric: str, ratio: float) -> float:
    if is_share(metric):
        return worse_sign(metric) * (ratio - 1)
    return (1 / ratio if worse_sign(metric) < 0 else ratio) - 1


@dataclass(frozen=True)
class Row:
    """One metric at one load point, or over a sweep, compared with the baseline.

    Attributes:
        point: Load point; None for the mean over the sweep (geometric, of shares arithmetic); ``START`` for the starts.
        metric: Name of a metric (``metric.METRICS``).
        candidate, baseline: Typical values of both sides, in the metric's unit.
        ratio: ``candidate / baseline``; above 1 is worse for latencies and better for throughput. For a share,
            1 + candidate - baseline.
        low, high: Ends of the two-sided interval of ``ratio``, whose confidence is ``confidence``.
        p_value: One-sided p-value of "worse by more than the minimum effect", before the correction for multiplicity.
        min_detectable: Smallest worsening (0.25 is 25%) that this comparison detects with 80% probability.
        records_to_decide: Further records in the baseline (blocks, in a duet) that would decide an inconclusive row, if
            the change is as large as measured; 0 for a decided row, None if no number would.
        against: ``baseline`` (the rolling baseline), ``pinned``, ``reference`` (of a duet), or ``merge base``, where
            the main branch and the change have both regressed and the row is about the change's part.
    """

    sweep: str
    point: LoadPoint | NamedPoint | None
    metric: str
    candidate: float
    baseline: float
    ratio: float
    low: float
    high: float
    p_value: float
    verdict: Verdict
    min_detectable: float
    records_to_decide: int | None = 0
    against: str = "baseline"
    confidence: float = 0.95

    @property
    def worsening(self) -> float:
        """Relative change in the bad direction: 0.5 is 50% more latency, or throughput divided by 1.5.

        For a share it is the difference: 0.05 is 5 percentage points more failed requests, or less goodput.
        """
        return _worsening(self.metric, self.ratio)


@dataclass(frozen=True)
class Change:
    """A difference from the newest baseline record, under test or around it: a first suspect."""

    where: str
    name: str
    before: Plain
    after: Plain


@dataclass(frozen=True)
class AnchoredMetric:
    """A metric judged relative to the anchor; the standard deviations are those of its log between the records."""

    sweep: str
    metric: str
    plain_sd: float
    anchored_sd: float


@dataclass(frozen=True)
class CommonMode:
    """What all tests of an invocation changed by together, in one metric: the machine, the driver, the clocks.

    Attributes:
        ratio: Now / expected from earlier invocations; above 1 is worse for latencies and better for throughput.
        low, high: Ends of the two-sided interval of ``ratio``, whose confidence is ``confidence``.
        p_value: One-sided p-value of "worse by more than the minimum effect".
        verdict: ``regressed``, ``improved``, ``unchanged`` or ``inconclusive``.
        tests: Number of tests it is estimated from.
        invocations: Number of earlier invocations it is compared with.
        min_detectable: Smallest worsening (0.25 is 25%) that is detected with 80% probability.
    """

    metric: str
    ratio: float
    low: float
    high: float
    p_value: float
    verdict: Verdict
    tests: int
    invocations: int
    min_detectable: float
    confidence: float = 0.95

    @property
    def worsening(self) -> float:
        """Relative change in the bad direction, as ``Row.worsening``."""
        return _worsening(self.metric, self.ratio)


@dataclass(frozen=True)
class DeviceSpread:
    """How the device of a record relates to those of its baseline.

    Attributes:
        known: Records of the baseline that were measured on the same device.
        others: Other devices that the baseline has records of.
        sd: Standard deviation of the log between devices of this model.
        measured: Whether ``sd`` was estimated from the store; otherwise it is assumed.
    """

    known: int
    others: int
    sd: float
    measured: bool


@dataclass(frozen=True)
class Comparison:
    """The comparison of one record with its baseline.

    Attributes:
        rows: Rows of sweeps (``point`` is None) and of load points.
        baseline: Ids of records, newest first.
        changes: Other differences from the newest of them.
        differing: Fields of the key that differ from the newest record of the test, as name to (there, here); None
            unless the test has records, but none of the same key.
        new_points: Names of the load points that only the candidate has.
        missing_points: Names of the load points that only the baseline has.
        left_out: Names of series that were measured but can't be compared: too few requests for the quantile, or a
            figure that is not a number.
        mode: ``stored`` or ``duet``.
        anchored: Metrics that were judged relative to the anchor.
        common: What all tests of the invocation changed by together, by metric. The rows' baseline contains it.
        devices: How the candidate's device relates to the baseline's; None if the baseline has records of this device
            alone, or if a device is unknown.
        suspect: Whether the best estimate is a regression that the invocation's number of tests leaves undecided. Such
            a record waits until it is accepted, or until a later record is unchanged.
        inherited_from: Ids of the records of the merge base, newest first, if they have a part in a regression.
        inherited_since: Commit of the first record that had the inherited regression; empty if unknown.
        merge_base_problem: Why a regression could not be compared with the merge base, and what to do; empty otherwise.
    """

    verdict: Verdict
    rows: tuple[Row, ...] = ()
    baseline: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    differing: Mapping[str, tuple[Plain, Plain]] | None = None
    new_points: tuple[str, ...] = ()
    missing_points: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    mode: str = "stored"
    alpha: float = 0.05
    min_effect: float = 0.01
    anchored: tuple[AnchoredMetric, ...] = ()
    common: tuple[CommonMode, ...] = ()
    devices: DeviceSpread | None = None
    suspect: bool = False
    inherited_from: tuple[str, ...] = ()
    inherited_since: str = ""
    merge_base_problem: str = ""

    def of(self, verdict: Verdict) -> tuple[Row, ...]:
        """Return the rows of a verdict."""
        return tuple(row for row in self.rows if row.verdict is verdict)
