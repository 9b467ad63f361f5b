"""The report as Markdown, for a pull request: a verdict that is understood in ten seconds, and the rest folded away.

Names come from others' tests and branches, so none of them is written but through ``safe``.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence

from pytest_gpuperf.model import Comparison, Record, ReportedTest, Row, Verdict, worst
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.commands import accept, reproduce
from pytest_gpuperf.report.comparison_table import changed_or_undecided, point_label, row_table, tally, worst_first
from pytest_gpuperf.report.conditions import baseline_text, environment_text
from pytest_gpuperf.report.figures import fact, interval, plural, row_value
from pytest_gpuperf.report.findings import finding_notes
from pytest_gpuperf.report.markdown.size_limit import TextPart, fit
from pytest_gpuperf.report.notes import (
    comparison_notes,
    curve_notes,
    endpoint_table,
    key_differences,
    left_out_notes,
    reliability_notes,
)
from pytest_gpuperf.report.summary import curve_table, headline
from pytest_gpuperf.report.table import Table

_NOT_IN_MARKERS = re.compile(r"[^A-Za-z0-9._ -]|-(?=-)")
#: GitHub takes 65,536 characters; who posts a comment may want to add a line.
MAX_CHARACTERS = 65_000
#: Sections of devices; the overview has all of them.
_MAX_DEVICES = 12
_MAX_ROWS = 20
_MAX_ROWS_OF_A_TEST = 3
_MAX_NAMES = 10
_MAX_FINDINGS = 8
_MAX_CHANGES = 8
_MAX_COMMANDS = 10
_FAILED_SIGN = "❌"
_SIGNS = {
    Verdict.REGRESSED: _FAILED_SIGN,
    Verdict.IMPROVED: "✅",
    Verdict.UNCHANGED: "✅",
}
_UNDECIDED_SIGN = "⚠️"
_NOT_COMPARED = (Verdict.NO_BASELINE, Verdict.NOT_COMPARABLE)
_HEAD, _TABLE, _EXPLANATION, _COMMANDS, _SWEEP, _ROWS = range(6)


def marker_line(name: str = "") -> str:
    """The hidden first line: a comment that begins with it is ours, and the next report takes its place."""
    told = _NOT_IN_MARKERS.sub("", name).strip(" -")
    return f"<!-- pytest-gpuperf report{' ' + told if told else ''} -->"


def comment(reported: Sequence[ReportedTest], *, title: str = "", marker: str = "", most: int = MAX_CHARACTERS) -> str:
    """The whole comment.

    Args:
        title: put beside the verdict.
        marker: tells several comments of one pull request apart.
        most: characters that it may have.
    """
    groups = group_by_device(reported)
    blocks = [TextPart(("\n\n".join([marker_line(marker), _title(reported, title)]),), _HEAD, "title")]
    if len(groups) > 1:
        blocks.append(_overview(groups))
    for name, group in list(groups.items())[:_MAX_DEVICES]:
        blocks += _section(name if len(groups) > 1 else "", group)
    if len(groups) > _MAX_DEVICES:
        blocks.append(TextPart((f"{len(groups) - _MAX_DEVICES} more devices are listed only in the table above.",)))
    return fit(blocks, most, _cut_note) + "\n"


def group_by_device(reported: Sequence[ReportedTest]) -> dict[str, list[ReportedTest]]:
    """By device, the worst verdict first; several invocations on one device by their commit as well."""
    found: dict[tuple[str, str], list[ReportedTest]] = {}
    for one in reported:
        found.setdefault((_device(one.record), one.record.invocation), []).append(one)
    devices = Counter(device for device, _ in found)
    names: dict[str, list[ReportedTest]] = {}
    for (device, _), group in found.items():
        name = device
        if devices[device] > 1:
            first = group[0].record
            name = f"{device}, {first.commit[:8] or first.created_utc[:16].replace('T', ' ')}"
        names.setdefault(name, []).extend(group)
    return dict(sorted(names.items(), key=lambda item: min(map(_severity, item[1]))))


def _severity(one: ReportedTest) -> tuple[bool, bool, int]:
    """What a reader should see first: regressed, then failed, then the other verdicts."""
    verdict = one.comparison.verdict
    return verdict is not Verdict.REGRESSED, not one.error, list(Verdict).index(verdict)


def _device(record: Record) -> str:
    return str(record.key.get("device") or "unknown device")


def _title(reported: Sequence[ReportedTest], title: str) -> str:
    called = f": {escape.code(escape.shorten(title, 120))}" if title else ""
    if not reported:
        return f"## gpuperf{called}\n\nNo test measured anything."
    verdict = worst([one.comparison.verdict for one in reported])
    broken = sum(bool(one.error) for one in reported if one.comparison.verdict is not Verdict.REGRESSED)
    if broken and verdict is not Verdict.REGRESSED:
        return f"## {_FAILED_SIGN} gpuperf{called}: {_count_of(broken, reported)} failed, nothing regressed"
    sign = _SIGNS.get(verdict, _UNDECIDED_SIGN)
    text = f"## {sign} gpuperf{called}: {_worst_count(reported, verdict)}"
    return f"{text}, {broken} failed for another reason" if broken else text


def _worst_count(reported: Sequence[ReportedTest], verdict: Verdict) -> str:
    members = [one for one in reported if one.comparison.verdict is verdict]
    if verdict is not Verdict.NO_BASELINE:
        return f"{_count_of(len(members), reported)} {verdict}"
    if len(members) == len(reported):
        return tally(map(_outcome, members), "test")
    return f"{_count_of(len(members), reported)} with nothing to compare with"


def _outcome(one: ReportedTest) -> str:
    return str(one.comparison.verdict) if one.record.status == "complete" else "cut short"


def _count_of(count: int, reported: Sequence[ReportedTest]) -> str:
    return plural(count, "test") if count == len(reported) else f"{count} of {plural(len(reported), 'test')}"


def _overview(groups: dict[str, list[ReportedTest]]) -> TextPart:
    cells = tuple((name, tally(map(_outcome, group)), *_worst_cells(group)) for name, group in groups.items())
    table = Table(("device", "tests", "worst load point", "change [95%]"), cells)
    return TextPart(("\n".join(table.as_markdown()), ""), _TABLE, "overview")


def _worst_cells(group: Sequence[ReportedTest]) -> tuple[str, str]:
    found = _worst_row(group)
    if found is None:
        return "", ""
    one, row = found
    return f"{escape.shorten(one.record.test, 60)}, {point_label(row)}, {row.metric}", interval(row)


def _worst_row(group: Sequence[ReportedTest]) -> tuple[ReportedTest, Row] | None:
    """The row that a reader should see first: of what changed or is open, the worst one of the worst verdict."""
    rows = [(one, row) for one in group for row in one.comparison.rows if row.verdict is not Verdict.UNCHANGED]
    ranked = worst_first(row for _, row in rows)
    return next(((one, row) for one, row in rows if row is ranked[0]), None) if ranked else None


def _section(name: str, group: Sequence[ReportedTest]) -> list[TextPart]:
    """One device's part; its name is empty where there is only one."""
    head = [f"### {escape.text(name)}"] if name else []
    head += [_worst_sentence(group)] if _worst_row(group) else []
    head += [_counts(group)]
    blocks = [TextPart(("\n\n".join(head), head[0] if name else ""), _HEAD, "section")]
    blocks.append(_changes_table(group))
    blocks += [TextPart((text, ""), _EXPLANATION, "explanation") for text in _explanations(group)]
    blocks.append(TextPart((environment_text(group), ""), _HEAD, "environment"))
    blocks.append(TextPart(tuple(_commands_variants(group)), _COMMANDS, "list of commands"))
    blocks += _all_details(group)
    return blocks


def _worst_sentence(group: Sequence[ReportedTest]) -> str:
    found = _worst_row(group)
    assert found is not None
    one, row = found
    test = escape.code(escape.shorten(one.record.test, 160))
    there = "reference" if one.comparison.mode == "duet" else row.against
    figures = f"from {row_value(row, row.baseline)} ({there}) to {row_value(row, row.candidate)}"
    where = (
        f"over the whole sweep {escape.code(row.sweep)}" if row.point is None else f"at {escape.text(point_label(row))}"
    )
    return f"{str(row.verdict).capitalize()}: **{row.metric} {interval(row)}** {where} of {test}, {figures}."


def _counts(group: Sequence[ReportedTest]) -> str:
    text = tally(map(_outcome, group), "test")
    rows = [str(row.verdict) for one in group for row in one.comparison.rows]
    return f"{text}. {tally(rows, 'comparison')}." if rows else f"{text}."


def _changes_table(group: Sequence[ReportedTest]) -> TextPart:
    """The table of what changed or could not be decided: the worst rows of every test, so that none hides another."""
    most = _MAX_ROWS if len(group) == 1 else _MAX_ROWS_OF_A_TEST
    telling_rows = [(one, changed_or_undecided(one.comparison.rows)) for one in group]
    owner = {id(row): one for one, rows in telling_rows for row in rows[:most]}
    rows = worst_first(row for _, rows in telling_rows for row in rows[:most])
    if not rows:
        return TextPart(("",), _TABLE)
    every = sum(len(rows) for _, rows in telling_rows)
    sizes = sorted({min(size, len(rows)) for size in (_MAX_ROWS, 10, 5)}, reverse=True)
    return TextPart((*(_row_lines(rows[:size], every, owner, len(group)) for size in sizes), ""), _TABLE, "table")


def _row_lines(shown: Sequence[Row], every: int, owner: dict[int, ReportedTest], tests: int) -> str:
    several = any(len(owner[id(row)].curves) > 1 for row in shown)
    duet = all(owner[id(row)].comparison.mode == "duet" for row in shown)
    columns = ("sweep and point" if several else "point", "metric", "before", "now", "change", "verdict")
    table = row_table(shown, columns, duet=duet)
    if tests > 1:
        names = [escape.shorten(owner[id(row)].record.test) for row in shown]
        rows = tuple((name, *cells) for name, cells in zip(names, table.rows, strict=True))
        table = Table(("test", *table.titles), rows)
    lines = table.as_markdown()
    if every > len(shown):
        lines += ["", f"and {plural(every - len(shown), 'more row')}, listed below"]
    return "\n".join(lines)


# What explains it.


def _explanations(group: Sequence[ReportedTest]) -> list[str]:
    return [
        text
        for text in (
            _suspects(group),
            _not_compared(group),
            _unmatched_points(group),
            _failures(group),
            _findings(group),
        )
        if text
    ]


def _suspects(group: Sequence[ReportedTest]) -> str:
    """What else changed, beside what regressed: the first suspects."""
    lines: list[str] = []
    regressed = [one for one in group if one.comparison.verdict is Verdict.REGRESSED]
    seen: dict[tuple[str, ...], int] = {}
    for one in regressed:
        for change in one.comparison.changes:
            # The environment and the source are the same for all tests.
            key = (change.where, change.name, fact(change.before), fact(change.after))
            seen[key] = seen.get(key, 0) + 1
    for where, name, before, after in list(seen)[:_MAX_CHANGES]:
        values = [escape.code(text) or "empty" for text in (before, after)]
        lines.append(f"- {escape.code(escape.shorten(f'{where}: {name}'))}: {' to '.join(values)}")
    if len(seen) > _MAX_CHANGES:
        lines.append(f"- and {len(seen) - _MAX_CHANGES} more")
    if not regressed:
        return ""
    if not lines:
        return "What else changed since the baseline: nothing that is recorded."
    return "\n".join(["What else changed since the baseline:", "", *lines])


def _not_compared(group: Sequence[ReportedTest]) -> str:
    """Tests that nothing could be compared with, and why."""
    reasons: dict[str, list[str]] = {}
    for one in group:
        if one.comparison.verdict in _NOT_COMPARED or one.record.status != "complete":
            reasons.setdefault(_why_absent(one.record, one.comparison), []).append(one.record.test)
    lines = [f"- {why}: {_names(tests)}" for why, tests in reasons.items()]
    return "\n".join(["Not compared:", "", *lines]) if lines else ""


def _why_absent(record: Record, comparison: Comparison) -> str:
    if not record.runs:
        return "nothing was measured"
    if record.status != "complete":
        return "measurement cut short"
    if comparison.differing:
        return f"the newest record has a different key: {escape.code(escape.shorten(key_differences(comparison), 200))}"
    return "nothing measured in common" if comparison.mode == "duet" else "no baseline yet, this is the first record"


def _names(tests: Sequence[str]) -> str:
    text = ", ".join(escape.code(escape.shorten(test)) for test in tests[:_MAX_NAMES])
    return text + (f" and {len(tests) - _MAX_NAMES} more" if len(tests) > _MAX_NAMES else "")


def _unmatched_points(group: Sequence[ReportedTest]) -> str:
    """Load points that only one side has: what is no longer measured can't regress."""
    lines = []
    for one in group:
        sides = (
            ("no longer measured", one.comparison.missing_points),
            ("not in the baseline", one.comparison.new_points),
        )
        parts = [f"{what}: {_names(points)}" for what, points in sides if points]
        lines += [f"- {escape.code(escape.shorten(one.record.test))}: {'; '.join(parts)}"] if parts else []
    if not lines:
        return ""
    more = [f"- and {len(lines) - _MAX_NAMES} more"] if len(lines) > _MAX_NAMES else []
    return "\n".join(["Load points that only one side measured:", "", *lines[:_MAX_NAMES], *more])


def _failures(group: Sequence[ReportedTest]) -> str:
    broken = [one for one in group if one.error]
    lines = [
        f"- {escape.code(escape.shorten(one.record.test))}: {escape.code(escape.shorten(one.error, 200))}"
        for one in broken[:_MAX_NAMES]
    ]
    if len(broken) > _MAX_NAMES:
        lines.append(f"- and {len(broken) - _MAX_NAMES} more")
    return "\n".join(["Failed for another reason:", "", *lines]) if lines else ""


def _findings(group: Sequence[ReportedTest]) -> str:
    notes = finding_notes([reported.record for reported in group])
    lines = [f"- {escape.text(escape.shorten(note, 200))}" for note in notes[:_MAX_FINDINGS]]
    if len(notes) > _MAX_FINDINGS:
        lines.append(f"- and {len(notes) - _MAX_FINDINGS} more")
    return "\n".join(["Disturbed measurements:", "", *lines]) if lines else ""


# What is folded away.


def _commands_variants(group: Sequence[ReportedTest]) -> list[str]:
    """What reproduces and what accepts, for all tests that did not pass as they were; shorter and shorter."""
    chosen = [one for one in group if one.error or one.comparison.verdict is not Verdict.UNCHANGED] or list(group)
    ranked = sorted(chosen, key=_severity)
    return [*(_command_lines(ranked, size) for size in (_MAX_COMMANDS, 3)), ""]


def _command_lines(ranked: Sequence[ReportedTest], size: int) -> str:
    shown = ranked[:size]
    commits = list(dict.fromkeys(one.record.commit for one in shown if one.record.commit))
    lines = ["# measure again"]
    if len(commits) == 1:
        commit = shlex.quote(commits[0])
        # A pull request's job measures GitHub's merge commit, which no clone has.
        lines += [f"git fetch origin {commit}", f"git checkout {commit}"]
    lines += [reproduce(one) for one in shown]
    regressed = [one for one in shown if one.comparison.verdict is Verdict.REGRESSED and one.comparison.mode != "duet"]
    if regressed:
        lines += ["", "# if the change is intended, accept it as the new baseline"]
        lines += [accept(one) for one in regressed]
    if len(ranked) > size:
        lines += ["", f"# likewise for {plural(len(ranked) - size, 'more test')}"]
    what = "Measure again, or accept" if regressed else "Measure again"
    return "\n".join(["<details>", f"<summary>{what}</summary>", "", *escape.code_block(lines), "", "</details>"])


def _all_details(group: Sequence[ReportedTest]) -> list[TextPart]:
    """All figures of all tests, worst first."""
    ranked = sorted(group, key=_severity)
    begin = "\n".join(["<details>", f"<summary>All figures of {plural(len(group), 'test')}</summary>"])
    inner = [
        TextPart((_test_details(one, with_rows=True), _test_details(one, with_rows=False), ""), _SWEEP, "sweep")
        for one in ranked
    ]
    return [TextPart((begin,), _HEAD), *inner, TextPart(("</details>",), _HEAD)]


def _test_details(one: ReportedTest, *, with_rows: bool) -> str:
    record, comparison = one.record, one.comparison
    name = escape.html_code(escape.shorten(record.test, 160))
    lines = [
        "<details>",
        f"<summary>{name}: {'failed, ' if one.error else ''}{comparison.verdict}</summary>",
        "",
        escape.text(headline(record, comparison)),
    ]
    for curve in one.curves:
        if len(one.curves) > 1:
            lines += ["", f"**{escape.code(escape.shorten(curve.name))}**"]
        lines += ["", *curve_table(curve, comparison.rows).as_markdown()]
        if any(len(point.supported) < 4 for point in curve):
            lines += ["", "~ too few requests for this percentile"]
        if table := endpoint_table(curve):
            lines += ["", *table.as_markdown()]
        lines += _bullets([*reliability_notes(curve), *curve_notes(curve)])
    if with_rows and comparison.rows:
        columns = (
            "sweep and point" if len(one.curves) > 1 else "point",
            "metric",
            "before",
            "now",
            "change",
            "p",
            "detectable",
            "verdict",
        )
        duet = comparison.mode == "duet"
        lines += ["", *row_table(worst_first(comparison.rows), columns, duet=duet).as_markdown()]
    lines += _bullets([*comparison_notes(comparison), *left_out_notes(comparison)])
    lines += ["", f"{baseline_text(one)}", "", "</details>"]
    return "\n".join(lines)


def _bullets(notes: Sequence[str]) -> list[str]:
    """Notes as a list; those that belong to another are indented below it."""
    lines = [f"{' ' * (len(note) - len(note.lstrip()))}- {escape.text(note.lstrip())}" for note in notes]
    return ["", *lines] if lines else []


def _cut_note(cut: Counter[str]) -> str:
    parts = ", ".join(plural(count, what) for what, count in cut.items())
    return (
        f"> Shortened to fit GitHub's size limit for comments ({parts}). "
        "For the full report, run `gpuperf report --format table` or open the HTML report."
    )
