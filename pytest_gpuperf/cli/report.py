"""``gpuperf report``: stored records as a page, a comment, a table, or a file for other programs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli.cost import add_prices, chosen_prices
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord, add_store, newest_invocation, store_url
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.publish.formats import FORMATS, MARKDOWN, TABLE

if TYPE_CHECKING:
    from pytest_gpuperf.model import Price, Record, ReportedTest

#: The store has only that it failed.
_OTHERWISE = "for another reason than its figures; pytest's output has it"
_ID = re.compile(r"[0-9a-f]{4,32}")


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "report",
        help="stored records as Markdown, HTML, JSON, CSV or tables",
        description="Report the newest pytest --gpuperf of a store: every test with its baseline. With several "
        "records or stores, for example of several GPU models, each has a section.",
    )
    parser.add_argument(
        "what",
        nargs="*",
        metavar="RECORD_OR_STORE",
        help="the id of a record or an invocation, or the beginning of one, or another store (default: the newest "
        "invocation in --store)",
    )
    parser.add_argument("--format", choices=FORMATS, help=f"(default: as --output ends, else {TABLE})")
    parser.add_argument("--output", metavar="FILE", help="write it there instead of printing it")
    parser.add_argument("--title", default="", metavar="TEXT", help="put beside the verdict")
    parser.add_argument("--test", default="", metavar="TEXT", help="only tests whose id contains this")
    parser.add_argument("--invocation", action="store_true", help="with a record: all tests of its pytest as well")
    parser.add_argument(
        "--marker", default="", metavar="NAME", help="of Markdown: tells a pull request's comments apart"
    )
    parser.add_argument(
        "--by",
        choices=("gpu",),
        help="instead, every test on all GPU models of the store side by side, as tables or Markdown",
    )
    add_prices(parser)
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command line; its exit status."""
    from pytest_gpuperf.publish.formats import WITH_CHARTS, format_of, render
    from pytest_gpuperf.store.store import utc_now

    name = options.format
    if name is None and options.output:
        try:
            name = format_of(options.output)
        except ValueError as error:
            raise GpuperfError(f"--output {options.output}: {error}, or say which with --format.") from error
    name = name or TABLE
    if options.by:
        return _side_by_side(options, name)
    prices = chosen_prices(options)
    every = list(_asked(options))
    reported = [one for asked in every for one in _reported(asked, options.test, prices, charts=name in WITH_CHARTS)]
    if not reported:
        raise GpuperfError(f"No record has a test whose id contains {options.test!r}.\nSee: gpuperf baseline list")
    text = render(name, reported, title=options.title, generated_utc=utc_now(), marker=options.marker)
    _put(text, options.output)
    return max([one.complain() for one in {id(asked.records): asked.records for asked in every}.values()])


def _put(text: str, output: str | None) -> None:
    from pytest_gpuperf.publish.formats import write

    if output:
        write(Path(output), text)
        print(output, file=sys.stderr)
    else:
        print(text, end="")


def _side_by_side(options: argparse.Namespace, name: str) -> int:
    """Of every GPU model in one store."""
    from pytest_gpuperf.cli.device_comparison import across_of, text
    from pytest_gpuperf.report.markdown.device_comparison import device_comparison_comment
    from pytest_gpuperf.store import Store

    if name not in (TABLE, MARKDOWN):
        raise GpuperfError(f"--by gpu makes tables and Markdown, no {name}; as JSON: gpuperf compare --across gpu")
    if len(options.what) > 1:
        raise GpuperfError(
            "--by gpu takes one store: bring records together with gpuperf baseline export and import first."
        )
    if options.what and not _is_store(options.what[0]):
        raise GpuperfError(f"--by gpu takes a store, and {options.what[0]} is none.")
    records = RecordReader(Store(options.what[0] if options.what else store_url(options)), options.test)
    shown = across_of(records, chosen_prices(options))
    if name == MARKDOWN:
        _put(device_comparison_comment(shown, title=options.title, marker=options.marker), options.output)
    else:
        _put("\n".join(text(shown)) + "\n", options.output)
    return records.complain()


def _is_store(what: str) -> bool:
    return "://" in what or Path(what).is_dir()


@dataclass(frozen=True)
class _Asked:
    """What one argument names.

    Attributes:
        option: what makes the command line tool look in its store; empty for the default one.
    """

    records: RecordReader
    found: list[StoredRecord]
    option: str


def _asked(options: argparse.Namespace) -> Iterable[_Asked]:
    """Everything that is to be reported.

    Raises:
        GpuperfError: there is no such record or store, or nothing in it.
    """
    from pytest_gpuperf.report.commands import store_option
    from pytest_gpuperf.store import Store

    option = store_option(options.store) if options.store else ""
    if not options.what:
        yield _newest(store_url(options), option, options.test)
        return
    own: Store | None = None
    for what in options.what:
        if _is_store(what):
            yield _newest(what, store_option(what), options.test)
        elif _ID.fullmatch(what):
            own = own or Store(store_url(options))
            records = RecordReader(own)
            yield _Asked(records, _by_id(records, what, whole=options.invocation), option)
        else:
            raise GpuperfError(f"{what} is neither a record's id nor a store.\nSee: gpuperf baseline list")


def _newest(url: str, option: str, test: str) -> _Asked:
    from pytest_gpuperf.store import Store

    records = RecordReader(Store(url))
    found = newest_invocation(records, test)
    if not found:
        records.complain()
        raise GpuperfError(f"There is no record in {url} to report.\nMeasure with: pytest --gpuperf")
    return _Asked(records, found, option)


def _by_id(records: RecordReader, what: str, *, whole: bool) -> list[StoredRecord]:
    """A record, or all of an invocation."""
    store = records.store
    entries = [
        (folder, entry) for folder in store.folders() for entry in store.newest(folder) if entry.id.startswith(what)
    ]
    if len(entries) > 1:
        raise GpuperfError(
            f"{len(entries)} records in {store.url} have an id that begins with {what}: write more of it."
        )
    if entries:
        folder, entry = entries[0]
        one = StoredRecord(folder, entry, store.read(entry))
        return records.invocation(one.record.invocation, one) if whole else [one]
    found = records.invocation(what)
    if not found:
        raise GpuperfError(f"There is no record or invocation {what} in {store.url}.\nSee: gpuperf baseline list")
    return found


def _reported(asked: _Asked, test: str, prices: Sequence[Price], *, charts: bool) -> Iterable[ReportedTest]:
    """Every test, judged as the gate judges it."""
    from pytest_gpuperf.cli.judging import judge, rule_for
    from pytest_gpuperf.model import Comparison, Verdict
    from pytest_gpuperf.publish.outcome import TestOutcome
    from pytest_gpuperf.publish.reported import reported_of

    store, tests = asked.records.store, len(asked.found)
    for one in sorted(asked.found, key=lambda one: one.record.test):
        record = one.record
        if test not in record.test:
            continue
        baseline: tuple[Record, ...] = ()
        comparison = Comparison(Verdict.NO_BASELINE)
        if record.status == "complete":
            judged = judge(store, record, rule_for(record, tests=tests, store=store), before=one.entry)
            comparison, baseline = judged.comparison, (*judged.baseline.records, *judged.baseline.pinned)
            known = {error.where for error in asked.records.unreadable}
            asked.records.unreadable += [one for one in judged.baseline.unreadable if one.where not in known]
        regressed = comparison.verdict is Verdict.REGRESSED
        error = _OTHERWISE if record.gate == "failed" and not regressed else ""
        outcome = TestOutcome(record, comparison, baseline, store.describe(one.entry.path), asked.option, error)
        yield reported_of(store, outcome, prices=prices, charts=charts)
