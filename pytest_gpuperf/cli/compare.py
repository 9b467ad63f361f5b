"""``gpuperf compare``: what became of the newest record, beside its baseline."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli import device_comparison
from pytest_gpuperf.cli.cost import add_prices
from pytest_gpuperf.cli.stored_records import (
    RecordReader,
    StoredRecord,
    add_filters,
    add_store,
    moment,
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
        help="the newest record against its baseline",
        description="Compare the newest record with its baseline again: all tests of the last pytest --gpuperf, or "
        "the last import. The exit status is 1 if one of them regressed, or a test's newest record can't be read.",
    )
    parser.add_argument("record", nargs="?", help="the id of another record, or the beginning of it")
    add_filters(parser)
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table", help="(default: table)")
    parser.add_argument(
        "--baseline", metavar="SPEC", help="both, rolling, pinned, a record's id, or commit:SHA (default: both)"
    )
    for name, kind in (("alpha", _alpha), ("min-effect", _share)):
        text = f"instead of the test's own, as --gpuperf-{name}"
        parser.add_argument(f"--{name}", type=kind, metavar="SHARE", help=text)
    parser.add_argument(
        "--equivalence",
        type=_share,
        metavar="SHARE",
        help="changes within it are unchanged (default: 5%%, or the minimum effect where that is more)",
    )
    parser.add_argument("--metrics", type=_metrics, metavar="NAMES", help="those that gate, instead of the test's own")
    parser.add_argument("--all", action="store_true", help="show unchanged load points as well")
    parser.add_argument(
        "--require-baseline", action="store_true", help="exit with 1 where nothing can be compared, too"
    )
    parser.add_argument(
        "--across", choices=("gpu",), help="instead: each test's newest records on different GPUs, side by side"
    )
    parser.add_argument("--base", default="", metavar="GPU", help="with --across: the one to compare the others with")
    add_prices(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command line; its exit status."""
    if options.across:
        return device_comparison.run(options)
    from pytest_gpuperf.cli.judging import ABSENT
    from pytest_gpuperf.model import Verdict
    from pytest_gpuperf.store import Store

    records = RecordReader(Store(store_url(options)), key=options.key)
    judged = _judged(options, records)
    verdicts = [one.comparison.verdict for one in judged]
    show = {"table": _table, "markdown": _markdown, "json": _json}[options.format]
    print("\n".join(show(judged, options.all)))
    failing = [Verdict.REGRESSED, *(ABSENT if options.require_baseline else ())]
    result = REGRESSED if any(verdict in failing for verdict in verdicts) else 0
    return max(result, records.complain())


def _judged(options: argparse.Namespace, records: RecordReader) -> list[JudgedRecord]:
    from pytest_gpuperf.cli.judging import judge, rule_for
    from pytest_gpuperf.store import BaselineSpec

    try:
        choice = BaselineSpec.parse(options.baseline) if options.baseline else None
    except ValueError as error:
        raise GpuperfError(f"--baseline {options.baseline}: {error}") from error
    if options.record:
        entry = records.store.find(options.record)
        found = [StoredRecord("", entry, records.store.read(entry))]
    else:
        found = newest_invocation(records, options.test)
    wanted = [one for one in found if options.test in one.record.test]
    if not wanted:
        records.complain()
        what = f" of a test whose id contains {options.test!r}" if options.test else ""
        raise GpuperfError(f"There is no record{what} in {records.store.url} to compare.\nSee: gpuperf baseline list")
    cut = [one.record for one in wanted if one.record.status != "complete"]
    if cut:
        raise GpuperfError(f"Record {cut[0].id} of {cut[0].test} was cut short, so it can't be compared.")
    # Alpha is split over all tests of the record, also those that are not asked for here.
    return [
        judge(
            records.store,
            one.record,
            rule_for(
                one.record,
                tests=len(found),
                equivalence=options.equivalence,
                alpha=options.alpha,
                min_effect=options.min_effect,
                metrics=options.metrics,
                store=records.store,
            ),
            spec=choice,
            before=one.entry,
        )
        for one in sorted(wanted, key=lambda one: one.record.test)
    ]


def _heading(one: JudgedRecord) -> str:
    from pytest_gpuperf.report.summary import headline

    record = one.record
    commit = f", commit {record.commit[:8]}" if record.commit else ""
    return f"record {record.id} of {moment(record.created_utc)} UTC{commit}: {headline(record, one.comparison)}"


def _counts(one: JudgedRecord) -> str:
    from pytest_gpuperf.report.comparison_table import tally

    return tally(str(row.verdict) for row in one.comparison.rows)


def _cells(one: JudgedRecord, everything: bool) -> Table:
    """The rows that are shown: what changed or is open first."""
    from pytest_gpuperf.report.comparison_table import changed_or_undecided, row_table, worst_first

    rows = worst_first(one.comparison.rows) if everything else changed_or_undecided(one.comparison.rows)
    duet = one.comparison.mode == "duet"
    columns = ("verdict", "sweep and point", "metric", "before", "now", "change", "p", "detectable", "against")
    return row_table(rows, columns, duet=duet)


def _notes(one: JudgedRecord) -> list[str]:
    """What else there is to know."""
    from pytest_gpuperf.report.notes import comparison_notes, left_out_notes

    comparison = one.comparison
    lines = [note.strip() for note in (*comparison_notes(comparison), *left_out_notes(comparison))]
    lines += [f"changed: {one.where}: {one.name} {one.before} -> {one.after}" for one in comparison.changes]
    lines += [f"unreadable, left out of the baseline: {error.where}" for error in one.baseline.unreadable]
    return lines


def _table(judged: Sequence[JudgedRecord], everything: bool) -> list[str]:
    lines = []
    for one in judged:
        lines += [one.record.test, f"  {_heading(one)}"]
        table = _cells(one, everything)
        if table.rows:
            lines += table.as_text("  ")
        if one.comparison.rows:
            lines.append(f"  {_counts(one)}")
        lines += [f"  {note}" for note in _notes(one)]
    return lines


def _markdown(judged: Sequence[JudgedRecord], everything: bool) -> list[str]:
    from pytest_gpuperf.report import escape

    lines = []
    for one in judged:
        lines += [
            f"### {escape.code(one.record.test)}",
            "",
            f"**{one.comparison.verdict}**: {escape.text(_heading(one))}",
            "",
        ]
        table = _cells(one, everything)
        if table.rows:
            lines += [*table.as_markdown(), ""]
        if one.comparison.rows:
            lines += [_counts(one), ""]
        notes = [f"* {escape.text(note)}" for note in _notes(one)]
        lines += [*notes, ""] if notes else []
    return lines[:-1]


def _json(judged: Sequence[JudgedRecord], _everything: bool) -> list[str]:
    from pytest_gpuperf.model import worst
    from pytest_gpuperf.report.exchange.report_json import comparison_document, without_infinities

    document = {
        "verdict": str(worst([one.comparison.verdict for one in judged])),
        "comparisons": [
            {
                "test": one.record.test,
                "record": one.record.id,
                "created_utc": one.record.created_utc,
                "commit": one.record.commit,
                "key": dict(one.record.key),
                **comparison_document(one.comparison),
            }
            for one in judged
        ],
    }
    return [json.dumps(without_infinities(document), indent=2, allow_nan=False)]


def _share(text: str) -> float:
    share = _number(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a share of 0 or more and below 1, for example 2% or 0.02")
    return share


def _alpha(text: str) -> float:
    alpha = _number(text)
    if not 0 < alpha <= 0.5:
        raise argparse.ArgumentTypeError(f"{text!r}: write a share above 0 and up to 50%, for example 5% or 0.05")
    return alpha


def _number(text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return math.nan


def _metrics(text: str) -> frozenset[str]:
    from pytest_gpuperf.analysis.values import METRICS

    names = [name.strip() for name in text.split(",")]
    if any(name not in METRICS for name in names):
        raise argparse.ArgumentTypeError(
            f"{text!r}: write one or more of {', '.join(METRICS)}, with commas between them"
        )
    return frozenset(names)
