"""The page of a report, and the page of a history."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pytest_gpuperf.model import ReportedTest, Verdict
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.report.history import History
from pytest_gpuperf.report.page.chart import Chart
from pytest_gpuperf.report.page.document import document
from pytest_gpuperf.report.page.history_charts import history_chart, records_chart, shift_rows
from pytest_gpuperf.report.page.latency_charts import request_charts
from pytest_gpuperf.report.page.markup import Markup, element
from pytest_gpuperf.report.page.overview import PageEntry, entries, filters, headline, table, worst_line
from pytest_gpuperf.report.page.section import PageCharts, section
from pytest_gpuperf.report.page.sweep_charts import SweepView, curve_charts, resource_charts

#: Values that all charts over time have together: they would be most of a page of many tests.
_PAST_VALUES = 100_000
_PAST_RECORDS = 200
#: Tests that are open from the start.
_OPEN = 3


def page(reported: Sequence[ReportedTest], *, title: str = "GPU performance", generated_utc: str) -> str:
    """A self-contained page: what became of every test, and the charts of its sweeps.

    Args:
        generated_utc: when, in ISO 8601.
    """
    members = entries(reported)
    places = PageCharts()
    points = sum(len(curve) for one in reported for curve in one.curves)
    most = max(min(_PAST_VALUES // (2 * max(points, 1)), _PAST_RECORDS), 5)
    sections = [
        section(one, _charts(one, most), places, open_=one.number < _OPEN and (_opens(one) or len(members) == 1))
        for one in members
    ]
    head = (
        element("p", title, class_="title"),
        element("h1", headline(members)),
        worst_line(members),
        _context(members, generated_utc),
    )
    body = (
        filters(members) if len(members) > 1 else None,
        table(members) if members else None,
        element(
            "div",
            element("button", "Open all", type="button", id="open-all", class_="quiet"),
            element("button", "Close all", type="button", id="close-all", class_="quiet"),
            class_="tools",
        )
        if len(members) > 1
        else None,
        *sections,
    )
    return document(f"{headline(members)} · {title}", head, body, places.all)


def _opens(one: PageEntry) -> bool:
    return one.verdict in (Verdict.REGRESSED, Verdict.INCONCLUSIVE) or bool(one.reported.error)


def _charts(one: PageEntry, most: int) -> list[tuple[SweepView, list[Chart]]]:
    """The charts of each sweep, in the order in which a regression is looked into."""
    found = []
    for curve in one.reported.curves:
        sweep = SweepView(one.reported, curve)
        made = [*curve_charts(sweep), *request_charts(sweep), records_chart(sweep, most), *resource_charts(sweep)]
        found.append((sweep, [figure for figure in made if figure is not None]))
    return found


def _context(members: Sequence[PageEntry], generated_utc: str) -> Markup:
    """Where and when."""
    devices = sorted({one.device for one in members})
    commits = sorted({one.reported.record.commit[:12] for one in members if one.reported.record.commit})
    drivers = sorted({str(one.reported.record.environment.get("driver") or "") for one in members} - {""})
    parts = [
        ", ".join(devices),
        f"driver {', '.join(drivers)}" if drivers else "",
        f"commit {', '.join(commits)}" if 0 < len(commits) < 4 else "",
        plural(len(members), "test"),
        f"{generated_utc[:16].replace('T', ' ')} UTC",
    ]
    return element("p", " · ".join(filter(None, parts)), class_="faint")


def history_page(histories: Sequence[History], title: str = "Performance history") -> str:
    """A self-contained page of histories.

    Args:
        histories: those of one test and key beside each other.
    """
    places = PageCharts()
    parts: list[str] = []
    for (test, device, key), members in groupby(histories, key=lambda one: (one.test, one.device, one.key)):
        charts = [_history(one, places) for one in members]
        parts.append(
            element(
                "section",
                element("h2", test),
                element("p", f"{device}, key {key}", class_="faint"),
                element("div", *charts, class_="charts"),
                class_="test past",
            )
        )
    changes = sum(len(one.shifts) for one in histories)
    head = (
        element("p", title, class_="title"),
        element("h1", f"{plural(changes, 'change') if changes else 'No change'} of level found"),
    )
    return document(title, head, parts, places.all)


def _history(one: History, places: PageCharts) -> Markup:
    rows = [element("tr", *(element("td", cell) for cell in row)) for row in shift_rows(one)]
    titles = ("", "UTC", "commit", "record", "change", "level", "")
    table = element(
        "table",
        element("thead", element("tr", *(element("th", name, scope="col") for name in titles))),
        element("tbody", *rows),
    )
    return element(
        "div",
        places.place(history_chart(one)),
        element("div", table, class_="wide") if rows else None,
    )
