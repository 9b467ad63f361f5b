"""``gpuperf compare``: the newest record of each test against its baseline."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli import device_comparison
from pytest_gpuperf.cli.option_types import share, share_or_nan
from pytest_gpuperf.cli.prices import add_prices
from pytest_gpuperf.cli.stored_records import (
    RecordReader,
    StoredRecord,
    add_filters,
    add_store,
    minute_text,
    newest_invocation,
    store_url,
)
from pytest_gpuperf.errors import GpuperfError

if TYPE_CHECKING:
    from pytest_gpuperf.cli.judging import JudgedRecord
    from pytest_gpuperf.report.table import Table

REGRESSED = 1


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "compare",
        help="compare the newest record of each test with its baseline",
        description="Compare the newest record of each test with its baseline: all tests of the last "
        "pytest --gpuperf, sweep or import. Exit status 1: a test regressed, or its newest record can't be read.",
    )
    parser.add_argument("record", nargs="?", help="id of another record, or its beginning")
    add_filters(parser)
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table", help="(default: table)")
    parser.add_argument(
        "--baseline", metavar="SPEC", help="both, rolling, pinned, a record's id, or commit:SHA (default: both)"
    )
    for name, kind in (("alpha", _alpha), ("min-effect", share)):
        text = f"as --gpuperf-{name} (default: as the record was judged)"
        parser.add_argument(f"--{name}", type=kind, metavar="SHARE", help=text)
    parser.add_argument(
        "--equivalence",
        type=share,
        metavar="SHARE",
        help="a change within it counts as unchanged (default: 5%%, or the minimum effect if that is larger)",
    )
    parser.add_argument(
        "--metrics", type=_metrics, metavar="NAMES", help="metrics that gate (default: as the record was judged)"
    )
    parser.add_argument("--all", action="store_true", help="also show unchanged load points")
    parser.add_argument(
        "--require-baseline", action="store_true", help="exit with status 1 too if a test has nothing to compare with"
    )
    parser.add_argument(
        "--across", choices=("gpu",), help="compare each test's newest records on different GPU models instead"
    )
    parser.add_argument(
        "--base", default="", metavar="GPU", help="with --across: GPU model that the others are compared with"
    )
    add_prices(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    if options.across:
        return device_comparison.run(options)
    from pytest_gpuperf.cli.judging import ABSENT
    from pytest_gpuperf.model import Verdict
    from pytest_gpuperf.store import Store

    reader = RecordReader(Store(store_url(options)), key=options.key)
    records = _judge(options, reader)
    verdicts = [judged.comparison.verdict for judged in records]
    lines = {"table": _table, "markdown": _markdown, "json": _json}[options.format]
    print("\n".join(lines(records, options.all)))
    failing = [Verdict.REGRESSED, *(ABSENT if options.require_baseline else ())]
    result = REGRESSED if any(verdict in failing for verdict in verdicts) else 0
    return max(result, reader.print_unreadable())


def _judge(options: argparse.Namespace, reader: RecordReader) -> list[JudgedRecord]:
    from pytest_gpuperf.cli.judging import judge, rule_for
    from pytest_gpuperf.store import BaselineSpec

    try:
        spec = BaselineSpec.parse(options.baseline) if options.baseline else None
    except ValueError as error:
        raise GpuperfError(f"--baseline {options.baseline}: {error}") from error
    if options.record:
        file = reader.store.find(options.record)
        invocation = [StoredRecord("", file, reader.store.read(file))]
    else:
        invocation = newest_invocation(reader, options.test)
    wanted = [stored for stored in invocation if options.test in stored.record.test]
    if not wanted:
        reader.print_unreadable()
        what = f" of a test whose id contains {options.test!r}" if options.test else ""
        raise GpuperfError(f"No record{what} to compare in {reader.store.url}.\nSee: gpuperf baseline list")
    for stored in wanted:
        if stored.record.status != "complete":
            raise GpuperfError(
                f"Record {stored.record.id} of {stored.record.test} was cut short, so it can't be compared."
            )
    # Alpha is split over all tests of the invocation, not only over the chosen ones.
    return [
        judge(
            reader.store,
            stored.record,
            rule_for(
                stored.record,
                tests=len(invocation),
                equivalence=options.equivalence,
                alpha=options.alpha,
                min_effect=options.min_effect,
                metrics=options.metrics,
                store=reader.store,
            ),
            spec=spec,
            before=stored.file,
        )
        for stored in sorted(wanted, key=lambda stored: stored.record.test)
    ]


def _heading(judged: JudgedRecord) -> str:
    from pytest_gpuperf.report.summary import headline

    record = judged.record
    commit = f", commit {record.commit[:8]}" if record.commit else ""
    return f"record {record.id} of {minute_text(record.created_utc)} UTC{commit}: {headline(record, judged.comparison)}"


def _counts(judged: JudgedRecord) -> str:
    from pytest_gpuperf.report.comparison_table import tally

    return tally(str(row.verdict) for row in judged.comparison.rows)


def _cells(judged: JudgedRecord, all_rows: bool) -> Table:
    """The rows to show, changed and undecided ones first."""
    from pytest_gpuperf.report.comparison_table import changed_or_undecided, row_table, worst_first

    rows = worst_first(judged.comparison.rows) if all_rows else changed_or_undecided(judged.comparison.rows)
    duet = judged.comparison.mode == "duet"
    columns = ("verdict", "sweep and point", "metric", "before", "now", "change", "p", "detectable", "against")
    return row_table(rows, columns, duet=duet)


def _notes(judged: JudgedRecord) -> list[str]:
    from pytest_gpuperf.report.notes import comparison_notes

    comparison = judged.comparison
    lines = [note.strip() for note in comparison_notes(comparison)]
    lines += [
        f"changed: {change.where}: {change.name} {change.before} -> {change.after}" for change in comparison.changes
    ]
    lines += [f"unreadable, left out of the baseline: {error.where}" for error in judged.baseline.unreadable]
    return lines


def _table(records: Sequence[JudgedRecord], all_rows: bool) -> list[str]:
    lines = []
    for judged in records:
        lines += [judged.record.test, f"  {_heading(judged)}"]
        table = _cells(judged, all_rows)
        if table.rows:
            lines += table.as_text("  ")
        if judged.comparison.rows:
            lines.append(f"  {_counts(judged)}")
        lines += [f"  {note}" for note in _notes(judged)]
    return lines


def _markdown(records: Sequence[JudgedRecord], all_rows: bool) -> list[str]:
    from pytest_gpuperf.report import escape

    lines = []
    for judged in records:
        lines += [
            f"### {escape.code(judged.record.test)}",
            "",
            f"**{judged.comparison.verdict}**: {escape.text(_heading(judged))}",
            "",
        ]
        table = _cells(judged, all_rows)
        if table.rows:
            lines += [*table.as_markdown(), ""]
        if judged.comparison.rows:
            lines += [_counts(judged), ""]
        notes = [f"* {escape.text(note)}" for note in _notes(judged)]
        lines += [*notes, ""] if notes else []
    return lines[:-1]


def _json(records: Sequence[JudgedRecord], _all_rows: bool) -> list[str]:
    from pytest_gpuperf.model import worst
    from pytest_gpuperf.report.exchange.report_json import comparison_document, without_infinities

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


def _alpha(text: str) -> float:
    alpha = share_or_nan(text)
    if not 0 < alpha <= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r}: write a share above 0 and up to 50%, for example 5% or 0.05")
    return alpha


def _metrics(text: str) -> frozenset[str]:
    from pytest_gpuperf.analysis.values import METRICS

    names = [name.strip() for name in text.split(",")]
    if any(name not in METRICS for name in names):
        raise argparse.ArgumentTypeError(
            f"{text!r}: write one or more of {', '.join(METRICS)}, with commas between them"
        )
    return frozenset(names)
