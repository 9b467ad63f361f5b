"""Plain numbers from any load tool, judged by the gate's rule.

::

    from pytest_gpuperf import compare, record_from_values

    monday, tuesday = (
        record_from_values("resnet50", [{"concurrency 4": {"p50_ns": 1.9e6, "throughput": 2050.0}}, ...]) for ...
    )
    print(compare([monday], tuesday).verdict)

A value is one figure of one load point in one run. A run is one fresh start of what is measured: requests or windows of
the same start are not runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.analysis.compare import compare_values
from pytest_gpuperf.analysis.duet.compare import compare_duet_values
from pytest_gpuperf.analysis.priors import BLOCK_PRIOR, RECORD_PRIOR, Prior, Priors
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.values import METRICS, UNITS, RecordValues, values_from_numbers, without_unit
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Plain

if TYPE_CHECKING:
    from pytest_gpuperf import model

#: A figure that is better when smaller: its name ends in a unit. ``_per_`` marks a rate, which is better when larger.
_COST = re.compile(r"[a-z]\w*(?<!_per)_(ns|us|ms|j|bytes)")


@dataclass(frozen=True)
class ValueRecord:
    """One record of plain numbers, made by ``record_from_values``.

    Attributes:
        test: Name of what was measured.
        key: Fields that must match for two records to be compared; the test must always match.
        values: The numbers in the form that is compared.
        figures: For each metric the name that the caller gave it.
    """

    test: str
    key: Mapping[str, Plain]
    values: RecordValues = field(repr=False)
    figures: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class ValueRow:
    """One metric of one point, or of all points, compared with the baseline.

    Attributes:
        test: Name of the test.
        point: Name of the point; None for the geometric mean over all points.
        metric: Name that the caller gave the metric, for example ``p50_ns``.
        ratio: Candidate / baseline. Above 1 is worse for latencies and better for throughput.
        low, high: Two-sided 95% interval of ``ratio``.
        p_value: One-sided p-value of "not worse by more than the minimum effect", before the correction for
            multiplicity.
        verdict: ``regressed``, ``improved``, ``unchanged`` or ``inconclusive``.
        min_detectable: Smallest worsening (0.25 = 25%) that this comparison detects with 80% power.
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
    """

    verdict: str
    rows: tuple[ValueRow, ...] = ()
    differing: Mapping[str, tuple[Plain, Plain]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    new_points: tuple[str, ...] = ()
    missing_points: tuple[str, ...] = ()


def record_from_values(
    test: str,
    values: Sequence[Mapping[str, Mapping[str, float]]],
    *,
    key: Mapping[str, Plain] | None = None,
) -> ValueRecord:
    """Make a record of plain numbers, for ``compare``.

    Args:
        test: Name of what was measured.
        values: Numbers as ``values[run][point][metric]``. A run is one fresh start of what is measured. Points may have
            any name. Metrics are ``throughput`` (more is better), and figures with a unit (less is better):
            ``p50_ns``, ``p90_ns``, ``p95_ns``, ``p99_ns`` (or ``_us``, ``_ms``, ``_s``; records may use different
            units), ``energy_j`` (``_mj``), ``memory_bytes``, ``host_memory_bytes``, or any other name that ends in
            ``_ns``, ``_us``, ``_ms``, ``_j`` or ``_bytes``. A figure that is not a positive finite number is not
            compared.
        key: Fields that must match for two records to be compared, for example ``{"device": "NVIDIA L4"}``.

    Raises:
        OptionError: An argument has another form; the message begins with its path.
    """
    name: Any = test
    if not isinstance(name, str) or not name:
        raise OptionError(f"test={test!r}: name what was measured, for example 'resnet50'.")
    runs = _runs(values)
    figures = {without_unit(metric)[0]: metric for run in runs for figures in run.values() for metric in figures}
    content = hashlib.sha256(repr([test, runs]).encode()).hexdigest()[:12]
    return ValueRecord(test, _key(key), values_from_numbers(content, runs), figures)


def compare(
    baseline: Sequence[ValueRecord] | ValueRecord | None,
    candidate: ValueRecord,
    *,
    mode: str = "stored",
    alpha: float = 0.05,
    min_effect: float = 0.01,
    equivalence: float = 0.05,
    prior: Prior | Priors | float | tuple[float, float] | None = None,
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
    records = _records(baseline, mode)
    if not isinstance(candidate, ValueRecord):
        raise OptionError(f"candidate={_brief(candidate)}: pass the result of record_from_values.")
    rule = Rule(
        alpha=_share("alpha", alpha, above=0.0, below=0.5),
        min_effect=_share("min_effect", min_effect),
        equivalence=_share("equivalence", equivalence, above=0.0),
        metrics=frozenset(candidate.figures),
        prior=_prior(prior) or RECORD_PRIOR,
        block_prior=_prior(prior) or BLOCK_PRIOR,
    )
    for record in records:
        differing = _differing(record, candidate)
        if differing:
            return ValueComparison("not comparable", differing=differing)
    if mode == "duet":
        comparison = compare_duet_values(candidate.values, records[0].values, rule)
    else:
        comparison = compare_values(candidate.values, [record.values for record in records], rule)
    return ValueComparison(
        verdict=str(comparison.verdict),
        rows=tuple(_row(candidate, row) for row in comparison.rows),
        left_out=comparison.left_out,
        new_points=comparison.new_points,
        missing_points=comparison.missing_points,
    )


def _row(candidate: ValueRecord, row: model.Row) -> ValueRow:
    return ValueRow(
        test=candidate.test,
        point=row.point.label if row.point else None,
        metric=candidate.figures[row.metric],
        ratio=row.ratio,
        low=row.low,
        high=row.high,
        p_value=row.p_value,
        verdict=str(row.verdict),
        min_detectable=row.min_detectable,
    )


def _runs(values: Any) -> list[dict[str, dict[str, float]]]:
    """Return the numbers after checking their form.

    Raises:
        OptionError: They have another form.
    """
    if isinstance(values, Mapping) or not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise OptionError(
            f"values={_brief(values)}: write a list with an entry for each run, {{point: {{metric: number}}}}."
        )
    if not values:
        raise OptionError("values=[]: there is no run; a record needs one or more.")
    return [_points(run, f"values[{index}]") for index, run in enumerate(values)]


def _points(run: Any, path: str) -> dict[str, dict[str, float]]:
    if not isinstance(run, Mapping):
        raise OptionError(f"{path}={_brief(run)}: write the run's points, {{point: {{metric: number}}}}.")
    if not run:
        raise OptionError(f"{path}={{}}: the run has no point.")
    checked = {}
    for point, figures in run.items():
        inside = f"{path}[{point!r}]"
        if not isinstance(point, str) or not point:
            raise OptionError(f"{inside}: a point is named by a non-empty string, for example 'concurrency 4'.")
        if not isinstance(figures, Mapping) or not figures:
            raise OptionError(f"{inside}={_brief(figures)}: write its metrics, for example {{'p50_ns': 1.9e6}}.")
        checked[point] = {metric: _figure(metric, figure, inside) for metric, figure in figures.items()}
        first_names: dict[str, str] = {}
        for name in figures:
            first = first_names.setdefault(without_unit(name)[0], name)
            if first != name:
                raise OptionError(f"{inside}: {first} and {name} are the same metric: keep one of them.")
    return checked


def _figure(metric: Any, figure: Any, path: str) -> float:
    inside = f"{path}[{metric!r}]"
    name = metric if isinstance(metric, str) else ""
    stem, known = name.rpartition("_")[0], without_unit(name)[0]
    if stem in METRICS and known != stem:
        units = [f"{stem}_{unit}" for unit in UNITS.get(METRICS[stem], ())]
        raise OptionError(f"{inside}: write {' or '.join(units) or f'{stem}, in {METRICS[stem]}'}.")
    if not (known in METRICS or _COST.fullmatch(name)):
        raise OptionError(
            f"{inside}: write throughput, or a figure with its unit that is better when smaller, for example p50_ns, "
            "energy_j or memory_bytes (_ns, _us, _ms, _j, _bytes)."
        )
    # numpy's numbers are valid; a bool or a string is a mistake, although float() accepts them.
    if not isinstance(figure, bool | str | bytes):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return float(figure)
    raise OptionError(f"{inside}={_brief(figure)}: write a number.")


def _key(key: Any) -> dict[str, Plain]:
    if key is None:
        return {}
    if not isinstance(key, Mapping):
        raise OptionError(f"key={_brief(key)}: write names and values, for example {{'device': 'NVIDIA L4'}}.")
    for name, value in key.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | bool | None):
            raise OptionError(f"key[{name!r}]={_brief(value)}: names are strings; values are strings, numbers or None.")
    return dict(key)


def _records(baseline: Any, mode: Any) -> list[ValueRecord]:
    if mode not in ("stored", "duet"):
        raise OptionError(f"mode={mode!r}: write 'stored' or 'duet'.")
    if isinstance(baseline, ValueRecord):
        return [baseline]
    records = [] if baseline is None else list(baseline) if isinstance(baseline, Sequence) else [baseline]
    for index, record in enumerate(records):
        if not isinstance(record, ValueRecord):
            raise OptionError(f"baseline[{index}]={_brief(record)}: pass results of record_from_values.")
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


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
