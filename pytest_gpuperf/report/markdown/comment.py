"""The report as a Markdown comment for a pull request: the verdict first, details folded away.

Names of tests and branches are untrusted, so every one of them goes through ``escape``.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from functools import partial

from pytest_gpuperf.model import Comparison, Record, ReportedTest, Row, Verdict, worst
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.commands import accept, accept_inherited, base_commit, reproduce
from pytest_gpuperf.report.common_mode import common_failure, common_of
from pytest_gpuperf.report.comparison_table import (
    change_title,
    changed_or_undecided,
    point_label,
    row_rank,
    row_table,
    severity,
    tally,
)
from pytest_gpuperf.report.conditions import environment_text
from pytest_gpuperf.report.figures import cut, fact, figure, interval, interval_with_level, listed, minute, plural
from pytest_gpuperf.report.findings import finding_notes
from pytest_gpuperf.report.inherited import inherited_notes
from pytest_gpuperf.report.markdown.details import details_of
from pytest_gpuperf.report.markdown.noise_text import noise_text
from pytest_gpuperf.report.markdown.size_limit import TextPart, cut_note, fit
from pytest_gpuperf.report.markdown.suspects import together, waiting
from pytest_gpuperf.report.noise import diagnose_tests, is_summarized
from pytest_gpuperf.report.notes import (
    interval_notes,
    key_differences,
)
from pytest_gpuperf.report.summary import NOT_MEASURED, REJECTED, rejection_notes
from pytest_gpuperf.report.table import Table

_NOT_IN_MARKERS = re.compile(r"[^A-Za-z0-9._ -]|-(?=-)")
#: GitHub accepts 65,536 characters; the rest is left for a line of whoever posts the comment.
MAX_CHARACTERS = 65_000
#: Devices with a section of their own; the overview lists all of them.
_MAX_DEVICES = 12
_MAX_ROWS = 20
_MAX_ROWS_OF_A_TEST = 3
_MAX_NAMES = 10
_MAX_FINDINGS = 8
_MAX_CHANGES = 8
_MAX_COMMANDS = 10
_MAX_LINES = 50
_FAILED_SIGN = "❌"
_UNDECIDED_SIGN = "⚠️"
_SIGNS = {Verdict.REGRESSED: _FAILED_SIGN, Verdict.IMPROVED: "✅", Verdict.UNCHANGED: "✅"}
_NOT_COMPARED = (Verdict.NO_BASELINE, Verdict.NOT_COMPARABLE)
_HEAD, _TABLE, _EXPLANATION, _COMMANDS, _SWEEP = range(5)


def marker_line(name: str = "") -> str:
    """Return the hidden first line, by which the next report finds and replaces this comment."""
    suffix = _NOT_IN_MARKERS.sub("", name).strip(" -")
    return f"<!-- pytest-gpuperf report{' ' + suffix if suffix else ''} -->"


def comment(
    reported: Sequence[ReportedTest],
    *,
    title: str = "",
    marker: str = "",
    notes: Sequence[str] = (),
    error: str = "",
    limit: int = MAX_CHARACTERS,
) -> str:
    """Return the comment.

    Args:
        marker: Distinguishes several comments on one pull request.
        notes: What was not compared.
        error: Why no test was compared.
    """
    groups = group_by_device(reported)
    parts = [
        TextPart(
            ("\n\n".join([marker_line(marker), _title(reported, title, error), *together(reported)]),), _HEAD, "title"
        )
    ]
    parts.append(
        TextPart((_list("Not compared:", [escape.text(note) for note in notes], _MAX_NAMES), ""), _EXPLANATION)
    )
    if len(groups) > 1:
        parts.append(_overview(groups))
    for name, group in list(groups.items())[:_MAX_DEVICES]:
        parts += _section(name if len(groups) > 1 else "", group)
    if len(groups) > _MAX_DEVICES:
        parts.append(TextPart((f"{len(groups) - _MAX_DEVICES} more devices are listed only in the table above.",)))
    return fit(parts, limit, partial(cut_note, "run `gpuperf report --format table` or open the HTML report")) + "\n"


def group_by_device(reported: Sequence[ReportedTest]) -> dict[str, list[ReportedTest]]:
    """Group tests by device, the worst verdict first; invocations on the same device are distinguished by commit."""
    groups: dict[tuple[str, str], list[ReportedTest]] = {}
    for test in reported:
        device = str(test.record.key.get("device") or "unknown device")
        groups.setdefault((device, test.record.invocation), []).append(test)
    devices = Counter(device for device, _ in groups)
    named: dict[str, list[ReportedTest]] = {}
    for (device, _), group in groups.items():
        first = group[0].record
        name = f"{device}, {first.commit[:8] or minute(first.created_utc)}" if devices[device] > 1 else device
        named.setdefault(name, []).extend(group)
    return dict(sorted(named.items(), key=lambda item: min(map(severity, item[1]))))


def _title(reported: Sequence[ReportedTest], title: str, error: str) -> str:
    label = f": {escape.code(escape.shorten(title, 120))}" if title else ""
    if error:
        lines = escape.code_block([escape.shorten(line, 300) for line in error.splitlines()[:_MAX_LINES]], "text")
        return "\n".join([f"## {_FAILED_SIGN} gpuperf{label}: no comparison", "", *lines])
    if not reported:
        return f"## gpuperf{label}\n\nNo test measured anything."
    unexpected = [test for test in reported if not test.expected_failure]
    verdict = worst([test.comparison.verdict for test in unexpected])
    failed = sum(bool(test.error) for test in reported if not test.regressed)
    if common_failure(common_of(reported)):
        return f"## {_FAILED_SIGN} gpuperf{label}: all tests together regressed"
    if failed and verdict is not Verdict.REGRESSED:
        return f"## {_FAILED_SIGN} gpuperf{label}: {_count_of(failed, reported)} failed, nothing regressed"
    if not unexpected:
        return f"## {_UNDECIDED_SIGN} gpuperf{label}: {plural(len(reported), 'test')} failed as expected (xfail)"
    sign = _SIGNS.get(verdict, _UNDECIDED_SIGN)
    text = f"## {sign} gpuperf{label}: {_worst_count(reported, verdict)}"
    return f"{text}, {failed} failed for another reason" if failed else text


def _worst_count(reported: Sequence[ReportedTest], verdict: Verdict) -> str:
    members = [test for test in reported if test.comparison.verdict is verdict and not test.expected_failure]
    if verdict is not Verdict.NO_BASELINE:
        return f"{_count_of(len(members), reported)} {verdict}"
    if len(members) == len(reported):
        return tally(map(_outcome, members), "test")
    return f"{_count_of(len(members), reported)} with nothing to compare with"


def _outcome(test: ReportedTest) -> str:
    if not test.record.runs:
        return NOT_MEASURED
    return str(test.comparison.verdict) if test.record.status == "complete" else "cut short"


def _count_of(count: int, reported: Sequence[ReportedTest]) -> str:
    return plural(count, "test") if count == len(reported) else f"{count} of {plural(len(reported), 'test')}"


def _overview(groups: dict[str, list[ReportedTest]]) -> TextPart:
    cells, worst_rows = [], []
    for name, group in groups.items():
        where, changed = "", ""
        if worst_row := _worst_row(group):
            test, row = worst_row
            worst_rows.append(row)
            where, changed = f"{escape.shorten(test.record.test, 60)}, {point_label(row)}, {row.metric}", interval(row)
        cells.append((name, tally(map(_outcome, group)), where, changed))
    table = Table(("device", "tests", "worst load point", change_title(worst_rows)), tuple(cells))
    return TextPart(("\n".join(table.as_markdown()), ""), _TABLE, "overview")


def _worst_row(group: Sequence[ReportedTest]) -> tuple[ReportedTest, Row] | None:
    """Return the worst row that is not unchanged, with its test."""
    pairs = [(test, row) for test in group for row in test.comparison.rows if row.verdict is not Verdict.UNCHANGED]
    return min(pairs, key=lambda pair: row_rank(pair[1]), default=None)


def _section(name: str, group: Sequence[ReportedTest]) -> list[TextPart]:
    """Return the parts of a device; its name is empty if it is the only one."""
    title = f"### {escape.text(name)}" if name else ""
    diagnosis = diagnose_tests(group)
    summarized = [test for test in group if diagnosis and is_summarized(test)]
    shown = [test for test in group if test not in summarized]
    worst_row = _worst_row(shown)
    sentence = _worst_sentence(*worst_row) if worst_row else ""
    noise = noise_text(diagnosis, summarized) if diagnosis else ""
    head = "\n\n".join(filter(None, (title, sentence, noise, _counts(group))))
    explanations = (
        _inherited(group),
        _suspects(group),
        _list("Suspect records:", waiting(group), _MAX_NAMES),
        _not_compared(group),
        _unmatched_points(group),
        _failures(group),
        _expected_failures(group),
        _findings(shown if diagnosis else group),
    )
    return [
        TextPart((head, title), _HEAD, "section"),
        _changes_table(shown, named=len(group) > 1),
        *(TextPart((text, ""), _EXPLANATION, "explanation") for text in explanations if text),
        TextPart((environment_text(group), ""), _HEAD, "environment"),
        TextPart(tuple(_command_variants(group)), _COMMANDS, "list of commands"),
        *_all_details(group),
    ]


def _worst_sentence(test: ReportedTest, row: Row) -> str:
    name = escape.code(escape.shorten(test.record.test, 160))
    there = "reference" if test.comparison.mode == "duet" else row.against
    figures = f"from {figure(row.metric, row.baseline)} ({there}) to {figure(row.metric, row.candidate)}"
    where = f"at {escape.text(point_label(row))}" if row.point else f"over the whole sweep {escape.code(row.sweep)}"
    return f"{str(row.verdict).capitalize()}: **{row.metric} {interval_with_level(row)}** {where} of {name}, {figures}."


def _counts(group: Sequence[ReportedTest]) -> str:
    text = tally(map(_outcome, group), "test")
    rows = [str(row.verdict) for test in group for row in test.comparison.rows]
    return f"{text}. {tally(rows, 'comparison')}." if rows else f"{text}."


def _changes_table(group: Sequence[ReportedTest], *, named: bool) -> TextPart:
    """Return the table of changed or undecided rows: the worst of every test, so that no test hides another.

    Args:
        named: Whether to name the test of each row.
    """
    limit = _MAX_ROWS if not named else _MAX_ROWS_OF_A_TEST
    rows_by_test = [(test, changed_or_undecided(test.comparison.rows)) for test in group]
    pairs = [(test, row) for test, rows in rows_by_test for row in rows[:limit]]
    if not pairs:
        return TextPart(("",), _TABLE)
    pairs.sort(key=lambda pair: row_rank(pair[1]))
    total = sum(len(rows) for _, rows in rows_by_test)
    sizes = sorted({min(size, len(pairs)) for size in (_MAX_ROWS, 10, 5)}, reverse=True)
    variants = [_row_lines(pairs[:size], total, named=named) for size in sizes]
    return TextPart((*variants, ""), _TABLE, "table")


def _row_lines(pairs: Sequence[tuple[ReportedTest, Row]], total: int, *, named: bool) -> str:
    several = any(len(test.curves) > 1 for test, _ in pairs)
    duet = all(test.comparison.mode == "duet" for test, _ in pairs)
    columns = ("sweep and point" if several else "point", "metric", "before", "now", "change", "verdict")
    table = row_table((row for _, row in pairs), columns, duet=duet)
    if named:
        names = [escape.shorten(test.record.test) for test, _ in pairs]
        rows = tuple((name, *cells) for name, cells in zip(names, table.rows, strict=True))
        table = Table(("test", *table.titles), rows)
    lines = table.as_markdown()
    for note in dict.fromkeys(note for test, _ in pairs for note in interval_notes(test.comparison)):
        lines += ["", escape.text(note)]
    if total > len(pairs):
        lines += ["", f"and {plural(total - len(pairs), 'more row')}, listed below"]
    return "\n".join(lines)


# Explanations.


def _inherited(group: Sequence[ReportedTest]) -> str:
    notes = [(test, "; ".join(map(str.strip, inherited_notes(test.comparison)))) for test in group]
    return _reasons("Regressions and the main branch:", notes)


def _suspects(group: Sequence[ReportedTest]) -> str:
    regressed = [test for test in group if test.comparison.verdict is Verdict.REGRESSED]
    if not regressed:
        return ""
    # Environment and source are the same for all tests.
    changes = dict.fromkeys(
        (f"{change.where}: {change.name}", fact(change.before), fact(change.after))
        for test in regressed
        for change in test.comparison.changes
    )
    lines = []
    for name, *values in changes:
        before, after = (escape.code(text) or "empty" for text in values)
        lines.append(f"{escape.code(escape.shorten(name))}: {before} to {after}")
    duet = all(test.comparison.mode == "duet" for test in regressed)
    title = "What else differs from the reference:" if duet else "What else changed since the baseline:"
    return _list(title, lines, _MAX_CHANGES) or f"{title} nothing that is recorded."


def _list(title: str, lines: Sequence[str], most: int) -> str:
    """Return a list below its title; empty without lines."""
    return "\n".join([title, "", *(f"- {line}" for line in cut(lines, most))]) if lines else ""


def _not_compared(group: Sequence[ReportedTest]) -> str:
    """Return the tests that were not compared, by reason."""
    reasons: dict[str, list[str]] = {}
    for test in group:
        if test.comparison.verdict in _NOT_COMPARED or test.record.status != "complete":
            reasons.setdefault(_reason_not_compared(test.record, test.comparison), []).append(test.record.test)
    return _list("Not compared:", [f"{why}: {_names(tests)}" for why, tests in reasons.items()], len(reasons))


def _reason_not_compared(record: Record, comparison: Comparison) -> str:
    if not record.runs:
        return "nothing was measured"
    if record.status != "complete":
        return "measurement cut short"
    if rejection_notes(record, comparison):
        return REJECTED
    if comparison.differing:
        return f"the newest record has a different key: {escape.code(escape.shorten(key_differences(comparison), 200))}"
    return "nothing measured in common" if comparison.mode == "duet" else "no baseline yet, this is the first record"


def _names(tests: Sequence[str]) -> str:
    return listed([escape.code(escape.shorten(test)) for test in tests], _MAX_NAMES)


def _unmatched_points(group: Sequence[ReportedTest]) -> str:
    """Return the load points that only one side has; a point that is no longer measured cannot regress."""
    lines = []
    for test in group:
        sides = (
            ("no longer measured", test.comparison.missing_points),
            ("not in the baseline", test.comparison.new_points),
        )
        texts = [f"{what}: {_names(points)}" for what, points in sides if points]
        lines += [f"{escape.code(escape.shorten(test.record.test))}: {'; '.join(texts)}"] if texts else []
    return _list("Load points that only one side measured:", lines, _MAX_NAMES)


def _expected_failures(group: Sequence[ReportedTest]) -> str:
    return _reasons("Failed as expected (xfail):", [(test, test.expected_failure) for test in group])


def _failures(group: Sequence[ReportedTest]) -> str:
    return _reasons("Failed for another reason:", [(test, test.error) for test in group])


def _reasons(title: str, reasons: Sequence[tuple[ReportedTest, str]]) -> str:
    lines = [
        f"{escape.code(escape.shorten(test.record.test))}: {escape.code(escape.shorten(reason, 200))}"
        for test, reason in reasons
        if reason
    ]
    return _list(title, lines, _MAX_NAMES)


def _findings(group: Sequence[ReportedTest]) -> str:
    lines = [escape.text(escape.shorten(note, 200)) for note in finding_notes([test.record for test in group])]
    return _list("Disturbed measurements:", lines, _MAX_FINDINGS)


# Folded details.


def _command_variants(group: Sequence[ReportedTest]) -> list[str]:
    """Return variants of the commands that reproduce and accept all tests that are not unchanged, the longest first."""
    chosen = [test for test in group if test.error or test.comparison.verdict is not Verdict.UNCHANGED] or list(group)
    ranked = sorted(chosen, key=severity)
    return [*(_command_lines(ranked, size) for size in (_MAX_COMMANDS, 3)), ""]


def _command_lines(ranked: Sequence[ReportedTest], size: int) -> str:
    shown = ranked[:size]
    commits = list(dict.fromkeys(test.record.commit for test in shown if test.record.commit))
    lines = ["# measure again"]
    if len(commits) == 1:
        commit = shlex.quote(commits[0])
        # The job of a pull request measures GitHub's merge commit, which clones lack.
        bases = dict.fromkeys(filter(None, (base_commit(test.record) for test in shown)))
        lines += [" ".join(["git fetch origin", commit, *map(shlex.quote, bases)]), f"git checkout {commit}"]
    lines += [reproduce(test) for test in shown]
    regressed = [test for test in shown if test.comparison.verdict is Verdict.REGRESSED]
    acceptable = [test for test in regressed if test.comparison.mode != "duet"]
    if acceptable:
        lines += ["", "# if the change is intended, accept it as the new baseline"]
        lines += [accept(test) for test in acceptable]
    inherited = list(filter(None, map(accept_inherited, shown)))
    if inherited:
        lines += ["", "# if the main branch is to stay at its level, accept it as the new baseline", *inherited]
    if len(ranked) > size:
        lines += ["", f"# likewise for {plural(len(ranked) - size, 'more test')}"]
    what = "Measure again, or accept" if acceptable or inherited else "Measure again"
    return "\n".join(["<details>", f"<summary>{what}</summary>", "", *escape.code_block(lines), "", "</details>"])


def _all_details(group: Sequence[ReportedTest]) -> list[TextPart]:
    begin = f"<details>\n<summary>All figures of {plural(len(group), 'test')}</summary>"
    inner = [
        TextPart((details_of(test, with_rows=True), details_of(test, with_rows=False), ""), _SWEEP, "sweep")
        for test in sorted(group, key=severity)
    ]
    return [TextPart((begin,), _HEAD), *inner, TextPart(("</details>",), _HEAD)]
