"""The overview of a page: what happened, in a sentence, and a row for each test, the worst first."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_gpuperf.model import ReportedTest, Row, Verdict, is_share, worse_sign
from pytest_gpuperf.report.common_mode import common_failure, common_of
from pytest_gpuperf.report.comparison_table import change_title, deciding_row, point_label, severity, side_names
from pytest_gpuperf.report.figures import figure, interval, interval_with_level, plural
from pytest_gpuperf.report.page.markup import Markup, element, joined
from pytest_gpuperf.report.summary import rejection_notes, suspect_note

#: Signs beside the colours, for readers who cannot tell colours apart, and for print.
SIGNS = {
    Verdict.REGRESSED: "▲",
    Verdict.INHERITED: "△",
    Verdict.NOT_COMPARABLE: "≠",
    Verdict.NO_BASELINE: "○",
    Verdict.INCONCLUSIVE: "?",
    Verdict.IMPROVED: "▼",
    Verdict.UNCHANGED: "=",
}
_WIDTH, _HEIGHT = 160, 22
#: The scale of the intervals spans at least 10% to either side, so that small changes look small, and at most a factor
#: of 4, so that a single broken test leaves the others readable.
_MIN_SCALE, _MAX_SCALE = math.log(1.1), math.log(4)


@dataclass(frozen=True)
class PageEntry:
    """A test on the page.

    Attributes:
        number: Zero-based index on the page.
        row: Row that decided the verdict, or changed most; None if nothing was compared.
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
    """Return the tests, the worst first."""
    pairs = [(test, deciding_row(test.comparison.rows)) for test in reported]
    pairs.sort(key=lambda pair: (*severity(pair[0]), -pair[1].worsening if pair[1] else 0.0, pair[0].record.test))
    return [PageEntry(number, test, row) for number, (test, row) in enumerate(pairs)]


def headline(entries: Sequence[PageEntry]) -> str:
    """Return what happened, in a sentence."""
    total = len(entries)
    if common_failure(common_of(entry.reported for entry in entries)):
        return f"All {plural(total, 'test')} together regressed"
    counts = Counter(entry.verdict for entry in entries if not entry.reported.expected_failure)
    regressed, inconclusive = counts[Verdict.REGRESSED], counts[Verdict.INCONCLUSIVE]
    failed = sum(bool(entry.reported.error) for entry in entries if not entry.reported.regressed)
    if regressed:
        also = f", {failed} failed for another reason" if failed else ""
        return f"{regressed} of {plural(total, 'test')} regressed{also}"
    if failed:
        return f"{failed} of {plural(total, 'test')} failed; nothing regressed"
    nothing = counts[Verdict.NO_BASELINE] + counts[Verdict.NOT_COMPARABLE]
    if nothing == total:
        return "Nothing to compare with yet" if total else "No tests"
    # A missing baseline is mentioned: a test that was not compared did not pass.
    absent = f"; {nothing} of {plural(total, 'test')} not compared" if nothing else ""
    if inherited := counts[Verdict.INHERITED]:
        what, count, how = "No new regression", inherited, "inherited one from the main branch"
    else:
        what, count, how = "No regression found", inconclusive, "inconclusive"
    if count:
        return f"{what}; {count} of {plural(total, 'test')} {how}{absent}"
    expected = total - counts.total()
    absent += f"; {plural(expected, 'test')} failed as expected (xfail)" if expected else ""
    improved = counts[Verdict.IMPROVED]
    better = f"; {improved} of {plural(total, 'test')} improved" if improved else ""
    return f"No regression{better}{absent}"


def worst_line(entries: Sequence[PageEntry]) -> Markup | None:
    """Return the worst load point with its interval."""
    regressed = [(entry.row, entry) for entry in entries if entry.reported.regressed and entry.row]
    if not regressed:
        return None
    row, entry = max(regressed, key=lambda pair: pair[0].worsening)
    where = f" at {point_label(row)} of " if row.point else " over the whole sweep of "
    changed = element("strong", f"{row.metric} {interval_with_level(row)}", class_="bad")
    return element("p", "Worst: ", changed, where, _link(entry), class_="worst")


def _link(entry: PageEntry) -> Markup:
    return element("a", breakable(entry.test), href=f"#t{entry.number}")


def chip(verdict: Verdict) -> Markup:
    """Return a verdict with its sign."""
    return element("span", _sign(verdict), str(verdict), class_=f"chip {css_class(verdict)}")


def _sign(verdict: Verdict) -> Markup:
    return element("span", SIGNS[verdict], class_="sign", aria_hidden="true")


def css_class(verdict: Verdict) -> str:
    return "v-" + str(verdict).replace(" ", "-")


def filters(entries: Sequence[PageEntry]) -> Markup:
    """Return the controls that filter the tests."""
    counts = Counter(entry.verdict for entry in entries)
    buttons = [
        element(
            "button",
            _sign(verdict),
            f"{counts[verdict]} {verdict}",
            type="button",
            class_=f"filter {css_class(verdict)}",
            data_verdict=str(verdict),
            aria_pressed="false",
        )
        for verdict in Verdict
        if counts[verdict]
    ]
    label = "Filter tests by name"
    search = element("input", type="search", id="search", placeholder="Filter by name", aria_label=label)
    verdicts = element("div", *buttons, class_="buttons", role="group", aria_label="Filter by verdict")
    shown = element("p", "", id="shown", role="status", class_="faint")
    return element("div", verdicts, search, shown, class_="filters")


def table(entries: Sequence[PageEntry]) -> Markup:
    """Return a row for each test, with the deciding change drawn as a dot within its interval."""
    reach = _scale_end(entries)
    deciding = [entry.row for entry in entries if entry.row is not None]
    compared = bool(deciding)
    several = len({entry.device for entry in entries}) > 1
    sides = {side_names(duet=entry.reported.comparison.mode == "duet") for entry in entries if entry.row is not None}
    before, now = sides.pop() if len(sides) == 1 else ("before", "now")
    heads = [element("th", "Verdict", scope="col"), element("th", "Test", scope="col")]
    if compared:
        ends = (element("span", f"{math.exp(reach):.2g}x {word}") for word in ("better", "worse"))
        scale = element("div", *ends, class_="scale")
        heads += [
            element("th", scale, scope="col", class_="plotted", aria_label="Change, drawn"),
            element("th", change_title(deciding).capitalize(), scope="col"),
            element("th", "Decided by", scope="col"),
            element("th", before.capitalize(), scope="col", class_="number"),
            element("th", now.capitalize(), scope="col", class_="number"),
        ]
    columns = (before, now) if compared else None
    rows = [_row(entry, reach, columns, several) for entry in entries]
    caption = element("caption", "Tests, the worst first", class_="hidden")
    head = element("thead", element("tr", *heads))
    return element("table", caption, head, element("tbody", *rows), class_="overview")


def _row(entry: PageEntry, reach: float, columns: tuple[str, str] | None, several: bool) -> Markup:
    """Return the row of a test; columns are the names of the two sides, None if nothing was compared."""
    name = [_link(entry)]
    if several:
        name.append(element("div", entry.device, class_="faint small"))
    if entry.reported.error:
        name.append(element("div", f"failed: {entry.reported.error}", class_="bad small"))
    if entry.reported.record.gate == "suspect":
        name.append(element("div", suspect_note(entry.reported.comparison), class_="small"))
    if entry.reported.expected_failure:
        name.append(element("div", f"failed as expected: {entry.reported.expected_failure}", class_="faint small"))
    if columns is None:
        name.append(element("div", _why_not_compared(entry), class_="faint small"))
    cells = [element("td", chip(entry.verdict), class_="verdict"), element("th", *name, scope="row", class_="named")]
    row = entry.row
    if columns and row is not None:
        cells += [
            element("td", _interval_drawing(row, reach), class_="plotted"),
            element("td", interval(row), class_=f"changed {css_class(row.verdict)}"),
            element("td", _where(entry, row), class_="where"),
            element("td", figure(row.metric, row.baseline), class_="number before", data_column=columns[0]),
            element("td", figure(row.metric, row.candidate), class_="number", data_column=columns[1]),
        ]
    elif columns:
        cells += [element("td", _why_not_compared(entry), colspan=5, class_="faint")]
    searched = f"{entry.test} {entry.device}".lower()
    return element("tr", *cells, data_test=entry.number, data_name=searched, data_verdict=str(entry.verdict))


def _where(entry: PageEntry, row: Row) -> str:
    several = len({row.sweep for row in entry.reported.comparison.rows}) > 1
    return f"{row.metric}, {row.sweep}, {point_label(row)}" if several else f"{row.metric}, {point_label(row)}"


def _why_not_compared(entry: PageEntry) -> str:
    if not entry.reported.curves:
        return "nothing was measured"
    if entry.reported.record.status != "complete":
        return "measurement cut short"
    differing = entry.reported.comparison.differing
    if differing:
        return "existing records have a different key: " + ", ".join(differing)
    rejected = rejection_notes(entry.reported.record, entry.reported.comparison)
    return rejected[0] if rejected else "first record of this test"


def breakable(test: str) -> Markup:
    """Return the name of a test with line break opportunities; copied text is unchanged."""
    parts = re.split(r"(?<=::)|(?<=/)", test)
    return joined(child for part in parts for child in (part, element("wbr")))


def _log_interval(row: Row) -> tuple[float, float, float]:
    """Return low end, value and high end as logs; larger is worse."""
    ratios = (row.low, row.ratio, row.high)
    share = is_share(row.metric)  # drawn as if its percentage points were percent
    logs = [ratio - 1 if share else math.log(max(ratio, 1e-9)) for ratio in ratios]
    return (-logs[2], -logs[1], -logs[0]) if worse_sign(row.metric) < 0 else (logs[0], logs[1], logs[2])


def _scale_end(entries: Sequence[PageEntry]) -> float:
    ends = [abs(end) for entry in entries if entry.row for end in _log_interval(entry.row) if math.isfinite(end)]
    return min(max([_MIN_SCALE, *ends]), _MAX_SCALE) * 1.04


def _interval_drawing(row: Row, reach: float) -> Markup:
    """Draw the change and its interval on a scale that all rows share; worse is on the right."""
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
        aria_label=f"{row.metric} {interval_with_level(row)}",
    )


def lines(texts: Sequence[str], class_: str) -> Markup | None:
    """Return a list of sentences; None without sentences."""
    return element("ul", joined(element("li", text) for text in texts), class_=class_) if texts else None
