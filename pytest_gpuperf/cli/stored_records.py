"""What the commands share that work on stored records: which store, and which of its records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpuperf.errors import GpuperfError, UnreadableRecord

if TYPE_CHECKING:
    from pytest_gpuperf.model import Record
    from pytest_gpuperf.store import RecordFile, Store

DEFAULT_STORE = ".gpuperf"
#: The device of imported records that don't say theirs.
UNKNOWN = "unknown"


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the store."""
    parser.add_argument("--store", metavar="URL", help="a directory or an fsspec URL (default: .gpuperf here or above)")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose records by their test and key."""
    parser.add_argument("--test", default="", metavar="TEXT", help="only tests whose id contains this")
    parser.add_argument("--key", default="", metavar="DIGEST", help="only the key whose digest begins so")


def store_url(options: argparse.Namespace) -> str:
    """The store that was named, else the one here or above.

    Raises:
        GpuperfError: there is none.
    """
    if options.store:
        return str(options.store)
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / DEFAULT_STORE).is_dir():
            return str(directory / DEFAULT_STORE)
    raise GpuperfError(
        f"There is no {DEFAULT_STORE} in {here} or above it.\n"
        "Run `pytest --gpuperf` first, or name the store with --store."
    )


def begun_store_url(options: argparse.Namespace) -> str:
    """The same for what may begin a store: one here where there is none above."""
    try:
        return store_url(options)
    except GpuperfError:
        return DEFAULT_STORE


@dataclass(frozen=True)
class StoredRecord:
    """One record that was read, and where it lies."""

    folder: str
    entry: RecordFile
    record: Record

    @property
    def digest(self) -> str:
        """Of the key, as the folder's name has it."""
        return self.folder.rpartition("/")[2]


class RecordReader:
    """Reads records of a store, and remembers which files can't be read.

    Args:
        test: only tests whose id contains this.
        key: only keys whose digest begins so.
    """

    def __init__(self, store: Store, test: str = "", key: str = "") -> None:
        self.store, self._test, self._key = store, test, key
        self.unreadable: list[UnreadableRecord] = []

    def folders(self) -> Iterator[str]:
        """The folders of the keys that are asked for."""
        return (one for one in self.store.folders() if one.rpartition("/")[2].startswith(self._key))

    def of(self, folder: str, newest: int | None = None) -> list[StoredRecord]:
        """The records of a key, newest first."""
        return list(self._read(folder, islice(self.store.newest(folder), newest)))

    def whole(self, newest: int) -> list[list[StoredRecord]]:
        """Of every key its newest records that tell what the device does by itself: complete, and no duets."""
        found = []
        for folder in self.folders():
            alone = (entry for entry in self.store.newest(folder) if not entry.duet)
            complete = (one for one in self._read(folder, alone) if one.record.status == "complete")
            records = list(islice(complete, newest))
            found += [records] if records else []
        return found

    def _read(self, folder: str, entries: Iterable[RecordFile]) -> Iterator[StoredRecord]:
        for entry in entries:
            try:
                record = self.store.read(entry)
            except UnreadableRecord as error:
                self.unreadable.append(error)
                continue
            if self._test not in record.test:
                break  # all records of a key are of one test
            yield StoredRecord(folder, entry, record)

    def all(self, newest: int | None = None) -> list[StoredRecord]:
        """The records of all keys, newest first.

        Args:
            newest: at most so many of each key.
        """
        found = [stored for folder in self.folders() for stored in self.of(folder, newest)]
        return sorted(found, key=lambda stored: stored.record.created_utc, reverse=True)

    def invocation(self, begin: str, like: StoredRecord | None = None) -> list[StoredRecord]:
        """The records of one pytest, by the beginning of its id.

        Args:
            like: one of them; the others have its commit, and are looked for on its day and the days beside it.
        """
        found = []
        for folder in self.folders():
            for entry in self.store.newest(folder):
                if like is not None and (entry.commit != like.entry.commit or not _near(entry.day, like.entry.day)):
                    continue
                try:
                    record = self.store.read(entry)
                except UnreadableRecord as error:
                    self.unreadable.append(error)
                    continue
                if record.invocation.startswith(begin):
                    found.append(StoredRecord(folder, entry, record))
        return found

    def complain(self) -> int:
        """Name what can't be read; the exit status that it asks for."""
        for problem in self.unreadable:
            print(f"gpuperf: unreadable: {problem}", file=sys.stderr)
        return 1 if self.unreadable else 0


def newest_invocation(records: RecordReader, test: str = "") -> list[StoredRecord]:
    """What the newest pytest, or the last import, measured.

    Args:
        test: the newest one that measured a test whose id contains this, if one did; still with all of its tests.
    """
    heads = [one for folder in records.folders() for one in records.of(folder, 1)]
    heads.sort(key=lambda one: one.entry.name)
    asked = [one.record.invocation for one in heads if test in one.record.test]
    newest = asked or [one.record.invocation for one in heads]
    # A test that has several keys there counts once, as it was measured last.
    return list({one.record.test: one for one in heads if one.record.invocation == newest[-1]}.values())


def _near(day: str, other: str) -> bool:
    return abs(date.fromisoformat(day) - date.fromisoformat(other)) <= timedelta(days=1)


def state_of(stored: StoredRecord) -> str:
    """What became of a record, in a word or two."""
    record, entry = stored.record, stored.entry
    gate = "cut short" if record.status != "complete" else record.gate
    marks = [word for word, is_so in (("duet", entry.duet), ("pinned", entry.pinned)) if is_so]
    return ", ".join(["accepted" if entry.accepted else gate, *marks])


def moment(utc: str) -> str:
    """A time as tables show it."""
    return utc[:16].replace("T", " ")


def facts(mapping: Mapping[str, object]) -> str:
    """A mapping in one line."""
    return ", ".join(f"{name}={value}" for name, value in mapping.items())
