"""Comparison of plain numbers: one test, or all tests of an invocation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_gpuperf.analysis.duet.compare import compare_duet_values
from pytest_gpuperf.analysis.priors import BLOCK_PRIOR, RECORD_PRIOR, Prior, Priors
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import TestValues, compare_suite_values, compare_values
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import CommonMode, Comparison, Plain, Row, Verdict
from pytest_gpuperf.values.records import ValueRecord, brief

#: Name under which ``compare_suite`` returns what all tests changed by together.
ALL_TESTS = "all tests"

#: What may be passed as a prior.
GivenPrior = Prior | Priors | float | tuple[float, float] | None


@dataclass(frozen=True)
class ValueRow:
    """One metric of one point, or of all points, compared with the baseline.

    Attributes:
        test: Name of the test.
        point: Name of the point; None for the geometric mean over all points.
        metric: Name that the caller gave the metric, for example ``p50_ns``.
        ratio: Candidate / baseline. Above 1 is worse for latencies and better for throughput.
        low, high: Two-sided interval of ``ratio``. It decides: where a change is claimed, it lies on one side of 1.
        p_value: One-sided p-value of "not worse by more than the minimum effect", before the correction for
            multiplicity.
        verdict: ``regressed``, ``improved``, ``unchanged`` or ``inconclusive``.
        min_detectable: Smallest worsening (0.25 = 25%) that this comparison detects with 80% power.
        confidence: Confidence of the interval, for example 0.998: adjusted for the number of comparisons.
    """

    test: str
    point: str | None
    metric: str
    ratio: float
    low: float
    high: float
    p_value: float
    verdict: str
    min_detectable: float
    confidence: float = 0.95


@dataclass(frozen=True)
class ValueComparison:
    """The result of ``compare``.

    Attributes:
        verdict: Worst verdict of the rows: ``regressed``, ``inconclusive``, ``improved`` or ``unchanged``;
            ``no baseline`` if there is no record or no point to compare with; ``not comparable`` if the keys differ.
        rows: Rows, those of the geometric mean over all points first.
        differing: Fields in which the keys differ, as name to (baseline, candidate).
        left_out: Figures that were not compared, because a run lacks them or they are not positive numbers.
        new_points, missing_points: Points that only the candidate, or only the baseline, has.
        suspect: Whether the candidate would be regressed if this were the only comparison. Look before you use it as a
            baseline.
    """

    verdict: str
    rows: tuple[ValueRow, ...] = ()
    differing: Mapping[str, tuple[Plain, Plain]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    new_points: tuple[str, ...] = ()
    missing_points: tuple[str, ...] = ()
    suspect: bool = False


def compare(
    baseline: Sequence[ValueRecord] | ValueRecord | None,
    candidate: ValueRecord,
    *,
    mode: str = "stored",
    alpha: float = 0.05,
    min_effect: float = 0.01,
    equivalence: float = 0.05,
    prior: GivenPrior = None,
) -> ValueComparison:
    """Compare a record with a baseline by the gate's rule. Every metric that both sides have is gated.

    Args:
        baseline: In stored mode the earlier records, newest first; in a duet one record, whose run ``i`` was measured
            in alternation with run ``i`` of the candidate.
        candidate: Record to judge.
        mode: ``stored`` or ``duet``.
        alpha: Probability of any false alarm, over all points and metrics of this comparison.
        min_effect: Share up to which a worsening is not a regression.
        equivalence: Share within which a change counts as unchanged.
        prior: Expected standard deviation of the log of a record's value (duet: of a block's difference), as
            ``Prior(sd, weight)`` or ``(sd, weight)``. The weight is the number of records (blocks) that the prior is
            worth; it does not fade as the history grows. ``Priors`` has a prior for each point and metric. None: the
            gate's prior for unknown hardware, 5% with weight 8 (duet: 2.5% with weight 6), which fades as the history
            grows.

    Raises:
        OptionError: An argument can't be used; the message names it.
    """
    records = _records(baseline, mode, "baseline")
    if not isinstance(candidate, ValueRecord):
        raise OptionError(f"candidate={brief(candidate)}: pass the result of record_from_values.")
    rule = replace(_rule(alpha, min_effect, equivalence, prior), metrics=frozenset(candidate.figures))
    for record in records:
        differing = _differing(record, candidate)
        if differing:
            return ValueComparison("not comparable", differing=differing)
    if mode == "duet":
        comparison = compare_duet_values(candidate.values, records[0].values, rule)
    else:
        comparison = compare_values(candidate.values, [record.values for record in records], rule)
    return _comparison(candidate, comparison)


def compare_suite(
    baselines: Mapping[str, Sequence[ValueRecord] | ValueRecord | None],
    candidates: Mapping[str, ValueRecord],
    *,
    alpha: float = 0.05,
    min_effect: float = 0.01,
    equivalence: float = 0.05,
    priors: Mapping[str, GivenPrior] | GivenPrior = None,
) -> dict[str, ValueComparison]:
    """Compare all tests of an invocation with their baselines, exactly as the plugin does at the end of an invocation.

    The tests show each other how much records differ. What at least five of them moved by together is not charged to
    each of them, but judged once.

    Args:
        baselines: Earlier records of each test, newest first, by name of the test.
        candidates: Records of this invocation, by name of the test. Records that state their ``device`` are judged
            together with the others of that device.
        alpha: Probability of any false alarm, over all tests.
        min_effect, equivalence: As for ``compare``.
        priors: As ``prior`` of ``compare``: for all tests, or by name of the test.

    Returns:
        The comparison of each candidate, in the order given. If all tests together became slower or faster, there is
        one more, named ``all tests``; its rows have the metrics that changed.

    Raises:
        OptionError: An argument can't be used; the message names it.
    """
    for argument, given in (("baselines", baselines), ("candidates", candidates)):
        if not isinstance(given, Mapping):
            raise OptionError(f"{argument}={brief(given)}: write a dictionary of records by name of the test.")
    by_test = priors if isinstance(priors, Mapping) else dict.fromkeys(candidates, priors)
    result: dict[str, ValueComparison] = {}
    tests: dict[str, TestValues] = {}
    for name, candidate in candidates.items():
        if not isinstance(candidate, ValueRecord):
            raise OptionError(f"candidates[{name!r}]={brief(candidate)}: pass the result of record_from_values.")
        records = _records(baselines.get(name), "stored", f"baselines[{name!r}]")
        rule = _rule(alpha, min_effect, equivalence, by_test.get(name))
        rule = replace(rule, metrics=frozenset(candidate.figures), tests=len(candidates))
        differing = next((fields for record in records if (fields := _differing(record, candidate))), {})
        result[name] = ValueComparison("not comparable", differing=differing)
        if not differing:
            tests[name] = TestValues(candidate.values, [record.values for record in records], rule)
    suite = compare_suite_values(tests)
    result |= {name: _comparison(candidates[name], comparison) for name, comparison in suite.comparisons.items()}
    changed = [mode for mode in suite.common if mode.verdict in (Verdict.REGRESSED, Verdict.IMPROVED)]
    if changed:
        figures = {stem: metric for candidate in candidates.values() for stem, metric in candidate.figures.items()}
        rows = tuple(_row(ALL_TESTS, None, figures[mode.metric], mode) for mode in changed)
        regressed = any(mode.verdict is Verdict.REGRESSED for mode in changed)
        result[ALL_TESTS] = ValueComparison(str(Verdict.REGRESSED if regressed else Verdict.IMPROVED), rows)
    return result


def _rule(alpha: float, min_effect: float, equivalence: float, prior: GivenPrior) -> Rule:
    given = _prior(prior)
    return Rule(
        alpha=_share("alpha", alpha, above=0.0, below=0.5),
        min_effect=_share("min_effect", min_effect),
        equivalence=_share("equivalence", equivalence, above=0.0),
        prior=given or RECORD_PRIOR,
        block_prior=given or BLOCK_PRIOR,
    )


def _comparison(candidate: ValueRecord, comparison: Comparison) -> ValueComparison:
    return ValueComparison(
        verdict=str(comparison.verdict),
        rows=tuple(
            _row(candidate.test, row.point.label if row.point else None, candidate.figures[row.metric], row)
            for row in comparison.rows
        ),
        left_out=comparison.left_out,
        new_points=comparison.new_points,
        missing_points=comparison.missing_points,
        suspect=comparison.suspect,
    )


def _row(test: str, point: str | None, metric: str, judged: Row | CommonMode) -> ValueRow:
    return ValueRow(
        test=test,
        point=point,
        metric=metric,
        ratio=judged.ratio,
        low=judged.low,
        high=judged.high,
        p_value=judged.p_value,
        verdict=str(judged.verdict),
        min_detectable=judged.min_detectable,
        confidence=judged.confidence,
    )


def _records(baseline: Any, mode: Any, argument: str) -> list[ValueRecord]:
    if mode not in ("stored", "duet"):
        raise OptionError(f"mode={mode!r}: write 'stored' or 'duet'.")
    if isinstance(baseline, ValueRecord):
        return [baseline]
    records = [] if baseline is None else list(baseline) if isinstance(baseline, Sequence) else [baseline]
    for index, record in enumerate(records):
        if not isinstance(record, ValueRecord):
            raise OptionError(f"{argument}[{index}]={brief(record)}: pass results of record_from_values.")
    if mode == "duet" and len(records) != 1:
        raise OptionError(
            f"baseline: a duet has one record as its reference, measured in alternation with the candidate; "
            f"{len(records)} were passed."
        )
    return records


def _differing(record: ValueRecord, candidate: ValueRecord) -> dict[str, tuple[Plain, Plain]]:
    before, after = {**record.key, "test": record.test}, {**candidate.key, "test": candidate.test}
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def _prior(prior: Any) -> Prior | Priors | None:
    if prior is None or isinstance(prior, Priors):
        return prior
    pair = prior if isinstance(prior, tuple | list) else (prior, 8.0)
    if isinstance(prior, Prior):
        pair = (prior.record_sd, prior.weight)
    try:
        spread, weight = (float(number) for number in pair)
    except (TypeError, ValueError):
        spread, weight = -1.0, -1.0
    if not (0 < spread < 10 and 0 < weight < 1e9):
        raise OptionError(
            f"prior={prior!r}: write Prior(sd, weight), for example Prior(0.015, 10): the standard deviation of the "
            "log of a record's value, and the number of records that this is worth."
        )
    return Prior(spread, weight, measured=True)


def _share(name: str, given: Any, above: float | None = None, below: float = 1.0) -> float:
    number = given if isinstance(given, int | float) and not isinstance(given, bool) else -1.0
    zero_allowed = above is None and number == 0
    if not (zero_allowed or 0 < number < below or (name == "alpha" and number == below)):
        limit = "above 0" if above is not None else "0 or more"
        most = f"up to {below:g}" if name == "alpha" else f"below {below:g}"
        raise OptionError(f"{name}={given!r}: write a share, {limit} and {most}, for example 0.05.")
    return float(number)
