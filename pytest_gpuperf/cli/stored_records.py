"""Records that commands read from a store."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from typing import NoReturn

from pytest_gpuperf.errors import GpuperfError, UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.report.figures import minute
from pytest_gpuperf.store import RecordFile, Store


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
                stored = StoredRecord(folder, file, self.store.read(file))
            except UnreadableRecord as error:
                self.unreadable.append(error)
                continue
            if self._test not in stored.record.test:
                break  # all records of a key belong to one test
            yield stored

    def all(self, newest: int | None = None) -> list[StoredRecord]:
        """Return the records of all keys, newest first; of each key only the first ``newest``."""
        records = [stored for folder in self.folders() for stored in self.in_folder(folder, newest)]
        return sorted(records, key=lambda stored: stored.record.created_utc, reverse=True)

    def invocation(self, prefix: str, member: StoredRecord | None = None) -> list[StoredRecord]:
        """Return the records of an invocation.

        Args:
            prefix: Beginning of the invocation's id.
            member: A record of it. Only files of the same commit, from the same day or an adjacent one, are read then.
        """

        def may_belong(file: RecordFile) -> bool:
            return member is None or (file.commit == member.file.commit and _is_near(file.day, member.file.day))

        return [
            stored
            for folder in self.folders()
            for stored in self._read(folder, filter(may_belong, self.store.newest(folder)))
            if stored.record.invocation.startswith(prefix)
        ]

    def print_unreadable(self) -> int:
        """Print the files that can't be read; return the exit status: 1 if there are any, else 0."""
        for error in self.unreadable:
            print(f"gpuperf: unreadable: {error}", file=sys.stderr)
        return 1 if self.unreadable else 0

    def fail(self, message: str) -> NoReturn:
        """Print the files that can't be read, then raise an error that nothing can be done with the others.

        Raises:
            GpuperfError: Always.
        """
        self.print_unreadable()
        raise GpuperfError(message)


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


def origin_of(record: Record) -> str:
    """Return a record's id, time and commit as people read them."""
    commit = f", commit {record.commit[:8]}" if record.commit else ""
    return f"{record.id} of {minute(record.created_utc)} UTC{commit}"


def _is_near(day: str, reference: str) -> bool:
    return abs(date.fromisoformat(day) - date.fromisoformat(reference)) <= timedelta(days=1)
