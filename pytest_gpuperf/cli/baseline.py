"""``gpuperf baseline``: the stored records, and which of them others are compared with."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli import baseline_branch
from pytest_gpuperf.cli.stored_records import (
    RecordReader,
    StoredRecord,
    add_filters,
    add_store,
    begun_store_url,
    facts,
    moment,
    state_of,
    store_url,
)
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.report.figures import plural

if TYPE_CHECKING:
    from pytest_gpuperf.store import RecordFile, Store

_AGE = re.compile(r"(\d+)\s*(d|w|m|y)?")
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365, None: 1}


def register(commands: Any) -> None:
    """Add the subcommand with its actions."""
    baseline = commands.add_parser("baseline", help="stored records", description="Stored records and the baseline.")
    actions = baseline.add_subparsers(title="actions", required=True, metavar="ACTION")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text.capitalize()}.")
        add_store(action)
        action.set_defaults(run=run)
        return action

    listing = add("list", _list, "records, newest first")
    add_filters(listing)
    listing.add_argument("--last", type=_positive, metavar="N", help="only the newest N of each key")
    _record(add("show", _show, "one record's numbers, and what was said about it"))
    for name, run, text in (
        ("accept", _accept, "make a record the new baseline, though its gate failed"),
        ("pin", _pin, "compare every later record with this one as well, however old it gets"),
    ):
        action = add(name, run, text)
        _record(action)
        action.add_argument("--reason", required=True, help="why; recorded with your name")
        action.add_argument("--author", default="", metavar="NAME", help="who decided it (default: you)")
    unpin = add("unpin", _unpin, "let a pinned record age like the others")
    _record(unpin)
    unpin.add_argument("--reason", default="", help="why; recorded with your name")
    unpin.add_argument("--author", default="", metavar="NAME", help="who decided it (default: you)")
    prune = add("prune", _prune, "delete old records; without --yes it only says which")
    add_filters(prune)
    prune.add_argument("--keep", type=_positive, metavar="N", help="keep the newest N of each key")
    prune.add_argument("--older-than", type=_age, metavar="AGE", help="delete what is older: 90d, 12w, 6m, 1y")
    prune.add_argument("--reason", default="", help="recorded with your name")
    prune.add_argument("--yes", action="store_true", help="delete them")
    export = add("export", _export, "copy records into a tar, a directory or a bucket")
    export.add_argument("destination", help="a file that ends in .tar, .tar.gz or .tgz, a directory, or an fsspec URL")
    add_filters(export)
    importing = add("import", _import, "take over what was exported, or another store; may be repeated")
    importing.add_argument("source", help="a tar, a directory or an fsspec URL")
    importing.add_argument("--if-any", action="store_true", help="an empty source is no error, as before the first run")
    baseline_branch.register(add)


def _record(action: argparse.ArgumentParser) -> None:
    action.add_argument("record", help="its id, or the beginning of it")


def _positive(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number of 1 or more")
    return number


def _age(text: str) -> date:
    match = _AGE.fullmatch(text.strip().lower())
    if not match:
        raise argparse.ArgumentTypeError(
            f"{text!r}: write days, weeks, months or years, for example 90d, 12w, 6m or 1y"
        )
    try:
        return datetime.now(timezone.utc).date() - timedelta(days=int(match[1]) * _DAYS[match[2]])
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r}: nothing is that old") from None


def _store(options: argparse.Namespace) -> Store:
    from pytest_gpuperf.store import Store

    return Store(store_url(options))


def _list(options: argparse.Namespace) -> int:
    from pytest_gpuperf.report.table import Table

    records = RecordReader(_store(options), options.test, options.key)
    found = records.all(options.last)
    titles = ("record", "UTC", "commit", "gate", "key", "device", "test")
    rows = [_row(stored) for stored in found]
    if rows:
        print("\n".join(Table(titles, tuple(rows)).as_text()))
    elif not records.unreadable:
        print(f"No records in {records.store.url}.")
    for folder in dict.fromkeys(stored.folder for stored in found):
        for pruning in records.store.prunings(folder):
            reason = f": {pruning.reason}" if pruning.reason else ""
            print(
                f"{folder.rpartition('/')[2]}: {plural(len(pruning.records), 'record')} deleted on "
                f"{moment(pruning.at_utc)} by {pruning.author}{reason}"
            )
    return records.complain()


def _row(stored: StoredRecord) -> tuple[str, ...]:
    record = stored.record
    return (
        record.id,
        moment(record.created_utc),
        record.commit[:8],
        state_of(stored),
        stored.digest,
        str(record.key.get("device", "?")),
        record.test,
    )


def _show(options: argparse.Namespace) -> int:
    from pytest_gpuperf.model import curve_of
    from pytest_gpuperf.report.summary import curve_table
    from pytest_gpuperf.store import key_digest

    store = _store(options)
    entry = store.find(options.record)
    record = store.read(entry)
    print(f"{record.test}\n  record {record.id} of {record.created_utc}, {record.status}, gate {record.gate}")
    print(f"  {store.describe(entry.path)}")
    if acceptance := store.acceptance(entry):
        print(f"  accepted by {acceptance.author} on {moment(acceptance.accepted_utc)}: {acceptance.reason}")
    if pin := store.pin_of(entry):
        print(f"  pinned by {pin.author} on {moment(pin.at_utc)}: {pin.reason}")
    shown = ((f"key {key_digest(record.key)}", record.key), ("environment", record.environment))
    for title, mapping in (*shown, *record.under_test.items()):
        print(f"  {title}: {facts(mapping)}")
    sides = (("", record.runs), (" (reference)", record.reference))
    for name in dict.fromkeys(run.sweep for run in record.runs):
        for side, of_side in sides:
            runs = [run for run in of_side if run.sweep == name]
            if not runs:
                continue
            points = list(dict.fromkeys(window.point for run in runs for window in run.windows))
            points.sort(key=lambda point: (point.batch_size, point.concurrency, point.rate))
            print("\n".join([f"  {name}{side}", *curve_table(curve_of(name, points, runs), ()).as_text("    ")]))
    return 0


def _accept(options: argparse.Namespace) -> int:
    store = _store(options)
    entry = store.find(options.record)
    acceptance = store.accept(entry, options.reason, options.author)
    print(f"{acceptance.record} is the new baseline of its test, accepted by {acceptance.author}: {acceptance.reason}")
    for other in _pinned_beside(store, entry):
        print(
            f"{other.id} stays pinned: later records are compared with it as well. If its level no longer holds: "
            f"gpuperf baseline unpin {other.id}{_store_option(options)}"
        )
    return 0


def _pinned_beside(store: Store, entry: RecordFile) -> list[RecordFile]:
    folder = store.folder(store.read(entry).key)
    return [other for other in store.pinned(folder) if other.name != entry.name]


def _store_option(options: argparse.Namespace) -> str:
    from pytest_gpuperf.report.commands import store_option

    return store_option(options.store) if options.store else ""


def _pin(options: argparse.Namespace) -> int:
    store = _store(options)
    pin = store.pin(store.find(options.record), options.reason, options.author)
    print(f"{pin.record} is pinned by {pin.author}: {pin.reason}")
    return 0


def _unpin(options: argparse.Namespace) -> int:
    store = _store(options)
    pin = store.unpin(options.record, options.reason, options.author)
    print(f"{pin.record} is no longer pinned")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import prunable

    if options.keep is None and options.older_than is None:
        raise OptionError("Say what may go: --keep N (the newest of each key stay), --older-than 90d, or both.")
    records = RecordReader(_store(options), options.test, options.key)
    store, rule = records.store, _rule(options)
    total = keys = 0
    for folder in records.folders():
        entries = store.entries(folder)
        if options.test and not records.of(folder, 1):
            continue
        gone = prunable(entries, keep=options.keep, older_than=options.older_than)
        if not gone:
            continue
        total, keys = total + len(gone), keys + 1
        verb = "deleted" if options.yes else "would delete"
        print(f"{store.describe(folder)}: {verb} {len(gone)} of {len(entries)}, {gone[-1].day} to {gone[0].day}")
        if options.yes:
            store.delete(folder, gone, options.reason or rule)
    whole = f"{plural(total, 'record')} of {plural(keys, 'key')}"
    if not total:
        print(f"Nothing to delete in {store.url} ({rule}).")
    elif options.yes:
        print(f"Deleted {whole}.")
    else:
        print(f"Nothing was deleted. Write --yes to delete {whole}.")
    return records.complain()


def _rule(options: argparse.Namespace) -> str:
    keep = [f"keep {options.keep}"] if options.keep is not None else []
    age = [f"older than {options.older_than}"] if options.older_than is not None else []
    return ", ".join(keep + age)


def _export(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import export_records

    records = RecordReader(_store(options), options.test, options.key)
    found = [(stored.folder, stored.entry) for stored in records.all()]
    moved = export_records(records.store, found, options.destination)
    known = f" ({moved.known} were there already)" if moved.known else ""
    print(f"Exported {plural(moved.records, 'record')} to {options.destination}{known}.")
    records.unreadable.extend(moved.unreadable)
    return records.complain()


def _import(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import Store, import_records

    store = Store(begun_store_url(options))
    moved = import_records(store, options.source, if_any=options.if_any)
    known = f"; {moved.known} were there already" if moved.known else ""
    notes = f" and {plural(moved.notes, 'note')} (acceptances, pins, calibrations)" if moved.notes else ""
    print(f"Imported {plural(moved.records, 'record')}{notes} into {store.url}{known}.")
    return 0
