"""Records of plain numbers."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_gpuperf.analysis.values import UNITS, RecordValues, values_from_numbers, without_unit
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Plain, metric_of

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


def record_from_values(
    test: str,
    values: Sequence[Mapping[str, Mapping[str, float]]],
    *,
    key: Mapping[str, Plain] | None = None,
    device: str | None = None,
    invocation: str | None = None,
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
        device: Identity of the very device, for example the GPU's UUID. Records of several devices of one model are
            compared with regard to how devices differ. None: unknown; unknown devices count as one.
        invocation: Identity of the invocation, which measured one record of each test. ``compare_suite`` learns from it
            what all tests moved by together. None: unknown; records in the same place of their tests' baselines are
            then taken to be of one invocation.

    Raises:
        OptionError: An argument has another form; the message begins with its path.
    """
    name: Any = test
    if not isinstance(name, str) or not name:
        raise OptionError(f"test={test!r}: name what was measured, for example 'resnet50'.")
    runs = _runs(values)
    figures = {without_unit(metric)[0]: metric for run in runs for figures in run.values() for metric in figures}
    content = hashlib.sha256(repr([test, runs]).encode()).hexdigest()[:12]
    named = replace(
        values_from_numbers(content, runs),
        device=_identity("device", device),
        invocation=_identity("invocation", invocation),
    )
    return ValueRecord(test, _key(key), named, figures)


def _runs(values: Any) -> list[dict[str, dict[str, float]]]:
    """Return the numbers after checking their form.

    Raises:
        OptionError: They have another form.
    """
    if isinstance(values, Mapping) or not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise OptionError(
            f"values={brief(values)}: write a list with an entry for each run, {{point: {{metric: number}}}}."
        )
    if not values:
        raise OptionError("values=[]: there is no run; a record needs one or more.")
    return [_points(run, f"values[{index}]") for index, run in enumerate(values)]


def _points(run: Any, path: str) -> dict[str, dict[str, float]]:
    if not isinstance(run, Mapping):
        raise OptionError(f"{path}={brief(run)}: write the run's points, {{point: {{metric: number}}}}.")
    if not run:
        raise OptionError(f"{path}={{}}: the run has no point.")
    checked = {}
    for point, figures in run.items():
        inside = f"{path}[{point!r}]"
        if not isinstance(point, str) or not point:
            raise OptionError(f"{inside}: a point is named by a non-empty string, for example 'concurrency 4'.")
        if not isinstance(figures, Mapping) or not figures:
            raise OptionError(f"{inside}={brief(figures)}: write its metrics, for example {{'p50_ns': 1.9e6}}.")
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
    stem_metric, known_metric = metric_of(stem), metric_of(known)
    if stem_metric is not None and known != stem:
        units = [f"{stem}_{unit}" for unit in UNITS.get(stem_metric.unit, ())]
        raise OptionError(f"{inside}: write {' or '.join(units) or f'{stem}, in {stem_metric.unit}'}.")
    if not (known_metric or _COST.fullmatch(name)):
        raise OptionError(
            f"{inside}: write throughput, or a figure with its unit that is better when smaller, for example p50_ns, "
            "energy_j or memory_bytes (_ns, _us, _ms, _j, _bytes)."
        )
    # numpy's numbers are valid; a bool or a string is a mistake, although float() accepts them.
    if not isinstance(figure, bool | str | bytes):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            number = float(figure)
            if known_metric is None or not known_metric.is_share or not abs(number * without_unit(name)[1]) > 1:
                return number
            raise OptionError(f"{inside}={brief(figure)}: write a share from 0 to 1, or name it {known}_percent.")
    raise OptionError(f"{inside}={brief(figure)}: write a number.")


def _identity(name: str, given: Any) -> str:
    if given is not None and not (isinstance(given, str) and given):
        raise OptionError(f"{name}={brief(given)}: write a non-empty string, or leave it out.")
    return given or ""


def _key(key: Any) -> dict[str, Plain]:
    if key is None:
        return {}
    if not isinstance(key, Mapping):
        raise OptionError(f"key={brief(key)}: write names and values, for example {{'device': 'NVIDIA L4'}}.")
    for name, value in key.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float | bool | None):
            raise OptionError(f"key[{name!r}]={brief(value)}: names are strings; values are strings, numbers or None.")
    return dict(key)


def brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
