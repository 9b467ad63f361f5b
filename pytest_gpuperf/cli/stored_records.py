"""What the commands on stored records share: choosing the store, and reading records from it."""

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
#: Device of imported records whose files don't name one.
UNKNOWN = "unknown"


def kind_of_device(name: str) -> str:
    """Return the kind of an imported record's device (``Record.device_kind``), from the name that it was given."""
    if name == UNKNOWN:
        return "unknown"
    return "cpu" if name.startswith("CPU ") else "gpu"


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the store."""
    parser.add_argument(
        "--store",
        metavar="URL",
        help="directory or fsspec URL (default: .gpuperf in this directory or one above)",
    )


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose records by test and key."""
    parser.add_argument("--test", default="", metavar="TEXT", help="only tests whose id contains TEXT")
    parser.add_argument("--key", default="", metavar="DIGEST", help="only keys whose digest begins with DIGEST")


def store_url(options: argparse.Namespace, *, create: bool = False) -> str:
    """Return the store named by ``--store``, else the one in the working directory or above it.

    Args:
        create: Return the default store where there is none yet.

    Raises:
        GpuperfError: There is no store.
    """
    if options.store:
        return str(options.store)
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / DEFAULT_STORE).is_dir():
            return str(directory / DEFAULT_STORE)
    if create:
        return DEFAULT_STORE
    raise GpuperfError(
        f"There is no {DEFAULT_STORE} in {here} or above it.\n"
        "Run `pytest --gpuperf` first, or name the store with --store."
    )


@dataclass(frozen=True)
class StoredRecord:
    """A record and the file it was read from."""

    folder: str
    file: RecordFile
    record: Record

    @property
    def digest(self) -> str:
        """Digest of the record's key, which is also the folder's name."""
        return self.folder.rpartition("/")[2]


class RecordReader:
    """Reads records of a store and remembers the files that can't be read.

    Args:
        test: Text that the test's id contains.
        key: Beginning of the key's digest.
    """

    def __init__(self, store: Store, test: str = "", key: str = "") -> None:
        self.store, self._test, self._key = store, test, key
        self.unreadable: list[UnreadableRecord] = []

    def folders(self) -> Iterator[str]:
        """Return the folders of the chosen keys."""
        return (folder for folder in self.store.folders() if folder.rpartition("/")[2].startswith(self._key))

    def in_folder(self, folder: str, newest: int | None = None) -> list[StoredRecord]:
        """Return the records of a key, newest first; only the first ``newest`` files are read."""
        return list(self._read(folder, islice(self.store.newest(folder), newest)))

    def complete_by_key(self, newest: int) -> list[list[StoredRecord]]:
        """Return the newest complete records of each key, without duets."""
        by_key = []
        for folder in self.folders():
            files = (file for file in self.store.newest(folder) if not file.duet)
            complete = (stored for stored in self._read(folder, files) if stored.record.status == "complete")
            if records := list(islice(complete, newest)):
                by_key.append(records)
        return by_key

    def _read(self, folder: str, files: Iterable[RecordFile]) -> Iterator[StoredRecord]:
        for file in files:
            try:
                record = self.store.read(file)
            except UnreadableRecord as error:
                self.unreadable.append(error)
                continue
            if self._test not in record.test:
                break  # all records of a key belong to one test
            yield StoredRecord(folder, file, record)

    def all(self, newest: int | None = None) -> list[StoredRecord]:
        """Return the records of all keys, newest first; of each key only the first ``newest``."""
        records = [stored for folder in self.folders() for stored in self.in_folder(folder, newest)]
        return sorted(records, key=lambda stored: stored.record.created_utc, reverse=True)

    def invocation(self, prefix: str, member: StoredRecord | None = None) -> list[StoredRecord]:
        """Return the records of an invocation.

        Args:
            prefix: Beginning of the invocation's id.
            member: A record of it. Only files of the same commit, from the same day or one beside it, are read then.
        """
        records = []
        for folder in self.folders():
            for file in self.store.newest(folder):
                if member is not None and (
                    file.commit != member.file.commit or not _is_near(file.day, member.file.day)
                ):
                    continue
                try:
                    record = self.store.read(file)
                except UnreadableRecord as error:
                    self.unreadable.append(error)
                    continue
                if record.invocation.startswith(prefix):
                    records.append(StoredRecord(folder, file, record))
        return records

    def print_unreadable(self) -> int:
        """Print the files that can't be read; return the exit status: 1 if there are any, else 0."""
        for error in self.unreadable:
            print(f"gpuperf: unreadable: {error}", file=sys.stderr)
        return 1 if self.unreadable else 0


def newest_invocation(reader: RecordReader, test: str = "") -> list[StoredRecord]:
    """Return the newest record of each test that the newest invocation, or import, measured.

    Args:
        test: Choose the newest invocation that measured a test whose id contains this, if there is one. All tests of
            that invocation are returned.
    """
    newest = [stored for folder in reader.folders() for stored in reader.in_folder(folder, 1)]
    newest.sort(key=lambda stored: stored.file.name)
    matching = [stored for stored in newest if test in stored.record.test] or newest
    invocation = matching[-1].record.invocation if matching else ""
    # A test that was measured under several keys counts once, by its newest record.
    return list({stored.record.test: stored for stored in newest if stored.record.invocation == invocation}.values())


def _is_near(day: str, reference: str) -> bool:
    return abs(date.fromisoformat(day) - date.fromisoformat(reference)) <= timedelta(days=1)


def state_of(stored: StoredRecord) -> str:
    """Return whether a record passed, and what else matters for the baseline, in a few words."""
    record, file = stored.record, stored.file
    gate = "cut short" if record.status != "complete" else record.gate
    marks = [word for word, applies in (("duet", file.duet), ("pinned", file.pinned)) if applies]
    return ", ".join(["accepted" if file.accepted else gate, *marks])


def minute_text(utc: str) -> str:
    """Return a stored time as tables print it, to the minute."""
    return utc[:16].replace("T", " ")


def mapping_text(mapping: Mapping[str, object]) -> str:
    """Return a mapping as one line."""
    return ", ".join(f"{name}={value}" for name, value in mapping.items())
