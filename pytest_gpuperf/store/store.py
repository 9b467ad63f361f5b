"""Reading and writing the record files of a store (``layout`` says how they lie).

Nothing is ever rewritten: accepting, pinning and unpinning a record are further small files. So two runners never
conflict, a git branch merges, and a bucket needs no lock.
"""

from __future__ import annotations

import getpass
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import SCHEMA, PlainMapping, Record
from pytest_gpuperf.model.codec import from_builtins, to_builtins
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.files import Files
from pytest_gpuperf.store.key import canonical
from pytest_gpuperf.store.layout import ACCEPTED, PINS, PRUNED, RecordFile
from pytest_gpuperf.store.record_file import REMEDY, document, parse

#: Pinned records of one key that every gate reads, beside the rolling window. Two stores that were brought together
#: may have more: what is pinned is never deleted, but gates read those pinned last.
MOST_PINNED = 5
NoteType = TypeVar("NoteType")


@dataclass(frozen=True)
class Acceptance:
    """Who took a record into the baseline by hand, and why."""

    record: str
    author: str
    reason: str
    accepted_utc: str


@dataclass(frozen=True)
class Pin:
    """Who pinned a record, or unpinned it, and why."""

    record: str
    pinned: bool
    author: str
    reason: str
    at_utc: str


@dataclass(frozen=True)
class Pruning:
    """Who deleted which records of a key, and by which rule."""

    records: tuple[str, ...]
    author: str
    reason: str
    at_utc: str


class Store:
    """Records under one URL; see ``Files`` for which it may be, and what is raised."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files = Files(url)

    def describe(self, path: str) -> str:
        """The path as people type it: relative to the working directory where it lies below it."""
        return self.files.describe(path)

    def folder(self, key: PlainMapping) -> str:
        """Where the records of a key are."""
        return f"{self.files.root}/{layout.key_folder(key)}"

    def path(self, record: Record) -> str:
        """Where a record is, or will be."""
        name = layout.file_name(record)
        return f"{self.folder(record.key)}/{layout.day_of(name)}/{name}"

    def write(self, record: Record) -> str:
        """Store a record; its path.

        Raises:
            StoreError: it can't be written.
        """
        path = self.path(record)
        self._put(path, document(record))
        return path

    def check_writable(self) -> None:
        """Write an empty file and delete it again.

        Raises:
            StoreError: The store can't be written.
        """
        path = f"{self.files.root}/.write-check"
        self.files.put(path, b"")
        with suppress(StoreError):  # a bucket may take files and never give one up
            self.files.delete(path)

    # Listing

    def newest(self, folder: str) -> Iterator[RecordFile]:
        """The records in a key's folder, newest first, unread. Days are listed only when they are reached.

        Raises:
            StoreError: the store can't be listed.
        """
        names = self.files.names(folder)
        pinned = set(self._pinned_files(folder)) if PINS in names else set()
        for day in sorted(filter(layout.is_day, names), reverse=True):
            files = set(self.files.names(f"{folder}/{day}"))
            for name in sorted(filter(layout.is_record, files), reverse=True):
                path = f"{folder}/{day}/{name}"
                yield layout.entry_of(path, accepted=name + ACCEPTED in files, pinned=name in pinned)

    def entries(self, folder: str) -> list[RecordFile]:
        """All records in a key's folder, newest first, unread.

        Raises:
            StoreError: the store can't be listed.
        """
        return list(self.newest(folder))

    def pinned(self, folder: str) -> list[RecordFile]:
        """The pinned records of a key that gates read, the one pinned last first, unread. Their files may be gone.

        Raises:
            StoreError: the store can't be listed.
        """
        names = self._pinned_files(folder)[:MOST_PINNED]
        return [layout.entry_of(f"{folder}/{layout.day_of(name)}/{name}", pinned=True) for name in names]

    def _pinned_files(self, folder: str) -> list[str]:
        return layout.pinned_files(self.files.names(f"{folder}/{PINS}"))

    def folders(self, key: PlainMapping | None = None) -> Iterator[str]:
        """The folders of all keys; with a key, of those that its test has on its device.

        Raises:
            StoreError: the store can't be listed.
        """
        root = self.files.root
        for device in [layout.device_folder(key)] if key else sorted(self.files.names(root)):
            for test in [layout.test_folder(key)] if key else sorted(self.files.names(f"{root}/{device}")):
                digests = sorted(filter(layout.is_key, self.files.names(f"{root}/{device}/{test}")))
                yield from (f"{root}/{device}/{test}/{digest}" for digest in digests)

    def paths(self) -> Iterator[str]:
        """Yield the records of all keys and the notes about them, as paths inside the store.

        Raises:
            StoreError: the store can't be listed.
        """
        for folder in self.folders():
            for subfolder in self.files.names(folder):
                if layout.is_day(subfolder) or subfolder in (PINS, PRUNED):
                    names = filter(layout.is_json, self.files.names(f"{folder}/{subfolder}"))
                    below = f"{folder.removeprefix(self.files.root + '/')}/{subfolder}"
                    yield from (f"{below}/{name}" for name in names)

    def elsewhere(self, key: PlainMapping) -> Iterator[str]:
        """The folders of the keys that a key's test has on other devices.

        Raises:
            StoreError: the store can't be listed.
        """
        root, test = self.files.root, layout.test_folder(key)
        for device in sorted(self.files.names(root)):
            if device != layout.device_folder(key):
                folder = f"{root}/{device}/{test}"
                yield from (f"{folder}/{digest}" for digest in self.files.names(folder) if layout.is_key(digest))

    def find(self, record: str) -> RecordFile:
        """The record with this id, or whose id begins so.

        Raises:
            StoreError: there is none, or more than one.
        """
        found = [entry for folder in self.folders() for entry in self.newest(folder) if entry.id.startswith(record)]
        if len(found) != 1:
            what = "no record" if not found else f"{len(found)} records"
            raise StoreError(
                f"There is {what} with the id {record} in {self.url}.\nSee them with: gpuperf baseline list"
            )
        return found[0]

    # Reading

    def read(self, entry: RecordFile) -> Record:
        """Read and check a record.

        Raises:
            UnreadableRecord: the file is damaged, tampered with, or newer than this version.
        """
        where = self.describe(entry.path)
        try:
            content = self.files.read(entry.path)
        except OSError as error:
            gone = entry.pinned and isinstance(error, FileNotFoundError)
            remedy = f"Restore the file, or do without it: gpuperf baseline unpin {entry.id}" if gone else REMEDY
            raise UnreadableRecord(where, f"can't be read: {error}", remedy) from error
        return parse(content, where)

    def acceptance(self, entry: RecordFile) -> Acceptance | None:
        """Who accepted a record; None when nobody did, or nobody can tell any more."""
        return self._note(entry.path + ACCEPTED, "acceptance", Acceptance) if entry.accepted else None

    def pin_of(self, entry: RecordFile) -> Pin | None:
        """Who pinned a record; None when it isn't pinned, or nobody can tell any more."""
        if not entry.pinned:
            return None
        folder = self.folder(self.read(entry).key)
        mine = [name for name in self.files.names(f"{folder}/{PINS}") if name.endswith(f"-pin-{entry.name}")]
        return self._note(f"{folder}/{PINS}/{max(mine)}", "pin", Pin) if mine else None

    def prunings(self, folder: str) -> list[Pruning]:
        """What was deleted from a key, oldest first."""
        place = f"{folder}/{PRUNED}"
        found = (self._note(f"{place}/{name}", "pruning", Pruning) for name in sorted(self.files.names(place)))
        return [one for one in found if one is not None]

    def _note(self, path: str, what: str, kind: type[NoteType]) -> NoteType | None:
        """A small file. It only explains, so a damaged one is as good as none."""
        try:
            return from_builtins(kind, json.loads(self.files.read(path))[what], what)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    # Small files

    def accept(self, entry: RecordFile, reason: str, author: str = "") -> Acceptance:
        """Take a record into the baseline by hand. The baseline begins anew with it.

        Args:
            author: who; the user of this process when it is empty.

        Raises:
            UnreadableRecord: the record can't be read.
            StoreError: it was cut short, is a duet's or is accepted already, or the store can't be written.
        """
        record = self._usable(entry)
        if before := self.acceptance(entry):
            raise StoreError(
                f"Record {record.id} is accepted already, by {before.author} at {before.accepted_utc}: "
                f"{before.reason}\nThe baseline begins with it, so there is nothing more to do."
            )
        acceptance = Acceptance(record.id, author or user(), reason, utc_now())
        self._put(entry.path + ACCEPTED, {"gpuperf": SCHEMA, "acceptance": to_builtins(acceptance)})
        return acceptance

    def pin(self, entry: RecordFile, reason: str, author: str = "") -> Pin:
        """Compare every later record with this one as well, however old it gets, until it is unpinned.

        Raises:
            UnreadableRecord: the record can't be read.
            StoreError: it was cut short or is a duet's, too many are pinned, or the store can't be written.
        """
        record = self._usable(entry)
        folder = self.folder(record.key)
        pinned = self._pinned_files(folder)
        if len(pinned) >= MOST_PINNED and entry.name not in pinned:
            raise StoreError(
                f"{len(pinned)} records of this key are pinned already, and every gate reads {MOST_PINNED}. Unpin one "
                f"first: gpuperf baseline unpin {layout.entry_of(pinned[-1]).id}"
            )
        return self._put_pin(folder, entry.name, Pin(record.id, True, author or user(), reason, utc_now()))

    def unpin(self, record: str, reason: str = "", author: str = "") -> Pin:
        """Let a pinned record age like the others. Its file isn't opened: it may be damaged, or gone.

        Args:
            record: its id, or the beginning of it.

        Raises:
            StoreError: none with that id is pinned, or more than one, or the store can't be written.
        """
        found = [
            (folder, name, one)
            for folder in self.folders()
            for name in self._pinned_files(folder)
            if (one := layout.entry_of(name).id).startswith(record)
        ]
        if len(found) != 1:
            what = f"Record {record} isn't pinned" if not found else f"{len(found)} records {record}... are pinned"
            raise StoreError(f"{what} in {self.url}.\nSee what is with: gpuperf baseline list")
        folder, name, whole_id = found[0]
        return self._put_pin(folder, name, Pin(whole_id, False, author or user(), reason, utc_now()))

    def _put_pin(self, folder: str, record_file: str, pin: Pin) -> Pin:
        name = layout.pin_name(record_file, layout.note_name(_microseconds(), uuid.uuid4().hex[:6]), pinned=pin.pinned)
        self._put(f"{folder}/{PINS}/{name}", {"gpuperf": SCHEMA, "pin": to_builtins(pin)})
        return pin

    def _usable(self, entry: RecordFile) -> Record:
        """A record that can be compared with.

        Raises:
            UnreadableRecord: it can't be read.
            StoreError: it was cut short, or is a duet's.
        """
        record = self.read(entry)
        if record.status != "complete":
            raise StoreError(f"Record {record.id} was cut short, so it can't be a baseline. Measure again.")
        if layout.is_duet(record):
            raise StoreError(
                f"Record {record.id} is a duet's: it was compared with its own reference, and is no baseline for "
                "others. Measure with pytest --gpuperf, and take that record."
            )
        return record

    def delete(self, folder: str, entries: Sequence[RecordFile], reason: str, author: str = "") -> Pruning:
        """Delete records of one key, and note that.

        Raises:
            StoreError: one can't be deleted; the note tells the others.
        """
        gone: list[str] = []
        try:
            for entry in entries:
                self.files.delete(entry.path)
                if entry.accepted:
                    self.files.delete(entry.path + ACCEPTED)
                gone.append(entry.id)
        finally:
            pruning = Pruning(tuple(gone), author or user(), reason, utc_now())
            if gone:
                name = layout.note_name(_microseconds(), uuid.uuid4().hex[:6])
                self._put(f"{folder}/{PRUNED}/{name}", {"gpuperf": SCHEMA, "pruning": to_builtins(pruning)})
        for parent in {entry.path.rpartition("/")[0] for entry in entries}:
            self.files.remove_if_empty(parent)
        return pruning

    def _put(self, path: str, data: Any) -> None:
        self.files.put(path, canonical(data).encode())


def user() -> str:
    """Who is at work: on CI whoever started the job, else the user of this process."""
    for variable in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if os.environ.get(variable):
            return os.environ[variable]
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def utc_now() -> str:
    """The time as every record writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _microseconds() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
