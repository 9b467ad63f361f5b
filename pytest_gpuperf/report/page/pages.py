"""The page of a report and the page of a history."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from pytest_gpuperf.model import ReportedTest, Verdict
from pytest_gpuperf.report.common_mode import common_failure, common_note, common_of
from pytest_gpuperf.report.figures import minute, plural
from pytest_gpuperf.report.history import History
from pytest_gpuperf.report.noise import diagnose_tests
from pytest_gpuperf.report.page.chart import Chart
from pytest_gpuperf.report.page.document import document
from pytest_gpuperf.report.page.history_charts import history_chart, records_chart, shift_rows
from pytest_gpuperf.report.page.latency_charts import request_charts
from pytest_gpuperf.report.page.markup import Markup, element, joined, text_table
from pytest_gpuperf.report.page.overview import PageEntry, entries, filters, headline, lines, table, worst_line
from pytest_gpuperf.report.page.section import PageCharts, section
from pytest_gpuperf.report.page.sweep_charts import SweepView, cost, energy, latency, memory, throughput

#: Values in all history charts together, which would otherwise dominate a page of many tests.
_MAX_HISTORY_VALUES = 100_000
_MAX_HISTORY_RECORDS = 200
#: Tests that are unfolded from the start.
_UNFOLDED = 3


def page(
    reported: Sequence[ReportedTest],
    *,
    title: str = "GPU performance",
    generated_utc: str,
    notes: Sequence[str] = (),
    error: str = "",
) -> str:
    """Return a self-contained page: the result of every test, and the charts of its sweeps."""
    page_entries = entries(reported)
    charts = PageCharts()
    points = sum(len(curve) for test in reported for curve in test.curves)
    limit = max(min(_MAX_HISTORY_VALUES // (2 * max(points, 1)), _MAX_HISTORY_RECORDS), 5)
    several = len(page_entries) > 1
    sections = []
    for entry in page_entries:
        sweeps = [SweepView(entry.reported, curve) for curve in entry.reported.curves]
        noteworthy = (Verdict.REGRESSED, Verdict.INHERITED, Verdict.INCONCLUSIVE)
        attention = entry.verdict in noteworthy or entry.reported.error or not several
        open_ = entry.number < _UNFOLDED and bool(attention)
        sections.append(section(entry, [(sweep, charts_of(sweep, limit)) for sweep in sweeps], charts, open_=open_))
    modes = common_of(reported)
    failure, note = common_failure(modes), common_note(modes)
    head = (
        element("p", title, class_="title"),
        element("h1", "No comparison" if error else headline(page_entries)),
        element("pre", error) if error else None,
        element("p", f"{failure[0].upper()}{failure[1:]}", class_="bad") if failure else None,
        element("p", f"{note[0].upper()}{note[1:]}", class_="faint") if note else None,
        worst_line(page_entries),
        *(element("p", note) for note in notes),
        _noise(page_entries),
        _context(page_entries, generated_utc),
    )
    tools = (
        element("button", "Open all", type="button", id="open-all", class_="quiet"),
        element("button", "Close all", type="button", id="close-all", class_="quiet"),
    )
    body = (
        filters(page_entries) if several else None,
        table(page_entries) if page_entries else None,
        element("div", *tools, class_="tools") if several else None,
        *sections,
    )
    return document(f"{headline(page_entries)} · {title}", head, body, charts.all)


def charts_of(sweep: SweepView, limit: int) -> list[Chart]:
    """Return the charts of a sweep, in the order in which a regression is investigated."""
    charts = [throughput(sweep), latency(sweep), *request_charts(sweep), records_chart(sweep, limit)]
    charts += [cost(sweep), energy(sweep), memory(sweep)]
    return [chart for chart in charts if chart is not None]


def _noise(page_entries: Sequence[PageEntry]) -> Markup | None:
    """Say why most tests are undecided, where they are."""
    diagnosis = diagnose_tests([entry.reported for entry in page_entries])
    if diagnosis is None:
        return None
    title = element("p", element("strong", diagnosis.title.capitalize()))
    return joined(filter(None, (title, lines(diagnosis.sentences, "findings"))))


def _context(page_entries: Sequence[PageEntry], generated_utc: str) -> Markup:
    records = [entry.reported.record for entry in page_entries]
    commits = sorted({record.commit[:12] for record in records if record.commit})
    drivers = sorted({str(record.environment.get("driver") or "") for record in records} - {""})
    parts = [
        ", ".join(sorted({entry.device for entry in page_entries})),
        f"driver {', '.join(drivers)}" if drivers else "",
        f"commit {', '.join(commits)}" if 0 < len(commits) < 4 else "",
        plural(len(page_entries), "test"),
        f"{minute(generated_utc)} UTC",
    ]
    return element("p", " · ".join(filter(None, parts)), class_="faint")


def history_page(histories: Sequence[History], title: str = "Performance history") -> str:
    """Return a self-contained page of histories, those of the same test and key in succession."""
    charts = PageCharts()
    parts: list[str] = []
    for (test, device, key), group in groupby(histories, key=attrgetter("test", "device", "key")):
        plots = element("div", *(_history(history, charts) for history in group), class_="charts")
        about = element("p", f"{device}, key {key}", class_="faint")
        parts.append(element("section", element("h2", test), about, plots, class_="test past"))
    changes = sum(len(history.shifts) for history in histories)
    head = (
        element("p", title, class_="title"),
        element("h1", f"{plural(changes, 'change') if changes else 'No change'} of level found"),
    )
    return document(title, head, parts, charts.all)


def _history(history: History, charts: PageCharts) -> Markup:
    rows = shift_rows(history)
    shifts = text_table(("", "UTC", "commit", "record", "change", "level", ""), rows)
    return element("div", charts.add(history_chart(history)), element("div", shifts, class_="wide") if rows else None)
