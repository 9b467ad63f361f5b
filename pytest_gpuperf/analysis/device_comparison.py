"""Comparison of one test on several devices: per load point, per dollar, per joule. It informs and never gates.

Ratios and their intervals are those of the gate's comparison with a single stored record (``compare``): the unit is the
record, and its spread is shrunk to the prior of such hardware. They hold for the machines that were measured; two cards
of one model differ, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.cost.prices import cheapest, device_of, usd_per_million
from pytest_gpuperf.analysis.priors import PRIORS
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.analysis.suite.comparison import compare_values
from pytest_gpuperf.analysis.values import RecordValues, SeriesKey, Values, point_name, values_of
from pytest_gpuperf.model import (
    Change,
    Curve,
    CurvePoint,
    DeviceComparison,
    DevicePoint,
    DeviceResult,
    LoadPoint,
    PlainMapping,
    Price,
    Ratio,
    Record,
    Row,
    Run,
    curves_of,
)

_METRICS = frozenset({"p50", "p90", "throughput"})
#: Key fields that identify the device or follow from it; all other differences are reported.
_DEVICE_FIELDS = ("device", "mig_profile", "cores")
#: Key fields that are equal for records of the same work.
_WORK_FIELDS = ("test", "version", "method_version")
#: Kinds of devices whose energy is compared, by the name that people read.
_ENERGY_SOURCES: Mapping[str, Callable[[CurvePoint], float | None]] = {
    "GPU": lambda point: point.gpu_energy_j,
    "CPU": lambda point: point.cpu_energy_j,
}


@dataclass(frozen=True)
class DeviceRecord:
    """The record of one device, with the curves of its complete runs."""

    record: Record

    @property
    def runs(self) -> list[Run]:
        return [run for run in self.record.runs if run.complete]

    @property
    def device(self) -> str:
        return device_of(self.record.key)

    @cached_property
    def curves(self) -> tuple[Curve, ...]:
        return curves_of(self.runs)

    @cached_property
    def points(self) -> dict[tuple[str, LoadPoint], CurvePoint]:
        return {(curve.name, point.load): point for curve in self.curves for point in curve.points}


def work_of(key: PlainMapping) -> tuple[str, ...]:
    """Return what two records must share to have done the same work, measured by the same method."""
    return tuple(str(key.get(name, "")) for name in _WORK_FIELDS)


def compare_devices(records: Sequence[DeviceRecord], prices: Sequence[Price]) -> DeviceComparison:
    """Compare records of the same work on different devices with the first of them.

    Args:
        prices: Newest price of each instance (``newest_prices``).

    Raises:
        ValueError: There are fewer than two records, or their work differs.
    """
    if len(records) < 2 or len({work_of(each.record.key) for each in records}) > 1:
        raise ValueError("a comparison of devices needs two records or more of the same work")
    sources, notes = _energy_sources(records)
    first, *others = records
    results = (
        _result(first, first, prices, sources, notes),
        *(_result(each, first, prices, sources) for each in others),
    )
    shared = {(point.sweep, point.point) for result in results[1:] for point in result.points}
    points = tuple(point for point in results[0].points if (point.sweep, point.point) in shared)
    return DeviceComparison(first.record.test, (replace(results[0], points=points), *results[1:]))


def _result(
    device: DeviceRecord,
    first: DeviceRecord,
    prices: Sequence[Price],
    sources: Sequence[str],
    notes: tuple[str, ...] = (),
) -> DeviceResult:
    record, is_first = device.record, device is first
    priced = cheapest(prices, record.key)
    ratios = {} if is_first else _ratios(device, first, prices, sources)
    curve_points, first_points = device.points, first.points
    points = []
    for curve in first.curves:
        for load in (*(point.load for point in curve.points if (curve.name, point.load) in curve_points), None):
            load_ratios = ratios.get((curve.name, load), {})
            if load is None:
                points += [DevicePoint(curve.name, None, ratios=load_ratios)] if load_ratios else []
            else:
                points.append(_point(curve.name, curve_points[curve.name, load], priced, sources, load_ratios))
    return DeviceResult(
        device=device.device,
        record=record.id,
        created_utc=record.created_utc,
        commit=record.commit,
        price=priced[0] if priced else None,
        points=tuple(points),
        missing=(
            *_exclusive_points(first.device, first_points, curve_points),
            *_exclusive_points(device.device, curve_points, first_points),
        ),
        changes=() if is_first else _changes(first.record, record),
        notes=notes,
    )


def _exclusive_points(
    device: str, points: Iterable[tuple[str, LoadPoint]], excluded: Container[tuple[str, LoadPoint]]
) -> list[str]:
    names = ", ".join(point_name(*point) for point in points if point not in excluded)
    return [f"only on {device}: {names}"] if names else []


def _point(
    sweep: str,
    point: CurvePoint,
    priced: tuple[Price, int] | None,
    sources: Sequence[str],
    ratios: Mapping[str, Ratio],
) -> DevicePoint:
    copy_usd = priced[0].usd_per_hour / priced[1] if priced else None
    return DevicePoint(
        sweep=sweep,
        point=point.load,
        throughput=point.throughput,
        p50_ns=point.p50_ns,
        p90_ns=point.p90_ns,
        usd_per_million=usd_per_million(copy_usd, point.throughput) if copy_usd and point.throughput > 0 else None,
        energy_j=energy_j(point, sources),
        ratios=ratios,
    )


# Ratios


def _ratios(
    device: DeviceRecord, first: DeviceRecord, prices: Sequence[Price], sources: Sequence[str]
) -> dict[tuple[str, LoadPoint | None], dict[str, Ratio]]:
    kinds = {device.record.device_kind, first.record.device_kind}
    # The wider prior of the two.
    prior = max((PRIORS[kind] for kind in kinds), key=lambda prior: prior.record_sd)
    rule = Rule(prior=prior, metrics=_METRICS | {"energy"}, confidence=0.95)
    rows = compare_values(_values(device, sources), [_values(first, sources)], rule).rows
    price_ratio = _price_ratio(device, first, prices)
    ratios: dict[tuple[str, LoadPoint | None], dict[str, Ratio]] = {}
    for row in rows:
        if isinstance(row.point, LoadPoint) or row.point is None:
            ratios.setdefault((row.sweep, row.point), {}).update(_ratios_of(row, price_ratio))
    return ratios


def _ratios_of(row: Row, price_ratio: float | None) -> dict[str, Ratio]:
    if row.metric == "energy":
        return {"inferences_per_j": Ratio(1 / row.ratio, 1 / row.high, 1 / row.low)}
    ratios = {row.metric: Ratio(row.ratio, row.low, row.high)}
    if row.metric == "throughput" and price_ratio is not None:
        ratios["inferences_per_usd"] = Ratio(row.ratio / price_ratio, row.low / price_ratio, row.high / price_ratio)
    return ratios


def _price_ratio(device: DeviceRecord, first: DeviceRecord, prices: Sequence[Price]) -> float | None:
    """Return the ratio of the prices of one copy; None if a device has no price."""
    priced = [cheapest(prices, each.record.key) for each in (device, first)]
    copy_usd = [price.usd_per_hour / copies for price, copies in filter(None, priced)]
    return copy_usd[0] / copy_usd[1] if len(copy_usd) == 2 else None


def _values(device: DeviceRecord, sources: Sequence[str]) -> RecordValues:
    """Return the values that the gate compares, and the energy of the sources that were measured on every device."""
    values = values_of(device.record, _METRICS)
    energy: dict[SeriesKey, list[float]] = {}
    for run in device.runs:
        for point in (point for curve in curves_of([run]) for point in curve.points):
            if (joules := energy_j(point, sources)) is not None:
                energy.setdefault((run.sweep, point.load, "energy"), []).append(math.log(joules))
    runs = Counter(run.sweep for run in device.runs)
    complete = {key: Values(tuple(logs)) for key, logs in energy.items() if len(logs) == runs[key[0]]}
    return replace(values, values={**values.values, **complete})


# Energy


def energy_j(point: CurvePoint, sources: Sequence[str]) -> float | None:
    """Return the joules per inference of some kinds of devices; None if one is unknown, or nothing was used."""
    parts = [_ENERGY_SOURCES[source](point) for source in sources]
    total = math.fsum(part for part in parts if part is not None)
    return total if parts and None not in parts and total > 0 else None


def _energy_sources(records: Sequence[DeviceRecord]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sources whose energy was measured on every device by the same method, and remarks about them."""
    sources, notes = [], []
    for source, read in _ENERGY_SOURCES.items():
        if not all(any(read(point) is not None for point in each.points.values()) for each in records):
            continue
        methods = {each.device: ", ".join(sorted(_methods(each, source))) for each in records}
        if len(set(methods.values())) == 1:
            sources.append(source)
        else:
            listed = "; ".join(f"{device}: {method}" for device, method in methods.items())
            notes.append(f"energy of the {source} is not compared: it was measured by different methods ({listed})")
    if sources:
        notes.insert(0, f"energy is that of the {' and the '.join(sources)}")
    return tuple(sources), tuple(notes)


def _methods(device: DeviceRecord, source: str) -> set[str]:
    windows = (window for run in device.runs for window in run.windows)
    return {energy.method for window in windows for energy in window.energy if energy.source == source.lower()}


def _changes(first: Record, record: Record) -> tuple[Change, ...]:
    """Return the differences between two records that do not follow from the device."""
    names = sorted({*first.key, *record.key} - {*_DEVICE_FIELDS, *_WORK_FIELDS})
    key_changes = tuple(
        Change("key", name, first.key.get(name), record.key.get(name))
        for name in names
        if first.key.get(name) != record.key.get(name)
    )
    return key_changes + changes(first, record)
