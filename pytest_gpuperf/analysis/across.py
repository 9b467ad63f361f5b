"""One test on several devices, side by side: per point, per dollar, per joule. It informs, and never gates.

Ratios and their intervals are those of the gate's own comparison with a single stored record (``compare``): the unit
is the record, whose spread is shrunk to what is assumed of such hardware. So they hold between the machines that were
measured; two cards of one model differ, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_gpuperf.analysis.changes import changes
from pytest_gpuperf.analysis.compare import compare_values
from pytest_gpuperf.analysis.prices import cheapest, device_of, usd_per_million
from pytest_gpuperf.analysis.priors import PRIORS
from pytest_gpuperf.analysis.rule import Rule
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
    curves_of,
)

_METRICS = frozenset({"p50", "p90", "throughput"})
#: Key fields that say which device it is, or follow from that: everything else that differs is told.
_OF_DEVICE = ("device", "mig_profile", "cores")
#: Key fields in which two records of the same work agree.
_WORK = ("test", "version", "method_version")
_PARTS: Mapping[str, Callable[[CurvePoint], float | None]] = {
    "GPU": lambda point: point.gpu_energy_j,
    "CPU": lambda point: point.cpu_energy_j,
}


@dataclass(frozen=True)
class DeviceRecord:
    """A record with its curves.

    Attributes:
        whole: over all runs.
        runs: of each run by itself.
    """

    record: Record
    whole: tuple[Curve, ...]
    runs: tuple[tuple[Curve, ...], ...]

    @classmethod
    def of(cls, record: Record) -> DeviceRecord:
        """The curves of a record's complete runs."""
        runs = [run for run in record.runs if run.complete]
        return cls(record, curves_of(runs), tuple(curves_of([run]) for run in runs))

    @property
    def device(self) -> str:
        return device_of(self.record.key)

    @property
    def points(self) -> dict[tuple[str, LoadPoint], CurvePoint]:
        return {(curve.name, point.load): point for curve in self.whole for point in curve.points}


def work_of(key: PlainMapping) -> tuple[str, ...]:
    """What two records must share to have done the same work, measured by the same method."""
    return tuple(str(key.get(name, "")) for name in _WORK)


def across(taken: Sequence[DeviceRecord], prices: Sequence[Price]) -> DeviceComparison:
    """Records of the same work on different devices; the first is what the others are compared with.

    Args:
        prices: as ``newest_prices`` gives them.

    Raises:
        ValueError: there are fewer than two, or their work differs.
    """
    if len(taken) < 2 or len({work_of(one.record.key) for one in taken}) > 1:
        raise ValueError("two records or more of the same work can be put side by side")
    parts, notes = _energy_parts(taken)
    first, *others = taken
    sides = (_side(first, first, prices, parts, notes), *(_side(one, first, prices, parts) for one in others))
    shared = {(point.sweep, point.point) for side in sides[1:] for point in side.points}
    alone = tuple(point for point in sides[0].points if (point.sweep, point.point) in shared)
    return DeviceComparison(first.record.test, (replace(sides[0], points=alone), *sides[1:]))


def _side(
    one: DeviceRecord, first: DeviceRecord, prices: Sequence[Price], parts: Sequence[str], notes: tuple[str, ...] = ()
) -> DeviceResult:
    record, same = one.record, one is first
    priced = cheapest(prices, record.key)
    ratios = {} if same else _ratios(one, first, prices, parts)
    ours, theirs = one.points, first.points
    points = []
    for curve in first.whole:
        for load in (*(point.load for point in curve.points if (curve.name, point.load) in ours), None):
            own = ratios.get((curve.name, load), {})
            if load is None:
                points += [DevicePoint(curve.name, None, ratios=own)] if own else []
            else:
                points.append(_point(curve.name, ours[curve.name, load], priced, parts, own))
    return DeviceResult(
        device=one.device,
        record=record.id,
        created_utc=record.created_utc,
        commit=record.commit,
        price=priced[0] if priced else None,
        points=tuple(points),
        missing=(*_only(first.device, theirs, ours), *_only(one.device, ours, theirs)),
        changes=() if same else _differing(first.record, record),
        notes=notes,
    )


def _only(device: str, here: Iterable[tuple[str, LoadPoint]], there: Container[tuple[str, LoadPoint]]) -> list[str]:
    labels = ", ".join(point_name(*place) for place in here if place not in there)
    return [f"only on {device}: {labels}"] if labels else []


def _point(
    sweep: str,
    point: CurvePoint,
    priced: tuple[Price, int] | None,
    parts: Sequence[str],
    ratios: Mapping[str, Ratio],
) -> DevicePoint:
    share = priced[0].usd_per_hour / priced[1] if priced else None
    return DevicePoint(
        sweep=sweep,
        point=point.load,
        throughput=point.throughput,
        p50_ns=point.p50_ns,
        p90_ns=point.p90_ns,
        usd_per_million=usd_per_million(share, point.throughput) if share and point.throughput > 0 else None,
        energy_j=energy_j(point, parts),
        ratios=ratios,
    )


# Ratios


def _ratios(
    one: DeviceRecord, first: DeviceRecord, prices: Sequence[Price], parts: Sequence[str]
) -> dict[tuple[str, LoadPoint | None], dict[str, Ratio]]:
    kinds = {one.record.device_kind, first.record.device_kind}
    # The wider prior of the two.
    prior = max((PRIORS[kind] for kind in kinds), key=lambda prior: prior.record_sd)
    rule = Rule(prior=prior, metrics=_METRICS | {"energy"})
    rows = compare_values(_values(one, parts), [_values(first, parts)], rule).rows
    price_ratio = _price_ratio(one, first, prices)
    found: dict[tuple[str, LoadPoint | None], dict[str, Ratio]] = {}
    for row in rows:
        if isinstance(row.point, LoadPoint) or row.point is None:
            found.setdefault((row.sweep, row.point), {}).update(_named(row, price_ratio))
    return found


def _named(row: Row, price_ratio: float | None) -> dict[str, Ratio]:
    ratio = Ratio(row.ratio, row.low, row.high)
    if row.metric == "energy":
        return {"inferences_per_j": Ratio(1 / row.ratio, 1 / row.high, 1 / row.low)}
    named = {row.metric: ratio}
    if row.metric == "throughput" and price_ratio is not None:
        named["inferences_per_usd"] = Ratio(row.ratio / price_ratio, row.low / price_ratio, row.high / price_ratio)
    return named


def _price_ratio(one: DeviceRecord, first: DeviceRecord, prices: Sequence[Price]) -> float | None:
    ours, theirs = (cheapest(prices, each.record.key) for each in (one, first))
    if ours is None or theirs is None:
        return None
    return (ours[0].usd_per_hour / ours[1]) / (theirs[0].usd_per_hour / theirs[1])


def _values(taken: DeviceRecord, parts: Sequence[str]) -> RecordValues:
    """What the gate compares, and the energy of the parts that every device has."""
    known = values_of(taken.record, _METRICS)
    energy: dict[SeriesKey, list[float]] = {}
    for curves in taken.runs:
        for curve in curves:
            for point in curve.points:
                joules = energy_j(point, parts)
                if joules is not None:
                    energy.setdefault((curve.name, point.load, "energy"), []).append(math.log(joules))
    runs = {curve.name: sum(any(c.name == curve.name for c in own) for own in taken.runs) for curve in taken.whole}
    added = {key: Values(tuple(logs)) for key, logs in energy.items() if len(logs) == runs.get(key[0])}
    return replace(known, values={**known.values, **added})


# Energy


def energy_j(point: CurvePoint, parts: Sequence[str]) -> float | None:
    """Joules for one inference, of those parts together; None where one of them is unknown, or nothing was used."""
    found = [_PARTS[part](point) for part in parts]
    total = math.fsum(one for one in found if one is not None)
    return total if found and None not in found and total > 0 else None


def _energy_parts(taken: Sequence[DeviceRecord]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The parts whose energy every device tells by the same method, and what to know of that."""
    parts, notes = [], []
    for part, read in _PARTS.items():
        if not all(any(read(point) is not None for point in one.points.values()) for one in taken):
            continue
        methods = {one.device: ", ".join(sorted(_methods(one, part))) for one in taken}
        if len(set(methods.values())) == 1:
            parts.append(part)
        else:
            told = "; ".join(f"{device}: {method}" for device, method in methods.items())
            notes.append(f"energy of the {part} is not compared, since it was measured in different ways ({told})")
    if parts:
        notes.insert(0, f"energy is that of the {' and the '.join(parts)}")
    return tuple(parts), tuple(notes)


def _methods(one: DeviceRecord, part: str) -> set[str]:
    windows = (window for run in one.record.runs if run.complete for window in run.windows)
    return {told.method for window in windows for told in window.energy if told.source == part.lower()}


def _differing(first: Record, other: Record) -> tuple[Change, ...]:
    """What else differs: of the key, of what is under test, of the surroundings."""
    keys = sorted({*first.key, *other.key} - {*_OF_DEVICE, *_WORK})
    own = tuple(
        Change("key", name, first.key.get(name), other.key.get(name))
        for name in keys
        if first.key.get(name) != other.key.get(name)
    )
    return own + changes(first, other)
