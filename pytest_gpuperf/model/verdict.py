"""What a comparison decided: frozen records that analysis fills and reports render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.record import Plain


class Verdict(str, Enum):
    """The six answers, worst first."""

    REGRESSED = "regressed"
    NOT_COMPARABLE = "not comparable"
    NO_BASELINE = "no baseline"
    INCONCLUSIVE = "inconclusive"
    IMPROVED = "improved"
    UNCHANGED = "unchanged"

    def __str__(self) -> str:
        return self.value


def worst(verdicts: list[Verdict]) -> Verdict:
    """The first of the given verdicts in the order of ``Verdict``; ``NO_BASELINE`` when there is none."""
    order = list(Verdict)
    return min(verdicts, key=order.index, default=Verdict.NO_BASELINE)


@dataclass(frozen=True)
class NamedPoint:
    """A load point of another load tool, of which only the name is known."""

    label: str


@dataclass(frozen=True)
class Row:
    """One metric of one load point (or of the whole sweep) against the baseline.

    Attributes:
        point: None for the row of the sweep's geometric mean.
        metric: ``p50``, ``p90``, ``p95``, ``p99``, ``throughput``, ``energy`` or ``memory``.
        ratio: candidate / baseline, as measured; above 1 is slower for latencies and better for throughput.
        low, high: two-sided 95% interval of ``ratio``.
        p_value: one-sided, of "worse by more than the minimum effect", before the correction for multiplicity.
        min_detectable: the smallest worsening (0.25 = 25%) that this comparison would have found in four tries of five.
        records_to_decide: how many further records in the baseline (in a duet: further blocks) would decide an
            inconclusive row, if the change is what was seen; 0 where the row is decided, None where no number would do.
        candidate, baseline: typical values of both sides, ns, inferences per second, joules or bytes.
        against: ``baseline`` (the rolling window), ``pinned``, or ``reference`` (the other side of a duet).
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

    @property
    def worsening(self) -> float:
        """The relative change in the bad direction: 0.5 is 50% more latency, or throughput divided by 1.5."""
        return (1 / self.ratio if self.metric == "throughput" else self.ratio) - 1


@dataclass(frozen=True)
class Change:
    """One thing under test or around it that differs from the newest baseline record: a first suspect."""

    where: str
    name: str
    before: Plain
    after: Plain


@dataclass(frozen=True)
class AnchoredMetric:
    """A metric of a sweep that is judged relative to the anchor.

    Attributes:
        plain_sd, anchored_sd: standard deviations between the baseline's records, of the log.
    """

    sweep: str
    metric: str
    plain_sd: float
    anchored_sd: float


@dataclass(frozen=True)
class Comparison:
    """One record against its baseline.

    Attributes:
        rows: sweep rows (``point`` is None) and point rows.
        baseline: ids of the baseline's records, newest first.
        changes: what else changed since the newest of them.
        differing: when nothing was comparable though the test has other records: the key's fields that differ from the
            newest of those, as name to (there, here).
        new_points: measured here but not in the baseline.
        missing_points: in the baseline but not measured here.
        left_out: gated metrics that were measured but can't be compared (too few requests for the quantile, or a figure
            that is no number), with their place.
        mode: ``stored`` or ``duet``.
        anchored: what was judged relative to the anchor.
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

    def of(self, verdict: Verdict) -> tuple[Row, ...]:
        """The rows with a given verdict."""
        return tuple(row for row in self.rows if row.verdict is verdict)
