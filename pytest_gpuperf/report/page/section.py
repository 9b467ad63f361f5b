"""The section of a test: what was decided and why, then the charts of its sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pytest_gpuperf.model import CurvePoint, ReportedTest, Row, Verdict
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.commands import accept, reproduce
from pytest_gpuperf.report.comparison_table import point_label
from pytest_gpuperf.report.figures import change, duration, fact, figure, interval, minute, plural, rate, row_value
from pytest_gpuperf.report.notes import (
    client_notes,
    comparison_notes,
    endpoint_table,
    interference_notes,
    left_out_notes,
    reliability_notes,
)
from pytest_gpuperf.report.page.chart import Chart
from pytest_gpuperf.report.page.markup import Markup, element, joined
from pytest_gpuperf.report.page.overview import PageEntry, breakable, chip, css_class, lines
from pytest_gpuperf.report.page.sweep_charts import SweepView, sides_of
from pytest_gpuperf.report.summary import headline

_ORDER = list(Verdict)
#: Rows that are visible without unfolding: the worst.
_MAX_ROWS = 8


class PageCharts:
    """The charts of a page, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self.all: list[Chart] = []

    def add(self, chart: Chart) -> Markup:
        """Add a chart and return the element in which the scripts draw it."""
        self.all.append(chart)
        number = len(self.all) - 1
        return element(
            "figure",
            element("figcaption", element("h4", chart.title)),
            element("p", chart.views[chart.chosen].note, class_="note"),
            class_="chart",
            data_chart=number,
        )


def section(
    entry: PageEntry, charts: Sequence[tuple[SweepView, Sequence[Chart]]], page_charts: PageCharts, *, open_: bool
) -> Markup:
    """Return the section of a test.

    Args:
        charts: Sweeps of the test with their charts.
        page_charts: Charts of the page, to which those of the test are added.
    """
    test = entry.reported
    parts: list[str | None] = [
        element("p", headline(test.record, test.comparison), class_="said"),
        element("p", f"The test failed: {test.error}", class_="bad") if test.error else None,
        _facts(entry),
        _suspects(test),
        _rows(test),
        _notes(test),
        _commands(test),
    ]
    for sweep, members in charts:
        title = sweep.curve.name or "sweep"
        parts.append(element("h3", title) if len(charts) > 1 else None)
        parts.append(element("div", *(page_charts.add(chart) for chart in members), class_="charts"))
        parts.append(_sweep_notes(sweep))
        parts.append(_numbers(sweep))
    parts.append(_records(test))
    summary = element(
        "summary", element("h2", chip(entry.verdict), element("span", breakable(entry.test), class_="name"))
    )
    return element(
        "details",
        summary,
        element("div", *parts, class_="body"),
        id=f"t{entry.number}",
        class_=f"test {css_class(entry.verdict)}",
        open=open_,
        data_test=entry.number,
    )


def _facts(entry: PageEntry) -> Markup:
    record, baseline = entry.reported.record, entry.reported.baseline
    compared = entry.reported.comparison.baseline
    facts = [("device", entry.device), ("measured", f"{minute(record.created_utc)} UTC")]
    facts += [("commit", record.commit[:12])] if record.commit else []
    if baseline:
        newest = baseline[0]
        commit = f", commit {newest.commit[:8]}" if newest.commit else ""
        facts.append(
            ("baseline", f"{plural(len(compared), 'record')}, newest of {minute(newest.created_utc)} UTC{commit}")
        )
    facts += [("record", record.id)]
    return element("dl", *(element("div", element("dt", name), element("dd", text)) for name, text in facts))


def _suspects(test: ReportedTest) -> Markup | None:
    """Return what else changed: the first suspects of a regression."""
    changes = test.comparison.changes
    if not changes:
        return None
    rows = [(change.where, change.name, fact(change.before, 1000), fact(change.after, 1000)) for change in changes]
    what = "What else differs" if test.comparison.mode == "duet" else "What else changed"
    return element(
        "section",
        element("h3", what),
        _table(("where", "what", *sides_of(test)), rows, class_="suspects"),
    )


def _rows(test: ReportedTest) -> Markup | None:
    """Return changed and undecided comparisons; the remaining ones are folded."""
    comparison = test.comparison
    if not comparison.rows:
        return None
    rows = sorted(comparison.rows, key=lambda row: (_ORDER.index(row.verdict), -row.worsening))
    changed = [row for row in rows if row.verdict is not Verdict.UNCHANGED]
    parts: list[str] = []
    if changed:
        parts += [element("h3", "Changed or undecided"), _verdicts(test, changed[:_MAX_ROWS])]
    if hidden := changed[_MAX_ROWS:]:
        parts.append(
            element("details", element("summary", f"{len(hidden)} more"), _verdicts(test, hidden), class_="more")
        )
    unchanged = rows[len(changed) :]
    if unchanged:
        title = plural(len(unchanged), "unchanged comparison")
        parts.append(element("details", element("summary", title), _verdicts(test, unchanged), class_="more"))
    return element("section", *parts)


def _verdicts(test: ReportedTest, rows: Sequence[Row]) -> Markup:
    before, after = sides_of(test)
    several = len({row.sweep for row in test.comparison.rows}) > 1
    pinned = len({row.against for row in test.comparison.rows}) > 1
    heads = (
        "verdict",
        "load point",
        "metric",
        *(("against",) if pinned else ()),
        f">{before}",
        f">{after}",
        ">change [95%]",
        ">p",
        ">detectable",
    )
    body = []
    for row in rows:
        verdict = chip(row.verdict) if row.verdict is not Verdict.UNCHANGED else "="
        where = f"{row.sweep}: {point_label(row)}" if several else point_label(row)
        numbers = (row_value(row, row.baseline), row_value(row, row.candidate), interval(row))
        against = (row.against,) if pinned else ()
        body.append(
            (verdict, where, row.metric, *against, *numbers, f"{row.p_value:.2g}", change(1 + row.min_detectable))
        )
    return _table(heads, body, class_="verdicts")


def _notes(test: ReportedTest) -> Markup | None:
    notes = [*comparison_notes(test.comparison), *left_out_notes(test.comparison)]
    return _sentences(interference_notes(test.record), notes)


def _sentences(warnings: Sequence[str], notes: Sequence[str]) -> Markup | None:
    """Return warnings and notes as lists."""
    return joined(filter(None, (lines(warnings, "findings"), lines([note.strip() for note in notes], "faint"))))


def _sweep_notes(sweep: SweepView) -> Markup | None:
    """Return what the charts of a sweep do not show."""
    table = endpoint_table(sweep.curve)
    shown = element("div", _table(table.titles, table.rows), class_="wide") if table else None
    notes = _sentences(reliability_notes(sweep.curve), client_notes(sweep.curve))
    return joined(filter(None, (notes, shown)))


def _commands(test: ReportedTest) -> Markup | None:
    """Return the commands that reproduce and accept a result."""
    if test.comparison.verdict not in (Verdict.REGRESSED, Verdict.INCONCLUSIVE):
        return None
    commands = [reproduce(test)]
    if test.comparison.mode == "stored" and test.comparison.verdict is Verdict.REGRESSED:
        commands.append(accept(test))
    return element(
        "details",
        element("summary", "Measure again, or accept"),
        element("pre", element("code", "\n".join(commands))),
        class_="more",
    )


def _numbers(sweep: SweepView) -> Markup:
    """Return all numbers of a sweep, which replace the charts for readers without scripts."""
    sides = [(sweep.sides[1], point) for point in sweep.curve]
    sides += [(sweep.sides[0], point) for point in sweep.base or ()]
    order = {point: index for index, point in enumerate(sweep.points)}
    sides.sort(key=lambda side: order[side[1].load])
    points = [point for _, point in sides]
    extra = [
        (title, field, kind)
        for title, field, kind in _EXTRA
        if any(getattr(point, field) is not None for point in points)
    ]
    errors = any(point.errors for point in points)
    guarded = any(point.guards for point in points)
    titles = [
        "load point",
        "side",
        *(["disturbed by"] if guarded else []),
        ">p50",
        ">p90",
        ">p95",
        ">p99",
        ">inf/s",
        ">requests",
    ]
    titles += [">errors"] if errors else []
    titles += [f">{title}" for title, _, _ in extra]
    rows = []
    for side, point in sides:
        cells = [point.load.label, side, *([", ".join(point.guards)] if guarded else [])]
        cells += [*(_quantile(point, name) for name in ("p50", "p90", "p95", "p99"))]
        cells += [rate(point.throughput), f"{point.requests:,}"]
        cells += [str(point.errors)] if errors else []
        for _, field, kind in extra:
            number = getattr(point, field)
            cells.append("-" if number is None else figure(kind, number))
        rows.append(tuple(cells))
    imprecise = any(len(point.supported) < 4 for point in points)
    return element(
        "details",
        element("summary", "All numbers"),
        element("div", _table(titles, rows), class_="wide"),
        element("p", "~ too few requests for this percentile", class_="faint") if imprecise else None,
        class_="more",
    )


_EXTRA = (
    ("GPU energy", "gpu_energy_j", "energy"),
    ("CPU energy", "cpu_energy_j", "energy"),
    ("target memory", "target_memory_bytes", "memory"),
    ("device memory", "device_memory_bytes", "memory"),
    ("host memory", "host_memory_bytes", "memory"),
)


def _quantile(point: CurvePoint, name: str) -> str:
    text = duration(getattr(point, f"{name}_ns"))
    return text if name in point.supported else f"~{text}"


def _records(test: ReportedTest) -> Markup | None:
    """Return the model, key, environment and settings of a record."""
    record = test.record
    sources: list[tuple[str, Mapping[str, object]]] = [*record.under_test_by_side.items()]
    sources += [("key", record.key), ("environment", record.environment), ("settings", record.settings)]
    if record.rule is not None:
        sources.append(("rule", {**vars(record.rule), "metrics": ", ".join(sorted(record.rule.metrics))}))
    rows = [(where, name, fact(text, 1000)) for where, facts in sources for name, text in facts.items()]
    rows += [("stored as", "", escape.without_credentials(test.path))] if test.path else []
    return element(
        "details",
        element("summary", "Model, environment and settings"),
        element("div", _table(("where", "what", "value"), rows), class_="wide"),
        class_="more",
    )


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], class_: str = "") -> Markup:
    """Return a table; titles that begin with ``>`` mark columns of numbers, which follow all other columns."""
    texts = sum(not title.startswith(">") for title in titles)
    head = [element("th", title.lstrip(">"), scope="col") for title in titles]
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    return element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_=f"{class_} texts{texts}".strip(),
    )
