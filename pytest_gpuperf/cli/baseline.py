"""``gpuperf baseline``: stored records, and which of them are the baseline."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

from pytest_gpuperf.cli.screen import screen_width
from pytest_gpuperf.cli.shared_options import add_filters, add_newest, add_store, integer, open_store
from pytest_gpuperf.cli.stored_records import RecordReader, StoredRecord
from pytest_gpuperf.errors import OptionError, UnreadableRecord
from pytest_gpuperf.model import curve_of
from pytest_gpuperf.report.figures import fact, minute, plural
from pytest_gpuperf.report.summary import curve_table
from pytest_gpuperf.report.table import Table
from pytest_gpuperf.report.wrapping import wrapped
from pytest_gpuperf.store import (
    ALL_NOTES,
    DEFAULT_BRANCH,
    NOTE_KINDS,
    Synced,
    export_records,
    import_records,
    key_digest,
    move,
    prunable,
    pull,
    push,
)

_AGE = re.compile(r"(\d+)\s*(d|w|m|y)?")
#: Longest fact that `gpuperf baseline show` prints in full.
_MAX_FACT = 200
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365, None: 1}


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions."""
    parser.description = "List, accept, pin, move, delete and copy stored records."
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_store(action)
        action.set_defaults(run=run)
        return action

    listing = add("list", _list, "list records, newest first")
    add_filters(listing)
    add_newest(listing)
    show = add("show", _show, "show a record: its figures, key, environment and notes")
    accept = add("accept", _accept, "start a new baseline of a test with a record, even if the test failed")
    pin = add("pin", _pin, "also compare all later records with this record, however old it gets")
    unpin = add("unpin", _unpin, "stop comparing later records with a pinned record")
    prune = add("prune", _prune, "delete old records; without --yes, only list them")
    moving = add("move", _move, "give the records of a renamed or moved test, file or folder to its new id")
    moving.add_argument("old", metavar="OLD", help="id of the test, of all its parameters, or of its file or folder")
    moving.add_argument(
        "new", metavar="NEW", help="the same in the code as it is now, or the name in the test's marker"
    )
    for action in (show, pin, unpin):
        action.add_argument("record", help="id of the record, or its beginning")
    text = "ids of the records, or their beginnings"
    accept.add_argument("records", nargs="+", metavar="record", help=text)
    for action in (accept, pin, unpin, prune, moving):
        required = action in (accept, pin)
        action.add_argument("--reason", required=required, default="", help="why; stored with your name")
    for action in (accept, pin, unpin, moving):
        text = "who decided it (default: you, as git or the CI system knows you)"
        action.add_argument("--author", default="", metavar="NAME", help=text)
    add_filters(prune)
    prune.add_argument("--keep", type=integer(), metavar="N", help="keep the newest N records of each key")
    prune.add_argument("--older-than", type=_age, metavar="AGE", help="delete records older than 90d, 12w, 6m or 1y")
    prune.add_argument("--yes", action="store_true", help="delete the records")
    export = add("export", _export, "copy records into a tar file, a directory or a bucket")
    export.add_argument("destination", help="file that ends in .tar, .tar.gz or .tgz; directory; or fsspec URL")
    add_filters(export)
    importing = add("import", _import, "copy exported records, or another store, into the store; may be repeated")
    importing.add_argument("source", help="tar file, directory or fsspec URL")
    text = "only the record with this id, or whose id begins so; may be repeated"
    importing.add_argument("--record", action="append", default=[], metavar="ID", help=text)
    text = (
        f"also copy notes of these kinds ({', '.join(NOTE_KINDS)}, or all, with commas between them); notes can accept "
        "a regression (default: records alone)"
    )
    importing.add_argument("--notes", type=_note_kinds, default=frozenset(), metavar="KINDS", help=text)
    importing.add_argument("--if-any", action="store_true", help="succeed if the source is empty or doesn't exist yet")
    to_branch = add("push", _push, "add the store's records to a branch of a git remote")
    from_branch = add("pull", _pull, "copy the records on a branch of a git remote into the store")
    for action in (to_branch, from_branch):
        branch = f"branch of the records (default: {DEFAULT_BRANCH})"
        action.add_argument("--branch", default=DEFAULT_BRANCH, metavar="NAME", help=branch)
        remote = "name or URL of the remote (default: origin)"
        action.add_argument("--remote", default="origin", metavar="NAME", help=remote)


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


def _list(options: argparse.Namespace) -> int:
    reader = RecordReader(open_store(options), options.test, options.key)
    records = reader.all(options.last)
    titles = ("record", "UTC", "commit", "gate", "key", "device", "test")
    if records:
        print("\n".join(Table(titles, tuple(map(_row, records))).as_text(width=screen_width())))
    elif not reader.unreadable:
        print(f"No records in {reader.store.place}.")
    for folder in dict.fromkeys(stored.folder for stored in records):
        for pruning in reader.store.prunings(folder):
            reason = f": {pruning.reason}" if pruning.reason else ""
            print(
                f"{folder.rpartition('/')[2]}: {plural(len(pruning.records), 'record')} deleted on "
                f"{minute(pruning.at_utc)} by {pruning.author}{reason}"
            )
    return reader.print_unreadable()


def _row(stored: StoredRecord) -> tuple[str, ...]:
    record, file = stored.record, stored.file
    gate = "cut short" if record.status != "complete" else _gate(stored)
    applying = (("duet", file.duet), ("pinned", file.pinned), ("dated in the future", file.future))
    marks = [word for word, applies in applying if applies]
    return (
        record.id,
        minute(record.created_utc),
        record.commit[:8],
        ", ".join(["accepted" if file.accepted else gate, *marks]),
        stored.digest,
        str(record.key.get("device", "?")),
        record.test,
    )


def _gate(stored: StoredRecord) -> str:
    """Return what the gate decided, in words."""
    gate = stored.record.gate
    if gate == "suspect" and not stored.file.accepted:
        return "suspect, joined" if stored.file.cleared else "suspect, waits"
    return "no baseline" if gate == "open" else gate


def _show(options: argparse.Namespace) -> int:
    store = open_store(options)
    file = store.find(options.record)
    record = store.read(file)
    gate = _gate(StoredRecord("", file, record))
    print(f"{record.test}\n  record {record.id} of {record.created_utc}, {record.status}, gate: {gate}")
    print(f"  {store.describe(file.path)}")
    if file.judgement:
        print("  judged again at the end of its invocation")
    if file.waits:
        print("  it joins the baseline after a later record that is unchanged or improved, or with")
        print(f'    gpuperf baseline accept {record.id}{store.option} --reason "..."')
    if record.moved_from:
        print(f"  measured as {record.moved_from}, before the test was moved")
    if acceptance := store.acceptance(file):
        print(f"  accepted by {acceptance.author} on {minute(acceptance.accepted_utc)}: {acceptance.reason}")
    if pin := store.pin_of(file):
        print(f"  pinned by {pin.author} on {minute(pin.at_utc)}: {pin.reason}")
    mappings = {f"key {key_digest(record.key)}": record.key, "environment": record.environment}
    mappings |= record.under_test_by_side
    for title, mapping in mappings.items():
        facts = ", ".join(f"{name}={fact(value, _MAX_FACT)}" for name, value in mapping.items())
        print("\n".join(wrapped([f"  {title}: {facts}"], screen_width())))
    sides = (("", record.runs), (" (reference)", record.reference))
    for name in dict.fromkeys(run.sweep for run in record.runs):
        for side, side_runs in sides:
            runs = [run for run in side_runs if run.sweep == name]
            if not runs:
                continue
            points = list(dict.fromkeys(window.point for run in runs for window in run.windows))
            points.sort(key=lambda point: (point.batch_size, point.concurrency, point.rate))
            print("\n".join([f"  {name}{side}", *curve_table(curve_of(name, points, runs), ()).as_text("    ")]))
    return 0


def _accept(options: argparse.Namespace) -> int:
    store = open_store(options)
    files = list({file.path: file for file in map(store.find, options.records)}.values())
    for file in files:  # all or none of them
        store.check_acceptable(file)
    for file in files:
        acceptance = store.accept(file, options.reason, options.author)
        print(
            f"{acceptance.record} is the new baseline of its test, accepted by {acceptance.author}: {acceptance.reason}"
        )
        for pinned in store.pinned(store.folder(store.read(file).key)):
            if pinned.name != file.name:
                print(
                    f"{pinned.id} stays pinned, so later records are compared with it too. If its level no longer "
                    f"holds: gpuperf baseline unpin {pinned.id}{store.option}"
                )
    return 0


def _move(options: argparse.Namespace) -> int:
    store = open_store(options)
    result = move(store, options.old, options.new, options.reason, options.author)
    for old, new in result.tests.items():
        print(f"{old} is now {new}")
    print(f"Moved {plural(result.records, 'record')} of {plural(len(result.tests), 'test')}.")
    for error in result.unreadable:
        print(f"gpuperf: not moved: {error}", file=sys.stderr)
    return 1 if result.unreadable else 0


def _pin(options: argparse.Namespace) -> int:
    store = open_store(options)
    pin = store.pin(store.find(options.record), options.reason, options.author)
    print(f"{pin.record} is pinned by {pin.author}: {pin.reason}")
    return 0


def _unpin(options: argparse.Namespace) -> int:
    store = open_store(options)
    pin = store.unpin(options.record, options.reason, options.author)
    print(f"{pin.record} is no longer pinned")
    return 0


def _prune(options: argparse.Namespace) -> int:
    if options.keep is None and options.older_than is None:
        raise OptionError(
            "Say which records to delete: all but the newest of each key (--keep N), --older-than 90d, or both."
        )
    reader = RecordReader(open_store(options), options.test, options.key)
    store, rule = reader.store, _rule(options)
    total = keys = 0
    for folder in reader.folders():
        files = list(store.newest(folder))
        if options.test and not reader.in_folder(folder, 1):
            continue
        old = prunable(files, keep=options.keep, older_than=options.older_than)
        if not old:
            continue
        total, keys = total + len(old), keys + 1
        verb = "deleted" if options.yes else "would delete"
        print(f"{store.describe(folder)}: {verb} {len(old)} of {len(files)}, {old[-1].day} to {old[0].day}")
        if options.yes:
            store.delete(folder, old, options.reason or rule)
    count = f"{plural(total, 'record')} of {plural(keys, 'key')}"
    if not total:
        print(f"Nothing to delete in {store.place} ({rule}).")
    elif options.yes:
        print(f"Deleted {count}.")
    else:
        print(f"Nothing was deleted. Write --yes to delete {count}.")
    return reader.print_unreadable()


def _rule(options: argparse.Namespace) -> str:
    keep = [f"keep {options.keep}"] if options.keep is not None else []
    age = [f"older than {options.older_than}"] if options.older_than is not None else []
    return ", ".join(keep + age)


def _export(options: argparse.Namespace) -> int:
    reader = RecordReader(open_store(options), options.test, options.key)
    result = export_records(
        reader.store, [(stored.folder, stored.file) for stored in reader.all()], options.destination
    )
    known = f" ({result.known} were already there)" if result.known else ""
    print(f"Exported {plural(result.records, 'record')} to {options.destination}{known}.")
    reader.unreadable.extend(result.unreadable)
    return reader.print_unreadable()


def _import(options: argparse.Namespace) -> int:
    store = open_store(options, create=True)
    result = import_records(
        store, options.source, records=options.record, notes=options.notes, may_be_empty=options.if_any
    )
    known = f"; {result.known} were already there" if result.known else ""
    notes = f" and {plural(len(result.notes), 'note')}" if result.notes else ""
    print(f"Imported {plural(result.records, 'record')}{notes} into {store.place}{known}.")
    for note in result.notes:
        print(f"  {note}")
    if result.joining:
        print(f"Of these, {plural(result.joining, 'record')} passed the gate elsewhere, and may join a baseline here.")
    if result.notes_left:
        print("Left out, because notes can accept a regression. If you trust their author, repeat with --notes KINDS:")
        for note in result.notes_left:
            print(f"  {note}")
    return _print_left_out(result.left_out)


def _note_kinds(text: str) -> frozenset[str]:
    kinds = frozenset(kind.strip() for kind in text.split(","))
    if kinds == {"all"}:
        return ALL_NOTES
    if unknown := sorted(kinds - ALL_NOTES):
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r}: write all, or one or more of {', '.join(NOTE_KINDS)}, with commas between them"
        )
    return kinds


def _push(options: argparse.Namespace) -> int:
    store = open_store(options)
    result = push(store, Path.cwd(), options.branch, options.remote)
    created = ", a new branch" if result.branch_missing else ""
    attempts = f" in {result.attempts} attempts, because others pushed too" if result.attempts > 1 else ""
    if result.attempts:
        print(f"Pushed {_written(result)} to {options.branch}{created}{attempts}{_unchanged(result)}.")
    else:
        print(f"{options.branch} already has all records of {store.place}.")
    return _print_left_out(result.unreadable)


def _pull(options: argparse.Namespace) -> int:
    store = open_store(options, create=True)
    result = pull(store, Path.cwd(), options.branch, options.remote)
    if result.branch_missing:
        print(f"Nothing to pull: there is no branch {options.branch} yet. `gpuperf baseline push` creates it.")
        return 0
    print(f"Pulled {_written(result)} from {options.branch} into {store.place}{_unchanged(result)}.")
    return _print_left_out(result.unreadable)


def _written(result: Synced) -> str:
    notes = f" and {plural(result.notes, 'note')}" if result.notes else ""
    return f"{plural(result.records, 'record')}{notes}"


def _unchanged(result: Synced) -> str:
    known = f"; {result.known} were already there" if result.known else ""
    deleted = f"; deleted {plural(result.deleted, 'record')}, pruned on the other side" if result.deleted else ""
    return known + deleted


def _print_left_out(errors: Sequence[UnreadableRecord]) -> int:
    for error in errors:
        print(f"gpuperf: left out: {error}", file=sys.stderr)
    return 1 if errors else 0
