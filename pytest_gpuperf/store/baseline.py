"""Selection of the stored records that a new record is compared with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from pytest_gpuperf.errors import FutureDate, StoreError, UnreadableRecord
from pytest_gpuperf.model import Plain, PlainMapping, Record
from pytest_gpuperf.store.ancestors import MergeBaseRecords
from pytest_gpuperf.store.key import difference
from pytest_gpuperf.store.layout import RecordFile, cleared
from pytest_gpuperf.store.store import Store

#: Records in the rolling window: enough for their own spread to outweigh the prior, few enough to follow the machine.
WINDOW = 20
#: Most files of one key that are opened for the rolling window; more than ``WINDOW``, since some may be damaged.
MOST_OPENED = 3 * WINDOW
#: Most files that are opened in search of a record that is *not* comparable, which only explains.
MOST_NEAR = 40

BOTH, ROLLING, PINNED, RECORD, COMMIT = "both", "rolling", "pinned", "record", "commit"
_ID = re.compile(r"[0-9a-f]{4,32}")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class BaselineSpec:
    """Choice of the records that a new record is compared with.

    Attributes:
        kind: ``both`` (the rolling window and the pinned records), ``rolling``, ``pinned``, ``record`` or ``commit``.
        value: For ``record`` the id or its beginning, for ``commit`` the hash.
    """

    kind: str = BOTH
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> BaselineSpec:
        """Parse ``both``, ``rolling``, ``pinned``, the id of a record, or ``commit:1a2b3c4``.

        Raises:
            ValueError: The text is none of these; the message says what to write.
        """
        if text in (BOTH, ROLLING, PINNED):
            return cls(text)
        commit = text.removeprefix("commit:")
        if commit != text and _COMMIT.fullmatch(commit):
            return cls(COMMIT, commit)
        if _ID.fullmatch(text):
            return cls(RECORD, text)
        raise ValueError(
            "write both, rolling, pinned, the id of a record (gpuperf baseline list shows them), or commit: and seven "
            "or more digits of its hash"
        )

    def selects(self, file: RecordFile) -> bool:
        """Return whether this spec can mean a record, judged by its file name."""
        if self.kind == RECORD:
            return not file.duet and file.id.startswith(self.value)
        if self.kind == COMMIT:
            # A file name has eight digits of the commit.
            return not file.duet and file.commit.startswith(self.value[:8])
        return True


@dataclass(frozen=True)
class Baseline:
    """The baseline of one key.

    Attributes:
        records: Records of the rolling window, or those asked for; newest first.
        unreadable: Files that would have been considered but can't be read.
        differing: The key fields in which the newest other record of the test differs, as name to (there, here); only
            without a record of this key. For a spec of a record or a commit, only such records count.
        pinned: Pinned records, which are compared with as well, so that slow creep is not absorbed; the last pinned
            first.
        merge_base: Records of the main branch that the change is based on; None on the main branch.
    """

    records: tuple[Record, ...] = ()
    unreadable: tuple[UnreadableRecord, ...] = ()
    differing: dict[str, tuple[Plain, Plain]] | None = None
    pinned: tuple[Record, ...] = ()
    merge_base: MergeBaseRecords | None = None


class BaselineReader:
    """Reads records, and keeps the errors of those that can't be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.opened = 0
        self.unreadable: list[UnreadableRecord] = []

    def window(self, files: Iterator[RecordFile], usable: Callable[[RecordFile, Record], bool]) -> list[Record]:
        """Return the usable records of the rolling window, whose oldest may be one that was accepted by hand."""
        records: list[Record] = []
        for file in files:
            record = self(file)
            if record is not None and usable(file, record):
                records.append(record)
            if file.accepted or len(records) == WINDOW or self.opened == MOST_OPENED:
                break
        return records

    def __call__(self, file: RecordFile) -> Record | None:
        self.opened += 1
        try:
            return self._store.read(file)
        except UnreadableRecord as error:
            self.unreadable.append(error)
            return None

    def leave_out(self, files: Iterable[RecordFile]) -> None:
        """Add an error for each record that is dated in the future."""
        self.unreadable += [FutureDate(self._store.describe(file.path), file.day) for file in files]

    @property
    def damaged(self) -> list[UnreadableRecord]:
        """The unreadable files that exist. A pinned record whose file is missing can only be unpinned."""
        return [error for error in self.unreadable if not isinstance(error.__cause__, FileNotFoundError)]


def select_baseline(
    store: Store, key: PlainMapping, spec: BaselineSpec | None = None, *, before: RecordFile | None = None
) -> Baseline:
    """Select the records of a key that a new one is compared with.

    The rolling window has the newest records that passed their gate or were accepted by hand; a suspect record joins
    once a later one is unchanged or improved. A record accepted by hand
    begins it again: its acceptance says that the level before it no longer holds. Pinned records stay.

    At most ``MOST_OPENED`` files are read, besides the pinned ones.

    Args:
        spec: What to compare with; the rolling window and the pinned records when None.
        before: Only records older than this one count.

    Raises:
        UnreadableRecord: The key has records that could be the baseline, but none that can be read.
        StoreError: The store can't be listed, or the record that was asked for does not exist.
    """
    spec, folder, reader = spec or BaselineSpec(), store.folder(key), BaselineReader(store)
    records: list[Record] = []
    pinned: list[Record] = []
    if spec.kind in (RECORD, COMMIT):
        records = _specified(store, folder, spec, reader, before)
    if spec.kind in (BOTH, ROLLING):
        listing = store.listing(folder)
        candidates = (file for file in cleared(_older(listing, before)) if file.may_be_baseline)
        reader.leave_out(file for file in listing.ahead if file.may_be_baseline and not _is_same(file, before))
        records = reader.window(candidates, joins)
    if spec.kind in (BOTH, PINNED):
        files = (file for file in store.pinned(folder) if before is None or file.name != before.name)
        pinned = [record for record in map(reader, files) if record is not None]
    if spec.kind == PINNED:
        records, pinned = pinned, []
    if not records and not pinned:
        if reader.damaged:
            raise reader.damaged[0]
        differing = _nearest(store, key, spec)
        if spec.kind in (RECORD, COMMIT) and not differing:
            raise StoreError(_missing(store, key, spec))
        return Baseline(unreadable=tuple(reader.unreadable), differing=differing)
    return Baseline(tuple(records), tuple(reader.unreadable), pinned=tuple(pinned))


def duet_history(store: Store, key: PlainMapping, *, before: RecordFile | None = None) -> Baseline:
    """Return the newest duets of a key, whatever their verdicts, for the spread between their blocks.

    Raises:
        StoreError: The store can't be listed.
    """
    reader = BaselineReader(store)
    listing = store.listing(store.folder(key))
    duets = (file for file in _older(listing, before) if file.duet)
    reader.leave_out(file for file in listing.ahead if file.duet and not _is_same(file, before))
    records = reader.window(duets, lambda _, record: record.status == "complete")
    return Baseline(tuple(records), tuple(reader.unreadable))


def _specified(
    store: Store, folder: str, spec: BaselineSpec, reader: BaselineReader, before: RecordFile | None
) -> list[Record]:
    """Return the record with an id, or the newest records of a commit."""
    selected = filter(spec.selects, _older(store.newest(folder), before))
    files = list(selected if spec.kind == RECORD else islice(selected, WINDOW))
    if spec.kind == RECORD and len(files) > 1:
        raise StoreError(f"{len(files)} records of this test have an id that begins with {spec.value}.")
    records = [record for record in map(reader, files) if record is not None]
    complete = [record for record in records if record.status == "complete"]
    if records and not complete:
        raise StoreError(f"Record {records[0].id} was cut short, so it can't be a baseline. Choose another.")
    return complete


def _older(files: Iterable[RecordFile], before: RecordFile | None) -> Iterator[RecordFile]:
    return (file for file in files if before is None or file.order < before.order)


def joins(file: RecordFile, record: Record) -> bool:
    """Return whether a record may join the baseline, by its content and not only by its name."""
    cleared_suspect = file.cleared and record.status == "complete" and record.gate == "suspect"
    return file.accepted or record.may_be_baseline or cleared_suspect


def _is_same(file: RecordFile, before: RecordFile | None) -> bool:
    """Return whether a file is the one that is compared."""
    return before is not None and file.name == before.name


def _missing(store: Store, key: PlainMapping, spec: BaselineSpec) -> str:
    record = f"of commit {spec.value}" if spec.kind == COMMIT else spec.value
    return (
        f"There is no record {record} of {key.get('test')} on {key.get('device')} in {store.url}.\n"
        f"List them with: gpuperf baseline list{store.option}"
    )


def _nearest(store: Store, key: PlainMapping, spec: BaselineSpec) -> dict[str, tuple[Plain, Plain]] | None:
    """Return the key fields in which the newest other record of the test differs, on this device if it has one.

    For a spec of a record or a commit only such records count: other records don't explain why those are missing.
    """
    for folders in (store.folders(key), store.folders_elsewhere(key)):
        selected = (filter(spec.selects, store.newest(folder)) for folder in folders)
        heads = [file for files in selected for file in islice(files, 1)]
        heads.sort(key=lambda file: file.name, reverse=True)
        for file in heads[:MOST_NEAR]:
            try:
                differing = difference(store.read(file).key, key)
            except UnreadableRecord:
                continue  # it belongs to another key, and the gate of that key names it
            if differing:
                return differing
    return None
