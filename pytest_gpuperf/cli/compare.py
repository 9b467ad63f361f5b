"""``gpuperf compare``: the newest record of each test against its baseline."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.cli import device_comparison
from pytest_gpuperf.cli.judging import JudgedRecord, differing_verdicts, judge_together, rule_for
from pytest_gpuperf.cli.screen import screen_width
from pytest_gpuperf.cli.shared_options import (
    add_filters,
    add_format,
    add_prices,
    add_store,
    metric_name,
    number,
    open_store,
    share,
)
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord, newest_invocation, origin_of
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import CommonMode, Record, Row, Verdict, worst
from pytest_gpuperf.publish.comparison import UNCOMPARED
from pytest_gpuperf.report import escape
from pytest_gpuperf.report.common_mode import common_failure, common_note
from pytest_gpuperf.report.comparison_table import changed_or_undecided, row_table, tally, worst_first
from pytest_gpuperf.report.exchange.report_json import comparison_document, without_infinities
from pytest_gpuperf.report.notes import comparison_notes, interval_notes
from pytest_gpuperf.report.summary import headline
from pytest_gpuperf.report.table import Table
from pytest_gpuperf.report.wrapping import wrapped
from pytest_gpuperf.safe_text import printable
from pytest_gpuperf.store import BaselineSpec

REGRESSED = 1
_COLUMNS = ("verdict", "sweep and point", "metric", "before", "now", "change", "p", "detectable", "against")
#: On a screen that is too narrow for all columns: those that pytest prints, below the name of each sweep.
_NARROW_COLUMNS = ("short point", "short metric", "before", "now", "short change", "verdict")
_alpha = number(lambda alpha: 0 < alpha <= 0.5, "a share above 0 and up to 50%, for example 5% or 0.05", percent=True)


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Compare the newest record of each test with its baseline: all tests of the last pytest --gpuperf, sweep or "
        "import. Exit status 1: a test regressed, or its newest record can't be read."
    )
    add = parser.add_argument
    add("record", nargs="?", help="id of another record, or its beginning")
    add_filters(parser)
    add_format(parser)
    add("--baseline", metavar="SPEC", help="as --gpuperf-baseline (default: both)")
    for name, kind in (("alpha", _alpha), ("min-effect", share)):
        text = f"as --gpuperf-{name} (default: as the record was judged)"
        add(f"--{name}", type=kind, metavar="SHARE", help=text)
    text = "a change up to this share counts as unchanged (default: 5%%, or the minimum effect if that is larger)"
    add("--equivalence", type=share, metavar="SHARE", help=text)
    add("--metrics", type=_metrics, metavar="NAMES", help="metrics that gate (default: as the record was judged)")
    add("--all", action="store_true", help="also show unchanged load points")
    text = "exit with status 1 too if a test has nothing to compare with"
    add("--require-baseline", action="store_true", help=text)
    add("--across", choices=("gpu",), help="compare each test's newest records on different GPU models instead")
    text = "with --across: GPU model that the others are compared with"
    add("--base", default="", metavar="GPU", help=text)
    add_prices(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    if options.across:
        return device_comparison.run(options)
    reader = RecordReader(open_store(options), key=options.key)
    records = _judge(options, reader)
    lines = {"table": _table, "markdown": _markdown, "json": _json}[options.format]
    print("\n".join(lines(records, options.all)))
    failing = [Verdict.REGRESSED, *(UNCOMPARED if options.require_baseline else ())]
    failed = any(judged.comparison.verdict in failing for judged in records) or common_failure(_common(records))
    result = REGRESSED if failed else 0
    if line := differing_verdicts(records):
        print(printable(f"gpuperf: {line}"), file=sys.stderr)
    return max(result, reader.print_unreadable())


def _judge(options: argparse.Namespace, reader: RecordReader) -> list[JudgedRecord]:
    try:
        spec = BaselineSpec.parse(options.baseline) if options.baseline else None
    except ValueError as error:
        raise GpuperfError(f"--baseline {options.baseline}: {error}") from error
    if options.record:
        file = reader.store.find(options.record)
        stored = StoredRecord("", file, reader.store.read(file))
        wanted, invocation = [stored], [stored]
        if stored.record.invocation:
            invocation = reader.invocation(stored.record.invocation, stored)
    else:
        wanted = invocation = newest_invocation(reader, options.test)
    wanted = [stored for stored in wanted if options.test in stored.record.test]
    if not wanted:
        what = f" of a test whose id contains {options.test!r}" if options.test else ""
        reader.fail(
            f"No record{what} to compare in {reader.store.url}.\nSee: gpuperf baseline list{reader.store.option}"
        )
    for stored in wanted:
        if stored.record.status != "complete":
            raise GpuperfError(
                f"Record {stored.record.id} of {stored.record.test} was cut short, so it can't be compared."
            )

    # alpha is split over all tests of the invocation, not only over the chosen ones
    tests = 1 if options.record else len(invocation)

    def rule(record: Record) -> Rule:
        return rule_for(
            record,
            tests=tests,
            equivalence=options.equivalence,
            alpha=options.alpha,
            min_effect=options.min_effect,
            metrics=options.metrics,
            store=reader.store,
        )

    wanted.sort(key=lambda stored: stored.record.test)
    return judge_together(reader.store, wanted, invocation, rule, spec=spec)


def _heading(judged: JudgedRecord) -> str:
    return f"record {origin_of(judged.record)}: {headline(judged.record, judged.comparison)}"


def _shown_rows(judged: JudgedRecord, all_rows: bool) -> list[Row]:
    """Return the rows to show, changed and undecided ones first."""
    rows = judged.comparison.rows
    return worst_first(rows) if all_rows else changed_or_undecided(rows)


def _cells(judged: JudgedRecord, all_rows: bool) -> Table:
    return row_table(_shown_rows(judged, all_rows), _COLUMNS, duet=judged.comparison.mode == "duet")


def _table_lines(judged: JudgedRecord, all_rows: bool, width: int) -> list[str]:
    """Return the rows with all columns or, on a screen that is too narrow for them, with the most important ones."""
    table = _cells(judged, all_rows)
    if not table.rows:
        return []
    lines = table.as_text("  ")
    if not width or max(map(len, lines)) <= width:
        return lines
    rows = _shown_rows(judged, all_rows)
    columns = _NARROW_COLUMNS + (("against",) if len({row.against for row in rows}) > 1 else ())
    lines = []
    for sweep in dict.fromkeys(row.sweep for row in rows):
        chosen = [row for row in rows if row.sweep == sweep]
        lines.append(f"  {sweep}")
        lines += row_table(chosen, columns, duet=judged.comparison.mode == "duet").as_text("  ", width)
    return [*lines, "  (p, detectable: with a wider terminal, or --format markdown)"]


def _counts(judged: JudgedRecord) -> list[str]:
    rows = judged.comparison.rows
    return [tally(str(row.verdict) for row in rows)] if rows else []


def _notes(judged: JudgedRecord) -> list[str]:
    comparison = judged.comparison
    lines = [note.strip() for note in comparison_notes(comparison, judged.record)]
    lines += [
        f"changed: {change.where}: {change.name} {change.before} -> {change.after}" for change in comparison.changes
    ]
    return lines + [f"unreadable, left out of the baseline: {error.where}" for error in judged.baseline.unreadable]


def _table(records: Sequence[JudgedRecord], all_rows: bool) -> list[str]:
    width = screen_width()
    lines = []
    for judged in records:
        lines += wrapped([judged.record.test, f"  {_heading(judged)}"], width)
        lines += _table_lines(judged, all_rows, width)
        lines += wrapped([f"  {line}" for line in (*_counts(judged), *_notes(judged))], width)
    lines += wrapped(_footnotes(records), width)
    return list(map(printable, lines))


def _footnotes(records: Sequence[JudgedRecord]) -> list[str]:
    common = _common(records)
    lines = [f"FAIL: {line}" for line in filter(None, (common_failure(common),))] + [common_note(common)]
    lines += [note for judged in records for note in interval_notes(judged.comparison)]
    return list(dict.fromkeys(filter(None, lines)))


def _common(records: Sequence[JudgedRecord]) -> list[CommonMode]:
    """Return what all tests changed by together; each invocation and metric once."""
    return list(dict.fromkeys(mode for judged in records for mode in judged.comparison.common))


def _markdown(records: Sequence[JudgedRecord], all_rows: bool) -> list[str]:
    lines = []
    for judged in records:
        table = _cells(judged, all_rows)
        blocks = [
            [f"### {escape.code(judged.record.test)}"],
            [f"**{judged.comparison.verdict}**: {escape.text(_heading(judged))}"],
            table.as_markdown() if table.rows else [],
            _counts(judged),
            [f"* {escape.text(note)}" for note in _notes(judged)],
        ]
        lines += [line for block in blocks if block for line in (*block, "")]
    return [*lines, *map(escape.text, _footnotes(records))] if _footnotes(records) else lines[:-1]


def _json(records: Sequence[JudgedRecord], _all_rows: bool) -> list[str]:
    document = {
        "verdict": str(worst([judged.comparison.verdict for judged in records])),
        "comparisons": [
            {
                "test": judged.record.test,
                "record": judged.record.id,
                "created_utc": judged.record.created_utc,
                "commit": judged.record.commit,
                "key": dict(judged.record.key),
                **comparison_document(judged.comparison),
            }
            for judged in records
        ],
    }
    return [json.dumps(without_infinities(document), indent=2, allow_nan=False)]


def _metrics(text: str) -> frozenset[str]:
    return frozenset(metric_name(name.strip()) for name in text.split(","))
