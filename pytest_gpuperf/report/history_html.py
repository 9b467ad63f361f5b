"""The history as one HTML page that works offline: inline SVG, no scripts, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from pytest_gpuperf.report.history import History
from pytest_gpuperf.report.words import change, figure, plural

_WIDTH, _HEIGHT = 760, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 12, 12, 26
_NAMES = {"": "", "failed": "failed its gate", "accepted": "accepted by hand", "pinned": "pinned"}

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --paper: #ffffff; --faint: #6b7280; --rule: #d8dce2;
  --line: #2563eb; --level: #0f766e; --shift: #b45309; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #14171b; --faint: #9aa3ae; --rule: #353b43;
  --line: #7aa7ff; --level: #4fc3b5; --shift: #f0a64a; --bad: #ff7b72; } }
body { margin: 2rem auto; max-width: 860px; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 0; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; } p { margin: .2rem 0; } .faint { color: var(--faint); }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--faint); font-size: 11px; }
.axis { stroke: var(--rule); } .run { fill: none; stroke: var(--line); stroke-width: 1; opacity: .45; }
.level { stroke: var(--level); stroke-width: 2; } .shift { stroke: var(--shift); stroke-dasharray: 4 3; }
svg .number { fill: var(--shift); font-weight: 600; } .dot { fill: var(--line); } .failed { fill: var(--bad); }
.accepted, .pinned { fill: var(--paper); stroke: var(--level); stroke-width: 2; }
table { border-collapse: collapse; font-size: .9rem; margin: .4rem 0; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; } td.number { text-align: right; }
"""


def page(histories: Sequence[History], title: str = "Performance history") -> str:
    """A whole page.

    Args:
        histories: those of one test and key beside each other.
    """
    parts = []
    for (test, device, key), members in groupby(histories, key=lambda one: (one.test, one.device, one.key)):
        parts.append(f'<h2>{escape(test)}</h2><p class="faint">{escape(device)}, key {escape(key)}</p>')
        parts += [_section(history) for history in members]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"{''.join(parts)}</body></html>\n"
    )


def _section(history: History) -> str:
    count = plural(len(history.moments), "session")
    out = f", {history.left_out} without these load points left out" if history.left_out else ""
    return (
        f'<section><h3>{escape(history.title)}</h3><p class="faint">{count}{out}</p>'
        f"{_svg(history)}{_table(history)}</section>"
    )


def _svg(history: History) -> str:
    moments = history.moments
    values = [moment.value for moment in moments]
    top = max(values) * 1.02
    bottom = min(values) * 0.98
    inner_width, inner_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = inner_width / max(len(moments) - 1, 1)

    def x(index: float) -> float:
        return _LEFT + (index * step if len(moments) > 1 else inner_width / 2)

    def y(value: float) -> float:
        return _TOP + (top - value) / (top - bottom) * inner_height

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(_words(history))}">',
    ]
    for value in (top, (top + bottom) / 2, bottom):
        at = y(value)
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        label = escape(figure(history.metric, value))
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    base = _HEIGHT - 8
    parts.append(f'<text x="{_LEFT}" y="{base}">{escape(moments[0].day)}</text>')
    if moments[-1].day != moments[0].day:
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{base}" text-anchor="end">{escape(moments[-1].day)}</text>')
    for number, shift in enumerate(history.shifts, start=1):
        at = x(shift.index - 0.5)
        parts.append(f'<line class="shift" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text class="number" x="{at + 3:.1f}" y="{_TOP + 10}">{number}</text>')
    line = " ".join(f"{x(i):.1f},{y(one.value):.1f}" for i, one in enumerate(moments) if one.counts)
    parts.append(f'<polyline class="run" points="{line}"/>')
    for start, stop, level in history.levels():
        at = y(level)
        parts.append(f'<line class="level" x1="{x(start):.1f}" x2="{x(stop - 1):.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
    for index, moment in enumerate(moments):
        state = f" ({_NAMES[moment.state]})" if moment.state else ""
        told = f"{moment.utc[:16].replace('T', ' ')} {moment.session} {moment.commit[:8]}"
        told += f": {figure(history.metric, moment.value)}{state}"
        parts.append(
            f'<circle class="dot {moment.state}" cx="{x(index):.1f}" cy="{y(moment.value):.1f}" '
            f'r="{3 if not moment.state else 4}"><title>{escape(told)}</title></circle>'
        )
    return "".join([*parts, "</svg>"])


def _words(history: History) -> str:
    """The plot for those who can't see it."""
    changes = plural(len(history.shifts), "change") + " of the level"
    return f"{history.title} over {plural(len(history.moments), 'session')}: {changes}"


def _table(history: History) -> str:
    if not history.shifts:
        return '<p class="faint">no change of the level</p>'
    rows = []
    for number, shift in enumerate(history.shifts, start=1):
        moment = history.moments[shift.index]
        cells = (
            str(number),
            moment.utc[:16].replace("T", " "),
            moment.commit[:8],
            moment.session,
            change(shift.after / shift.before),
            f"{figure(history.metric, shift.before)} to {figure(history.metric, shift.after)}",
            f"p {shift.p_value:.2g}",
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    titles = "".join(f"<th>{title}</th>" for title in ("", "UTC", "commit", "session", "change", "level", ""))
    return f"<table><tr>{titles}</tr>{''.join(rows)}</table>"
