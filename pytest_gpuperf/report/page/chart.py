"""The data of a chart: numbers in one unit, and the texts beside them.

Positions are on linear axes. Logarithmic axes get logarithms as positions, and ticks with the values they stand for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

#: The two sides of a comparison. A series that belongs to neither has an empty side.
BASE, HEAD = "base", "head"


@dataclass(frozen=True)
class ChartAxis:
    """An axis.

    Attributes:
        label: Quantity with its unit, as ``p90 latency (ms)``.
        ticks: Positions with their texts; chosen by the chart if empty.
        span: Lowest and highest position; taken from the series if None.
        log: Whether positions are logarithms of base 2.
    """

    label: str
    unit: str = ""
    ticks: tuple[tuple[float, str], ...] = ()
    from_zero: bool = True
    span: tuple[float, float] | None = None
    log: bool = False


@dataclass(frozen=True)
class Series:
    """A line, a set of bars or an outline.

    Attributes:
        name: Measured quantity; series of the same name but different sides stand side by side in tables.
        legend: Name in the legend; empty if another series of this color is named there.
        color: Name of a color in the style sheet.
        draw: ``line`` (with dots), ``trace`` (dots, and a faint line between them), ``plain`` (a line without dots),
            ``dots``, ``bars`` (stacked on earlier bars of the same side) or ``steps``.
        x, y: Positions; None in ``y`` is a gap. For ``steps``, ``x`` is the start of the first step and the step width.
        labels: Index of each point into the labels of the chart; in order if empty.
        imprecise: Indices of points with too few requests for their percentile.
        step: Precision of y; 0 keeps four digits.
    """

    name: str
    side: str
    color: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    draw: str = "line"
    legend: str = ""
    labels: tuple[int, ...] = ()
    imprecise: tuple[int, ...] = ()
    step: float = 0.0


@dataclass(frozen=True)
class ReferenceLine:
    """A straight line across the plot.

    Attributes:
        kind: ``budget``, ``shift``, or a side.
        y, x: Exactly one of them is set.
        short: Text for vertical lines, which have little room; empty for no text.
    """

    text: str
    kind: str
    y: float | None = None
    x: float | None = None
    short: str = ""


@dataclass(frozen=True)
class View:
    """One of the alternatives that a chart can show.

    Attributes:
        marked: Labels of points with a ring, as the highest load within a budget.
        note: Sentence below the plot.
        show_x: Name of the x position in tables and tooltips; empty to leave it out.
    """

    name: str
    x: ChartAxis
    y: ChartAxis
    series: tuple[Series, ...]
    rules: tuple[ReferenceLine, ...] = ()
    marked: tuple[int, ...] = ()
    note: str = ""
    show_x: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart with its alternative views.

    Attributes:
        labels: Labels of the points, as ``concurrency 4``.
        short: Short labels that are drawn beside the points; empty for none.
        remarks: Additional tooltip lines by label, as its verdict.
        chosen: Index of the view that is shown first.
        choice_label: Name of the choice between the views.
    """

    kind: str
    title: str
    views: tuple[View, ...]
    labels: tuple[str, ...]
    short: tuple[str, ...] = ()
    sides: tuple[str, str] = ("baseline", "now")
    remarks: Mapping[int, str] = field(default_factory=dict)
    chosen: int = 0
    choice_label: str = "shown"

    def as_json(self, pool: SharedData) -> dict[str, Any]:
        """Return the chart for the scripts, with repeated data in the pool."""
        return _without_empty(
            kind=self.kind,
            title=self.title,
            labels=pool.put(self.labels),
            short=pool.put(self.short) if self.short else None,
            sides=pool.put(self.sides),
            remarks=self.remarks,
            chosen=self.chosen,
            choiceLabel=self.choice_label if len(self.views) > 1 else None,
            views=[_view(view, pool) for view in self.views],
        )


class SharedData:
    """Data that the charts of a page share: tests have the same load points, views the same axes."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._known: dict[str, int] = {}

    def put(self, item: Any) -> int:
        """Return the number of an item, which is stored once."""
        text = json.dumps(item)
        if text not in self._known:
            self._known[text] = len(self.items)
            self.items.append(item)
        return self._known[text]


def _view(view: View, pool: SharedData) -> dict[str, Any]:
    return _without_empty(
        name=view.name,
        x=pool.put(_axis(view.x)),
        y=pool.put(_axis(view.y)),
        series=[_series(series, pool) for series in view.series],
        rules=[_rule(rule, pool) for rule in view.rules],
        marked=view.marked,
        note=view.note,
        showX=view.show_x,
    )


def _rule(rule: ReferenceLine, pool: SharedData) -> dict[str, Any]:
    style = pool.put(_without_empty(text=rule.text, kind=rule.kind, short=rule.short))
    return _without_empty(s=style, x=_number(rule.x, 6), y=_number(rule.y, 6))


def _axis(axis: ChartAxis) -> dict[str, Any]:
    return _without_empty(
        label=axis.label,
        unit=axis.unit,
        ticks=[(_number(position, 6), text) for position, text in axis.ticks],
        zero=axis.from_zero,
        log=axis.log or None,
        span=_numbers(axis.span or (), 6),
    )


def _series(series: Series, pool: SharedData) -> dict[str, Any]:
    style = _without_empty(
        name=series.name,
        side=series.side,
        color=series.color,
        draw=series.draw,
        legend=series.legend,
        step=series.step or None,
        labels=() if series.labels == tuple(range(len(series.x))) else series.labels,
    )
    steps = [None if value is None else round(value / series.step) for value in series.y] if series.step else None
    return _without_empty(
        s=pool.put(style),
        x=pool.put(_numbers(series.x, 6)),  # a history may have thousands of records
        y=pool.put(steps or _numbers(series.y)),
        imprecise=pool.put(series.imprecise) if series.imprecise else None,
    )


def _numbers(values: Iterable[float | None], digits: int = 4) -> list[float | None]:
    return [_number(value, digits) for value in values]


def _number(value: float | None, digits: int) -> float | None:
    """Round to significant digits, more than a chart shows; None for infinity and NaN, which JSON lacks."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) else short


def _without_empty(**data: Any) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "", (), [], {})}


def positions(values: Sequence[float], label: str) -> tuple[ChartAxis, dict[float, float]]:
    """Return an axis for the values of a load, and the position of each value on it.

    The axis is logarithmic for loads that typically grow by a factor, and linear for others.
    """
    distinct = sorted(set(values)) or [0.0]  # a record that was cut short may have no point
    doubling = len(distinct) > 2 and distinct[0] > 0 and distinct[-1] / distinct[0] >= 8
    if doubling:
        factors = sorted(after / before for before, after in pairwise(distinct))
        doubling = factors[len(factors) // 2] >= 1.4
    where = {value: math.log2(value) if doubling else value for value in distinct}
    room = 0.04 * (where[distinct[-1]] - where[distinct[0]]) or 0.5
    ticks = tuple((where[value], f"{value:g}") for value in distinct)
    span = (where[distinct[0]] - room, where[distinct[-1]] + room)
    return ChartAxis(label, ticks=ticks, from_zero=False, span=span), where
