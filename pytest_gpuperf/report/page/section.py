"""The section of a test: what was decided and why, then the charts of its sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_gpuperf.model import ReportedTest, Row, Verdict
from pytest_gpuperf.report.commands import accept, accept_inherited, reproduce
from pytest_gpuperf.report.comparison_table import (
    changed_or_undecided,
    row_table,
    side_names,
    undecided_beside_regressions,
    worst_first,
)
from pytest_gpuperf.report.figures import dated, duration, fact, figure, marked, minute, plural, rate
from pytest_gpuperf.report.notes import (
    client_notes,
    comparison_notes,
    endpoint_table,
    few_requests_notes,
    interference_notes,
    interval_notes,
    reliability_notes,
)
from pytest_gpuperf.report.page.chart import Chart
from pytest_gpuperf.report.page.markup import Markup, element, joined, text_table
from pytest_gpuperf.report.page.overview import PageEntry, breakable, chip, css_class, lines
from pytest_gpuperf.report.page.sweep_charts import SweepView
from pytest_gpuperf.report.starts import start_notes
from pytest_gpuperf.report.summary import headline

#: Title, field and metric of the columns that not every sweep has.
_RESOURCES = (
    ("GPU energy", "gpu_energy_j", "energy"),
    ("CPU energy", "cpu_energy_j", "energy"),
    ("target memory", "target_memory_bytes", "memory"),
    ("device memory", "device_memory_bytes", "memory"),
    ("host memory", "host_memory_bytes", "memory"),
)
#: Rows that are visible without unfolding: the worst.
_MAX_ROWS = 8


class PageCharts:
    """The charts of a page, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self.all: list[Chart] = []

    def add(self, chart: Chart) -> Markup:
        """Add a chart and return the element in which the scripts draw it."""
        self.all.append(chart)
        caption = element("figcaption", element("h4", chart.title))
        note = element("p", chart.views[chart.chosen].note, class_="note")
        return element("figure", caption, note, class_="chart", data_chart=len(self.all) - 1)


def section(
    entry: PageEntry, charts: Sequence[tuple[SweepView, Sequence[Chart]]], page_charts: PageCharts, *, open_: bool
) -> Markup:
    """Return the section of a test, and add its charts to those of the page."""
    test = entry.reported
    parts: list[str | None] = [
        element("p", headline(test.record, test.comparison), class_="said"),
        element("p", f"The test failed: {test.error}", class_="bad") if test.error else None,
        _facts(entry),
        _suspects(test),
        _rows(test),
        _sentences(interference_notes(test.record), comparison_notes(test.comparison, test.record)),
        _commands(test),
    ]
    for sweep, members in charts:
        title = sweep.curve.name or "sweep"
        parts.append(element("h3", title) if len(charts) > 1 else None)
        parts.append(element("div", *(page_charts.add(chart) for chart in members), class_="charts"))
        parts.append(_sweep_notes(sweep))
        parts.append(_numbers(sweep))
    parts.append(_records(test))
    name = element("span", breakable(entry.test), class_="name")
    summary = element("summary", element("h2", chip(entry.verdict), name))
    body = element("div", *parts, class_="body")
    identity, class_ = f"t{entry.number}", f"test {css_class(entry.verdict)}"
    return element("details", summary, body, id=identity, class_=class_, open=open_, data_test=entry.number)


def _facts(entry: PageEntry) -> Markup:
    record, baseline = entry.reported.record, entry.reported.baseline
    compared = entry.reported.comparison.baseline
    facts = [("device", entry.device), ("measured", f"{minute(record.created_utc)} UTC")]
    facts += [("commit", record.commit[:12])] if record.commit else []
    if baseline:
        newest = dated(baseline[0].created_utc, baseline[0].commit)
        facts.append(("baseline", f"{plural(len(compared), 'record')}, newest of {newest}"))
    facts += [("record", record.id)]
    return element("dl", *(element("div", element("dt", name), element("dd", text)) for name, text in facts))


def _suspects(test: ReportedTest) -> Markup | None:
    changes = test.comparison.changes
    if not changes:
        return None
    rows = [(change.where, change.name, fact(change.before, 1000), fact(change.after, 1000)) for change in changes]
    what = "What else differs" if test.comparison.mode == "duet" else "What else changed"
    titles = ("where", "what", *side_names(duet=test.comparison.mode == "duet"))
    return element("section", element("h3", what), text_table(titles, rows, class_="suspects"))


def _rows(test: ReportedTest) -> Markup | None:
    """Return changed and undecided comparisons; the remaining ones are folded."""
    rows = worst_first(test.comparison.rows)
    if not rows:
        return None
    changed, beside = changed_or_undecided(rows), undecided_beside_regressions(rows)
    hidden, unchanged = changed[_MAX_ROWS:], [row for row in rows if row.verdict is Verdict.UNCHANGED]
    parts: list[str | None] = []
    if changed:
        notes = interval_notes(test.comparison)
        parts += [element("h3", "Changed or undecided"), _verdicts(test, changed[:_MAX_ROWS]), lines(notes, "faint")]
    if hidden:
        parts.append(_folded(f"{len(hidden)} more", _verdicts(test, hidden)))
    if beside:
        parts.append(_folded(f"{len(beside)} inconclusive when taken alone", _verdicts(test, beside)))
    if unchanged:
        parts.append(_folded(plural(len(unchanged), "unchanged comparison"), _verdicts(test, unchanged)))
    return element("section", *parts)


def _folded(title: str, *content: str | None) -> Markup:
    return element("details", element("summary", title), *content, class_="more")


def _verdicts(test: ReportedTest, rows: Sequence[Row]) -> Markup:
    several = len({row.sweep for row in test.comparison.rows}) > 1
    pinned = len({row.against for row in test.comparison.rows}) > 1
    columns = ["sweep and point" if several else "point", "metric", *(["against"] if pinned else [])]
    columns += ["before", "now", "change", "exact p", "detectable"]
    table = row_table(rows, columns, duet=test.comparison.mode == "duet")
    chips = [chip(row.verdict) if row.verdict is not Verdict.UNCHANGED else "=" for row in rows]
    cells = [(sign, *line) for sign, line in zip(chips, table.rows, strict=True)]
    return text_table(("verdict", *table.titles), cells, class_="verdicts")


def _sentences(warnings: Sequence[str], notes: Sequence[str]) -> Markup | None:
    return joined(filter(None, (lines(warnings, "findings"), lines([note.strip() for note in notes], "faint"))))


def _sweep_notes(sweep: SweepView) -> Markup | None:
    table = endpoint_table(sweep.curve)
    shown = element("div", text_table(table.titles, table.rows), class_="wide") if table else None
    starts = start_notes(sweep.reported.record.runs, sweep.curve.name)
    notes = _sentences(reliability_notes(sweep.curve), [*starts, *client_notes(sweep.curve)])
    return joined(filter(None, (notes, shown)))


def _commands(test: ReportedTest) -> Markup | None:
    if test.comparison.verdict not in (Verdict.REGRESSED, Verdict.INHERITED, Verdict.INCONCLUSIVE):
        return None
    commands = [reproduce(test)]
    if test.comparison.mode == "stored" and test.comparison.verdict is Verdict.REGRESSED:
        commands.append(accept(test))
    commands += filter(None, [accept_inherited(test)])
    return _folded("Measure again, or accept", element("pre", element("code", "\n".join(commands))))


def _numbers(sweep: SweepView) -> Markup:
    """Return all numbers of a sweep, which replace the charts for readers without scripts."""
    sides = [(sweep.sides[1], point) for point in sweep.curve]
    sides += [(sweep.sides[0], point) for point in sweep.base or ()]
    sides.sort(key=lambda side: sweep.index[side[1].load])
    points = [point for _, point in sides]
    columns = {"load point": [point.load.label for point in points], "side": [side for side, _ in sides]}
    if any(point.guards for point in points):
        columns["disturbed by"] = [", ".join(point.guards) for point in points]
    for name in ("p50", "p90", "p95", "p99"):
        columns[f">{name}"] = [marked(point, name, duration(getattr(point, f"{name}_ns"))) for point in points]
    columns[">inf/s"] = [rate(point.throughput) for point in points]
    columns[">requests"] = [f"{point.requests:,}" for point in points]
    if any(point.errors for point in points):
        columns[">errors"] = [str(point.errors) for point in points]
    for title, field, metric in _RESOURCES:
        values = [getattr(point, field) for point in points]
        if any(value is not None for value in values):
            columns[f">{title}"] = ["-" if value is None else figure(metric, value) for value in values]
    table = text_table(tuple(columns), zip(*columns.values(), strict=True))
    notes = [element("p", note, class_="faint") for note in few_requests_notes(points)]
    return _folded("All numbers", element("div", table, class_="wide"), *notes)


def _records(test: ReportedTest) -> Markup | None:
    record = test.record
    sources: list[tuple[str, Mapping[str, object]]] = [*record.under_test_by_side.items()]
    sources += [("key", record.key), ("environment", record.environment), ("settings", record.settings)]
    if record.rule is not None:
        sources.append(("rule", {**vars(record.rule), "metrics": ", ".join(sorted(record.rule.metrics))}))
    rows = [(where, name, fact(text, 1000)) for where, facts in sources for name, text in facts.items()]
    rows += [("stored as", "", test.path)] if test.path else []
    table = element("div", text_table(("where", "what", "value"), rows), class_="wide")
    return _folded("Model, environment and settings", table)
