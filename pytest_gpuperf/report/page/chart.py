"""What a chart of the page shows, before anybody draws it: plain numbers in one unit, and the words beside them.

Positions are those of linear axes: what is spread by its logarithm arrives here as logarithms, with ticks that say what
they stand for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

#: The two sides of a comparison; what belongs to neither has an empty side.
BASE, HEAD = "base", "head"


@dataclass(frozen=True)
class ChartAxis:
    """One axis.

    Attributes:
        label: what it shows, with its unit, as ``p90 latency (ms)``.
        unit: what a number of it is followed by, as ``ms``.
        ticks: positions and what is written at them; chosen by the chart where there are none.
        from_zero: whether it begins at zero.
        span: lowest and highest position; those of the series where it is None.
        log: whether its positions are logarithms of base 2.
    """

    label: str
    unit: str = ""
    ticks: tuple[tuple[float, str], ...] = ()
    from_zero: bool = True
    span: tuple[float, float] | None = None
    log: bool = False


@dataclass(frozen=True)
class Series:
    """One line, set of bars or outline.

    Attributes:
        name: what is measured; series of one name and different sides stand beside each other in tables.
        legend: what the key calls it; empty where another series of its colour is named there.
        color: a name that the style sheet knows.
        draw: ``line`` (with dots), ``trace`` (dots, and a faint line between them), ``plain`` (a line without dots),
            ``dots``, ``bars`` (each on top of those before it of the same side) or ``steps``.
        x, y: positions; None in y is a gap. Of ``steps`` x is where the first begins and how wide each is.
        labels: of each point, its index into the figure's labels; their order where it is empty.
        soft: positions in it of figures that too few requests support.
        step: what y is rounded to, where it needn't be more precise; 0 for four digits.
    """

    name: str
    side: str
    color: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    draw: str = "line"
    legend: str = ""
    labels: tuple[int, ...] = ()
    soft: tuple[int, ...] = ()
    step: float = 0.0


@dataclass(frozen=True)
class ReferenceLine:
    """A straight line across the plot.

    Attributes:
        y, x: where it crosses; one of the two.
        kind: ``budget``, ``shift``, or a side.
        short: what is written at it where there is little room; empty for the whole text.
    """

    text: str
    kind: str
    y: float | None = None
    x: float | None = None
    short: str = ""


@dataclass(frozen=True)
class View:
    """One of the ways to look at a figure.

    Attributes:
        marked: labels of points that are ringed, as the highest load within a budget.
        note: a sentence below the plot.
        tell_x: whether tables and hovering tell the position on the x axis too, and the name it has there.
    """

    name: str
    x: ChartAxis
    y: ChartAxis
    series: tuple[Series, ...]
    rules: tuple[ReferenceLine, ...] = ()
    marked: tuple[int, ...] = ()
    note: str = ""
    tell_x: str = ""


@dataclass(frozen=True)
class Chart:
    """One chart with its alternatives.

    Attributes:
        labels: of the points, as ``concurrency 4``.
        short: the same as short as they can be, written beside the points; none where it is empty.
        sides: what the two sides are called.
        remarks: further lines that hovering a label shows, as its verdict.
        chosen: the view that is shown first.
        asks: what choosing between the views is called.
    """

    kind: str
    title: str
    views: tuple[View, ...]
    labels: tuple[str, ...]
    short: tuple[str, ...] = ()
    sides: tuple[str, str] = ("baseline", "now")
    remarks: Mapping[int, str] = field(default_factory=dict)
    chosen: int = 0
    asks: str = "shown"

    def as_json(self, pool: SharedData) -> dict[str, Any]:
        """For the page's script, with what a page has often in the pool."""
        return _without_empty(
            {
                "kind": self.kind,
                "title": self.title,
                "labels": pool.put(self.labels),
                "short": pool.put(self.short) if self.short else None,
                "sides": pool.put(self.sides),
                "remarks": self.remarks,
                "chosen": self.chosen,
                "asks": self.asks if len(self.views) > 1 else None,
                "views": [_view(view, pool) for view in self.views],
            }
        )


class SharedData:
    """What the figures of a page share: tests have the same load points, and views the same axes."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._known: dict[str, int] = {}

    def put(self, item: Any) -> int:
        """The item's number."""
        text = json.dumps(item)
        if text not in self._known:
            self._known[text] = len(self.items)
            self.items.append(item)
        return self._known[text]


def _view(view: View, pool: SharedData) -> dict[str, Any]:
    return _without_empty(
        {
            "name": view.name,
            "x": pool.put(_axis(view.x)),
            "y": pool.put(_axis(view.y)),
            "series": [_series(one, pool) for one in view.series],
            "rules": [_rule(rule, pool) for rule in view.rules],
            "marked": view.marked,
            "note": view.note,
            "tellX": view.tell_x,
        }
    )


def _rule(rule: ReferenceLine, pool: SharedData) -> dict[str, Any]:
    style = {"text": rule.text, "kind": rule.kind, "short": rule.short}
    at = {axis: compact(value, 6) for axis, value in (("x", rule.x), ("y", rule.y)) if value is not None}
    return {"s": pool.put(_without_empty(style)), **at}


def _axis(axis: ChartAxis) -> dict[str, Any]:
    return _without_empty(
        {
            "label": axis.label,
            "unit": axis.unit,
            "ticks": [(compact(position, 6), text) for position, text in axis.ticks],
            "zero": axis.from_zero,
            "log": axis.log or None,
            "span": [compact(end, 6) for end in axis.span] if axis.span else None,
        }
    )


def _series(series: Series, pool: SharedData) -> dict[str, Any]:
    style = {
        "name": series.name,
        "side": series.side,
        "color": series.color,
        "draw": series.draw,
        "legend": series.legend,
        "step": series.step or None,
        "labels": () if series.labels == tuple(range(len(series.x))) else series.labels,
    }
    return _without_empty(
        {
            "s": pool.put(_without_empty(style)),
            "x": pool.put(_numbers(series.x, 6)),  # a history may have thousands of records
            "y": pool.put(_steps(series) if series.step else _numbers(series.y)),
            "soft": pool.put(series.soft) if series.soft else None,
        }
    )


def _steps(series: Series) -> list[int | None]:
    return [None if value is None else round(value / series.step) for value in series.y]


def _numbers(values: Iterable[float | None], digits: int = 4) -> list[float | None]:
    return [None if value is None else compact(value, digits) for value in values]


def compact(value: float, digits: int = 4) -> float | None:
    """Four digits that count are more than a chart shows; JSON has no infinity."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short == int(short) else short


def _without_empty(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value not in (None, "", (), [], {})}


def positions(values: Sequence[float], label: str) -> tuple[ChartAxis, dict[float, float]]:
    """An axis for the values of a load, and where each of them lies on it.

    Loads that double from one to the next are spread by their logarithm, others as they are.
    """
    distinct = sorted(set(values))
    doubling = len(distinct) > 2 and distinct[0] > 0 and distinct[-1] / distinct[0] >= 8
    if doubling:
        factors = sorted(after / before for before, after in pairwise(distinct))
        doubling = factors[len(factors) // 2] >= 1.4
    where = {value: math.log2(value) if doubling else value for value in distinct}
    room = 0.04 * (where[distinct[-1]] - where[distinct[0]]) or 0.5
    ticks = tuple((where[value], f"{value:g}") for value in distinct)
    span = (where[distinct[0]] - room, where[distinct[-1]] + room)
    return ChartAxis(label, ticks=ticks, from_zero=False, span=span), where
