"""Plain numbers from any load tool, judged by the gate's own rule.

::

    from pytest_gpuperf import compare, record_from_values

    monday, tuesday = (
        record_from_values("resnet50", [{"concurrency 4": {"p50_ns": 1.9e6, "throughput": 2050.0}}, ...]) for ...
    )
    print(compare([monday], tuesday).verdict)

A value is one figure of one load point in one run, and a run is one fresh start of what is measured: requests or
windows of the same start are not runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.analysis.compare import Rule, compare_duet_values, compare_values
from pytest_gpuperf.analysis.priors import BLOCK_PRIOR, RECORD_PRIOR, Prior, Priors
from pytest_gpuperf.analysis.values import METRICS, UNITS, RecordValues, in_own_unit, values_from_numbers
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Plain

if TYPE_CHECKING:
    from pytest_gpuperf import model

#: A figure of which less is better carries its unit; what it is divided by, a rate, would be better when it is more.
_COST = re.compile(r"[a-z]\w*(?<!_per)_(ns|us|ms|j|bytes)")
_MODES = ("stored", "duet")


@dataclass(frozen=True)
class ValueRecord:
    """One record of plain numbers, made by ``record_from_values``.

    Attributes:
        test: what was measured.
        key: what must match for two records to be comparable; the test is part of it in any case.
        values: the numbers as they are compared.
        figures: the names that the metrics were given.
    """

    test: str
    key: Mapping[str, Plain]
    values: RecordValues = field(repr=False)
    figures: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class ValueRow:
    """One metric of one point (or of all of them) against the baseline.

    Attributes:
        point: the point's name; None for the geometric mean over all points.
        metric: as it was given, for example ``p50_ns``.
        ratio: candidate / baseline, as measured; above 1 is slower for latencies and better for throughput.
        low, high: two-sided 95% interval of ``ratio``.
        p_value: one-sided, of "worse by more than the minimum effect", before the correction for multiplicity.
        verdict: ``regressed``, ``improved``, ``unchanged`` or ``inconclusive``.
        min_detectable: the smallest worsening (0.25 = 25%) that this comparison would have found in four tries of five.
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
    """What ``compare`` decided.

    Attributes:
        verdict: the worst of the rows: ``regressed``, ``inconclusive``, ``improved`` or ``unchanged``; ``no baseline``
            without a record to compare with, or a point in common; ``not comparable`` where the keys differ.
        rows: those of the geometric mean over the points first.
        differing: where the keys differ: field to (baseline, candidate).
        left_out: figures that can't be compared, since some run lacks them or has no positive number.
        new_points, missing_points: on one side only.
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
    """A record from plain numbers, for ``compare``.

    Args:
        test: what was measured.
        values: ``values[run][point][metric]``. A run is one fresh start of what is measured. Points have any name.
            Metrics are ``throughput`` (more is better) and figures of which less is better, with their unit:
            ``p50_ns``, ``p90_ns``, ``p95_ns``, ``p99_ns`` (or ``_us``, ``_ms``, ``_s``: records may differ in it),
            ``energy_j`` (``_mj``), ``memory_bytes``, ``host_memory_bytes``, or any other name that ends in ``_ns``,
            ``_us``, ``_ms``, ``_j`` or ``_bytes``. One that is no positive finite number is never judged.
        key: what must match for two records to be comparable, for example ``{"device": "NVIDIA L4"}``.

    Raises:
        OptionError: something has another form; the message begins with its path.
    """
    name: Any = test
    if not isinstance(name, str) or not name:
        raise OptionError(f"test={test!r}: name what was measured, for example 'resnet50'.")
    runs = _runs(values)
    figures = {in_own_unit(metric)[0]: metric for run in runs for figures in run.values() for metric in figures}
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
    """Judge a record by the gate's rule. Every metric that both sides have is gated.

    Args:
        baseline: in stored mode earlier records, newest first; in a duet one record, whose run ``i`` was measured in
            alternation with run ``i`` of the candidate.
        mode: ``stored`` or ``duet``.
        alpha: the chance of any false alarm, over all points and metrics of this comparison.
        min_effect: a worsening up to this share is no regression.
        equivalence: a change within this share is "unchanged".
        prior: what is known beforehand of the standard deviation of the log of a record's value (of a duet: of a
            block's difference): ``Prior(sd, weight)`` or ``(sd, weight)``, where the weight says how many records
            (blocks) it is worth. Either is believed however long the history gets. ``Priors`` has one for each point
            and metric. None: the gate's own for unknown hardware, 5% of weight 8 (duet: 2.5% of weight 6), which fades
            as the history grows.

    Raises:
        OptionError: an argument can't be used as it is; the message names it.
    """
    records = _records(baseline, mode)
    if not isinstance(candidate, ValueRecord):
        raise OptionError(f"candidate={_brief(candidate)}: give what record_from_values returns.")
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
        found = compare_duet_values(candidate.values, records[0].values, rule)
    else:
        found = compare_values(candidate.values, [record.values for record in records], rule)
    return ValueComparison(
        verdict=str(found.verdict),
        rows=tuple(_row(candidate, row) for row in found.rows),
        left_out=found.left_out,
        new_points=found.new_points,
        missing_points=found.missing_points,
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
    """The numbers, checked.

    Raises:
        OptionError: something has another form.
    """
    if isinstance(values, Mapping) or not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise OptionError(
            f"values={_brief(values)}: write a list with one entry for each run, {{point: {{metric: number}}}}."
        )
    if not values:
        raise OptionError("values=[]: there is no run; every record has one or more.")
    return [_points(run, f"values[{index}]") for index, run in enumerate(values)]


def _points(run: Any, path: str) -> dict[str, dict[str, float]]:
    if not isinstance(run, Mapping):
        raise OptionError(f"{path}={_brief(run)}: write the run's points, {{point: {{metric: number}}}}.")
    if not run:
        raise OptionError(f"{path}={{}}: the run has no point.")
    found = {}
    for point, figures in run.items():
        inside = f"{path}[{point!r}]"
        if not isinstance(point, str) or not point:
            raise OptionError(f"{inside}: a point is named by a string that is not empty, for example 'concurrency 4'.")
        if not isinstance(figures, Mapping) or not figures:
            raise OptionError(f"{inside}={_brief(figures)}: write its metrics, for example {{'p50_ns': 1.9e6}}.")
        found[point] = {metric: _figure(metric, figure, inside) for metric, figure in figures.items()}
        twice = [names for names in _same(figures).values() if len(names) > 1]
        if twice:
            raise OptionError(f"{inside}: {' and '.join(twice[0])} are the same metric; give one of them.")
    return found


def _same(figures: Mapping[str, float]) -> dict[str, list[str]]:
    """The names that each metric was given."""
    names: dict[str, list[str]] = {}
    for name in figures:
        names.setdefault(in_own_unit(name)[0], []).append(name)
    return names


def _figure(metric: Any, figure: Any, path: str) -> float:
    inside = f"{path}[{metric!r}]"
    name = metric if isinstance(metric, str) else ""
    stem, known = name.rpartition("_")[0], in_own_unit(name)[0]
    if stem in METRICS and known != stem:
        units = [f"{stem}_{unit}" for unit in UNITS.get(METRICS[stem], ())]
        raise OptionError(f"{inside}: write {' or '.join(units) or f'{stem}, in {METRICS[stem]}'}.")
    if not (known in METRICS or _COST.fullmatch(name)):
        raise OptionError(
            f"{inside}: write throughput, or a figure of which less is better with its unit, as p50_ns, energy_j or "
            "memory_bytes (_ns, _us, _ms, _j, _bytes)."
        )
    # numpy's numbers are fine; a bool or a text is a mistake, though float() takes them.
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
    if mode not in _MODES:
        raise OptionError(f"mode={mode!r}: write 'stored' or 'duet'.")
    if isinstance(baseline, ValueRecord):
        return [baseline]
    records = [] if baseline is None else list(baseline) if isinstance(baseline, Sequence) else [baseline]
    for index, record in enumerate(records):
        if not isinstance(record, ValueRecord):
            raise OptionError(f"baseline[{index}]={_brief(record)}: give what record_from_values returns.")
    if mode == "duet" and len(records) != 1:
        raise OptionError(
            f"baseline: a duet has one record as its reference, measured in alternation with the candidate; "
            f"{len(records)} were given."
        )
    return records


def _differing(record: ValueRecord, candidate: ValueRecord) -> dict[str, tuple[Plain, Plain]]:
    there, here = {**record.key, "test": record.test}, {**candidate.key, "test": candidate.test}
    return {
        name: (there.get(name), here.get(name)) for name in sorted({*there, *here}) if there.get(name) != here.get(name)
    }


def _prior(prior: Any) -> Prior | Priors | None:
    if prior is None or isinstance(prior, Priors):
        return prior
    pair = prior if isinstance(prior, tuple | list) else (prior, 8.0)
    if isinstance(prior, Prior):
        pair = (prior.record_sd, prior.weight)
    try:
        spread, weight = (float(one) for one in pair)
    except (TypeError, ValueError):
        spread, weight = -1.0, -1.0
    if not (0 < spread < 10 and 0 < weight < 1e9):
        raise OptionError(
            f"prior={prior!r}: write Prior(sd, weight), for example Prior(0.015, 10): the standard deviation of the "
            "log of a record's value, and how many records that is worth."
        )
    return Prior(spread, weight, measured=True)


def _share(name: str, given: Any, above: float | None = None, below: float = 1.0) -> float:
    number = given if isinstance(given, int | float) and not isinstance(given, bool) else -1.0
    lowest = above is None and number == 0
    if not (lowest or 0 < number < below or (name == "alpha" and number == below)):
        limit = "above 0" if above is not None else "0 or more"
        most = f"up to {below:g}" if name == "alpha" else f"below {below:g}"
        raise OptionError(f"{name}={given!r}: write a share, {limit} and {most}, for example 0.05.")
    return float(number)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
