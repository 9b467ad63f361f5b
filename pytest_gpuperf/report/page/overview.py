"""The first thing on the page: what happened, in one sentence, and a row for each test, the worst first."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import ReportedTest, Row, Verdict
from pytest_gpuperf.report.comparison_table import point_label
from pytest_gpuperf.report.figures import interval, plural, row_value
from pytest_gpuperf.report.page.markup import Markup, element, joined

_ORDER = list(Verdict)
#: Shape beside colour, for those who don't see the colour, and for paper.
SIGNS = {
    Verdict.REGRESSED: "▲",
    Verdict.NOT_COMPARABLE: "≠",
    Verdict.NO_BASELINE: "○",
    Verdict.INCONCLUSIVE: "?",
    Verdict.IMPROVED: "▼",
    Verdict.UNCHANGED: "=",
}
_WIDTH, _HEIGHT = 160, 22
#: The scale of the intervals never shows less than 10% to either side, so that small changes look small, and never
#: more than a factor of 4, so that one broken test leaves the others readable.
_LEAST, _MOST = math.log(1.1), math.log(4)


@dataclass(frozen=True)
class PageEntry:
    """One test of the page.

    Attributes:
        number: its place on the page, from 0.
        row: what decided its verdict, or moved most; None where nothing was compared.
    """

    number: int
    reported: ReportedTest
    row: Row | None

    @property
    def verdict(self) -> Verdict:
        return self.reported.comparison.verdict

    @property
    def test(self) -> str:
        return self.reported.record.test

    @property
    def device(self) -> str:
        return str(self.reported.record.key.get("device", "?"))


def entries(reported: Sequence[ReportedTest]) -> list[PageEntry]:
    """The tests, the worst first."""

    def rank(one: tuple[ReportedTest, Row | None]) -> tuple[bool, bool, int, float, str]:
        test, row = one
        verdict = test.comparison.verdict
        worsening = row.worsening if row is not None else 0.0
        regressed = verdict is Verdict.REGRESSED
        return not regressed, not test.error, _ORDER.index(verdict), -worsening, test.record.test

    found = sorted(((one, deciding_row(one.comparison.rows)) for one in reported), key=rank)
    return [PageEntry(number, one, row) for number, (one, row) in enumerate(found)]


def deciding_row(rows: Sequence[Row]) -> Row | None:
    """The row that decides: of the worst verdict, the one with the largest change; for the worse where that matters."""
    if not rows:
        return None
    verdict = min((row.verdict for row in rows), key=_ORDER.index)
    members = [row for row in rows if row.verdict is verdict]
    if verdict in (Verdict.REGRESSED, Verdict.INCONCLUSIVE):
        return max(members, key=lambda row: row.worsening)
    return max(members, key=lambda row: abs(row.worsening))


def headline(members: Sequence[PageEntry]) -> str:
    """What happened, in a sentence."""
    total = len(members)
    counts = Counter(one.verdict for one in members)
    regressed, unsure = counts[Verdict.REGRESSED], counts[Verdict.INCONCLUSIVE]
    failed = sum(bool(one.reported.error) for one in members if one.verdict is not Verdict.REGRESSED)
    if regressed:
        also = f", {failed} failed for another reason" if failed else ""
        return f"{regressed} of {plural(total, 'test')} regressed{also}"
    if failed:
        return f"{failed} of {plural(total, 'test')} failed; nothing regressed"
    nothing = counts[Verdict.NO_BASELINE] + counts[Verdict.NOT_COMPARABLE]
    if nothing == total:
        return "Nothing to compare with yet" if total else "No tests"
    # A missing baseline is loud: what was not compared did not pass.
    absent = f"; {nothing} of {plural(total, 'test')} not compared" if nothing else ""
    if unsure:
        return f"No regression found; {unsure} of {plural(total, 'test')} inconclusive{absent}"
    improved = counts[Verdict.IMPROVED]
    better = f"; {improved} of {plural(total, 'test')} improved" if improved else ""
    return f"No regression{better}{absent}"


def worst_line(members: Sequence[PageEntry]) -> Markup | None:
    """The worst point with its interval."""
    regressed = [one for one in members if one.verdict is Verdict.REGRESSED and one.row is not None]
    if not regressed:
        return None
    one = max(regressed, key=lambda entry: entry.row.worsening if entry.row else 0.0)
    assert one.row is not None
    return element(
        "p",
        "Worst: ",
        element("strong", f"{one.row.metric} {interval(one.row)}", class_="bad"),
        f" {'over the whole sweep' if one.row.point is None else f'at {point_label(one.row)}'} of ",
        element("a", breakable(one.test), href=f"#t{one.number}"),
        class_="worst",
    )


def chip(verdict: Verdict) -> Markup:
    """A verdict as a word with its sign."""
    sign = element("span", SIGNS[verdict], class_="sign", aria_hidden="true")
    return element("span", sign, str(verdict), class_=f"chip {css_class(verdict)}")


def css_class(verdict: Verdict) -> str:
    return "v-" + str(verdict).replace(" ", "-")


def filters(members: Sequence[PageEntry]) -> Markup:
    """What narrows the page to some tests."""
    counts = Counter(one.verdict for one in members)
    buttons = [
        element(
            "button",
            element("span", SIGNS[verdict], class_="sign", aria_hidden="true"),
            f"{counts[verdict]} {verdict}",
            type="button",
            class_=f"filter {css_class(verdict)}",
            data_verdict=str(verdict),
            aria_pressed="false",
        )
        for verdict in _ORDER
        if counts[verdict]
    ]
    search = element(
        "input", type="search", id="search", placeholder="Filter by name", aria_label="Filter tests by name"
    )
    return element(
        "div",
        element("div", *buttons, class_="buttons", role="group", aria_label="Filter by verdict"),
        search,
        element("p", "", id="shown", role="status", class_="faint"),
        class_="filters",
    )


def table(members: Sequence[PageEntry]) -> Markup:
    """A row for each test, with the change that decided as a dot within its interval."""
    reach = _scale_end(members)
    compared = any(one.row is not None for one in members)
    several = len({one.device for one in members}) > 1
    heads = [element("th", "Verdict", scope="col"), element("th", "Test", scope="col")]
    if compared:
        scale = element(
            "div",
            element("span", f"{math.exp(reach):.2g}x better"),
            element("span", f"{math.exp(reach):.2g}x worse"),
            class_="scale",
        )
        heads += [
            element("th", scale, scope="col", class_="plotted", aria_label="Change, drawn"),
            element("th", "Change [95%]", scope="col"),
            element("th", "Decided by", scope="col"),
            element("th", "Before", scope="col", class_="number"),
            element("th", "Now", scope="col", class_="number"),
        ]
    rows = [_row(one, reach, compared, several) for one in members]
    return element(
        "table",
        element("caption", "Tests, the worst first", class_="hidden"),
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        class_="overview",
    )


def _row(one: PageEntry, reach: float, compared: bool, several: bool) -> Markup:
    name = [element("a", breakable(one.test), href=f"#t{one.number}")]
    if several:
        name.append(element("div", one.device, class_="faint small"))
    if one.reported.error:
        name.append(element("div", f"failed: {one.reported.error}", class_="bad small"))
    if not compared:
        name.append(element("div", _why_not_compared(one), class_="faint small"))
    cells = [element("td", chip(one.verdict), class_="verdict"), element("th", *name, scope="row", class_="named")]
    row = one.row
    if compared and row is not None:
        cells += [
            element("td", _interval_drawing(row, reach), class_="plotted"),
            element("td", interval(row), class_=f"changed {css_class(row.verdict)}"),
            element("td", _where(one, row), class_="where"),
            element("td", row_value(row, row.baseline), class_="number before"),
            element("td", row_value(row, row.candidate), class_="number now"),
        ]
    elif compared:
        cells += [element("td", _why_not_compared(one), colspan=5, class_="faint")]
    return element("tr", *cells, data_test=one.number, data_name=_search_text(one), data_verdict=str(one.verdict))


def _search_text(one: PageEntry) -> str:
    return f"{one.test} {one.device}".lower()


def _where(one: PageEntry, row: Row) -> str:
    sweeps = {other.sweep for other in one.reported.comparison.rows}
    return f"{row.metric}, {row.sweep}, {point_label(row)}" if len(sweeps) > 1 else f"{row.metric}, {point_label(row)}"


def _why_not_compared(one: PageEntry) -> str:
    if one.reported.record.status != "complete":
        return "measurement cut short"
    differing = one.reported.comparison.differing
    if differing:
        return "existing records have a different key: " + ", ".join(differing)
    return "first record of this test" if one.reported.curves else "nothing was measured"


def breakable(test: str) -> Markup:
    """A test's name that may break behind its separators; copied, it is the same."""
    parts = re.split(r"(?<=::)|(?<=/)", test)
    return joined(one for part in parts for one in (part, element("wbr")))


def _log_interval(row: Row) -> tuple[float, float, float]:
    """Low end, value and high end as logs, larger is worse."""
    logs = [math.log(max(one, 1e-9)) for one in (row.low, row.ratio, row.high)]
    low, middle, high = (-logs[2], -logs[1], -logs[0]) if row.metric == "throughput" else logs
    return low, middle, high


def _scale_end(members: Sequence[PageEntry]) -> float:
    """How far the scale goes to either side, as a log."""
    ends = [abs(end) for one in members if one.row is not None for end in _log_interval(one.row) if math.isfinite(end)]
    return min(max([_LEAST, *ends]), _MOST) * 1.04


def _interval_drawing(row: Row, reach: float) -> Markup:
    """The change and its interval on a scale that all rows share; what is worse lies right."""
    low, middle, high = _log_interval(row)

    def x(log: float) -> float:
        inside = max(min(log, reach), -reach) if not math.isnan(log) else 0.0
        return round(_WIDTH / 2 + inside / reach * (_WIDTH / 2 - 6), 1)

    center = _HEIGHT / 2
    return element(
        "svg",
        element("line", class_="whisker", x1=x(low), x2=x(high), y1=center, y2=center),
        element("circle", class_="dot", cx=x(middle), cy=center, r=4.5),
        class_=f"forest {css_class(row.verdict)}",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{row.metric} {interval(row)}",
    )


def lines(texts: Sequence[str], class_: str) -> Markup | None:
    """A list of sentences; None where there are none."""
    return element("ul", joined(element("li", text) for text in texts), class_=class_) if texts else None
