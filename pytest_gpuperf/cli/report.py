"""``gpuperf report``: stored records as a page, a comment, tables, or a file for other programs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.cli.device_comparison import compare_devices, text_lines
from pytest_gpuperf.cli.judging import differing_verdicts, judge_together, rule_for
from pytest_gpuperf.cli.screen import screen_width
from pytest_gpuperf.cli.shared_options import add_prices, add_store, chosen_prices, existing_store, open_store
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord, newest_invocation
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import Comparison, Price, Record, ReportedTest, Verdict
from pytest_gpuperf.publish.formats import FORMATS, MARKDOWN, TABLE, WITH_CHARTS, format_of, render, write
from pytest_gpuperf.publish.outcome import TestOutcome
from pytest_gpuperf.publish.reported import reported_of
from pytest_gpuperf.report.markdown.device_comparison import device_comparison_comment
from pytest_gpuperf.report.wrapping import wrapped
from pytest_gpuperf.safe_text import printable
from pytest_gpuperf.store import Store
from pytest_gpuperf.store.provenance import utc_now

#: The store knows that a test failed, but not why.
_UNKNOWN_FAILURE = "for a reason other than its figures; see pytest's output"
_ID = re.compile(r"[0-9a-f]{4,32}")


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Report every test of the newest invocation in a store, with its baseline. With several records or stores, for "
        "example of several GPU models, each has a section of the report."
    )
    add = parser.add_argument
    text = "id of a record or an invocation, or its beginning; or another store (default: the newest invocation in "
    add("sources", nargs="*", metavar="RECORD_OR_STORE", help=f"{text}--store)")
    add("--format", choices=FORMATS, help=f"form of the report (default: by the ending of --output, else {TABLE})")
    add("--output", metavar="FILE", help="write the report to FILE instead of printing it")
    add("--title", default="", metavar="TEXT", help="text beside the verdict")
    add("--test", default="", metavar="TEXT", help="only tests whose id contains TEXT")
    add("--invocation", action="store_true", help="report all tests of a record's invocation")
    text = "Markdown: name of this comment, if a pull request gets several"
    add("--marker", default="", metavar="NAME", help=text)
    text = "report every test on all GPU models of the store side by side, as tables or Markdown"
    add("--by", choices=("gpu",), help=text)
    add_prices(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    name = options.format
    if name is None and options.output:
        try:
            name = format_of(options.output)
        except ValueError as error:
            raise GpuperfError(f"--output {options.output}: {error}, or choose a format with --format.") from error
    name = name or TABLE
    if options.by:
        return _report_by_gpu(options, name)
    prices = chosen_prices(options)
    selections = list(_selections(options))
    charts = name in WITH_CHARTS
    tests = [test for selection in selections for test in _reported(selection, options.test, prices, charts=charts)]
    if not tests:
        raise GpuperfError(f"No record has a test whose id contains {options.test!r}.\nSee: gpuperf baseline list")
    text = render(name, tests, title=options.title, generated_utc=utc_now(), marker=options.marker)
    if name == TABLE and not options.output:
        text = "\n".join([*wrapped(text.splitlines(), screen_width()), ""])
    _write(text, options.output)
    return max([selection.reader.print_unreadable() for selection in selections])


def _write(text: str, output: str | None) -> None:
    if output:
        write(Path(output), text)
        print(output, file=sys.stderr)
    else:
        print(text, end="")


def _report_by_gpu(options: argparse.Namespace, name: str) -> int:
    if name not in (TABLE, MARKDOWN):
        raise GpuperfError(f"--by gpu writes tables and Markdown, not {name}; for JSON: gpuperf compare --across gpu")
    if len(options.sources) > 1:
        raise GpuperfError(
            "--by gpu takes one store: bring records together with gpuperf baseline export and import first."
        )
    if options.sources and not _is_store(options.sources[0]):
        raise GpuperfError(f"--by gpu takes a store: {options.sources[0]} is not a store.")
    reader = RecordReader(existing_store(options.sources[0]) if options.sources else open_store(options), options.test)
    comparisons = compare_devices(reader, chosen_prices(options))
    if name == MARKDOWN:
        report = device_comparison_comment(comparisons, title=options.title, marker=options.marker)
    else:
        report = "\n".join(text_lines(comparisons)) + "\n"
    _write(report, options.output)
    return reader.print_unreadable()


def _is_store(source: str) -> bool:
    return "://" in source or Path(source).is_dir()


@dataclass(frozen=True)
class _Selection:
    """The records that one argument names, and all records of their invocation."""

    reader: RecordReader
    records: list[StoredRecord]
    invocation: list[StoredRecord]


def _selections(options: argparse.Namespace) -> Iterable[_Selection]:
    """Yield the records that each argument names.

    Raises:
        GpuperfError: There is no such record or store, or the store is empty.
    """
    if not options.sources:
        yield _newest(open_store(options), options.test)
    for source in options.sources:
        if _is_store(source):
            yield _newest(existing_store(source), options.test)
        elif _ID.fullmatch(source):
            reader = RecordReader(open_store(options))
            yield _by_id(reader, source, all_tests=options.invocation)
        else:
            raise GpuperfError(f"{source} is neither a record's id nor a store.\nSee: gpuperf baseline list")


def _newest(store: Store, test: str) -> _Selection:
    reader = RecordReader(store)
    records = newest_invocation(reader, test)
    if not records:
        reader.fail(f"No record to report in {store.url}.\nMeasure with: pytest --gpuperf")
    return _Selection(reader, records, records)


def _by_id(reader: RecordReader, prefix: str, *, all_tests: bool) -> _Selection:
    """Return the record, or the records of the invocation, whose id begins with ``prefix``."""
    store = reader.store
    files = [
        (folder, file) for folder in store.folders() for file in store.newest(folder) if file.id.startswith(prefix)
    ]
    if len(files) > 1:
        raise GpuperfError(
            f"{len(files)} records in {store.url} have an id that begins with {prefix}: write more digits."
        )
    if files:
        folder, file = files[0]
        stored = StoredRecord(folder, file, store.read(file))
        invocation = reader.invocation(stored.record.invocation, stored) if stored.record.invocation else [stored]
        return _Selection(reader, invocation if all_tests else [stored], invocation)
    records = reader.invocation(prefix)
    if not records:
        raise GpuperfError(
            f"There is no record or invocation {prefix} in {store.url}.\nSee: gpuperf baseline list{store.option}"
        )
    return _Selection(reader, records, records)


def _reported(selection: _Selection, test: str, prices: Sequence[Price], *, charts: bool) -> Iterable[ReportedTest]:
    """Yield the tests whose id contains ``test``, compared with their baselines as the gate does."""
    reader, store = selection.reader, selection.reader.store
    chosen = sorted(
        (stored for stored in selection.records if test in stored.record.test), key=lambda stored: stored.record.test
    )
    judged = judge_together(
        store,
        [stored for stored in chosen if stored.record.status == "complete"],
        selection.invocation,
        lambda record: rule_for(record, tests=len(selection.records), store=store),
    )
    if line := differing_verdicts(judged):
        print(printable(f"gpuperf: {line}"), file=sys.stderr)
    by_id = {each.record.id: each for each in judged}
    for stored in chosen:
        record = stored.record
        baseline: tuple[Record, ...] = ()
        comparison = Comparison(Verdict.NO_BASELINE)
        if each := by_id.get(record.id):
            comparison, baseline = each.comparison, (*each.baseline.records, *each.baseline.pinned)
            known = {error.where for error in reader.unreadable}
            reader.unreadable += [error for error in each.baseline.unreadable if error.where not in known]
        failed_otherwise = record.gate == "failed" and comparison.verdict is not Verdict.REGRESSED
        outcome = TestOutcome(
            record,
            comparison,
            baseline,
            store.describe(stored.file.path),
            store.option,
            _UNKNOWN_FAILURE if failed_otherwise else "",
        )
        yield reported_of(store, outcome, prices=prices, charts=charts)
