"""Which stored records a new one is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import Plain, PlainMapping, Record
from pytest_gpuperf.store.key import difference
from pytest_gpuperf.store.layout import RecordFile
from pytest_gpuperf.store.store import Store

#: Records in the rolling window: enough for their own spread to outweigh the prior, few enough to follow the machine.
WINDOW = 20
#: Files of one key that are opened at most in search of them: more than there are when damaged ones are among them.
MOST_OPENED = 3 * WINDOW
#: The same for the search of a record that is *not* comparable, which only explains.
MOST_NEAR = 40

BOTH, ROLLING, PINNED, RECORD, COMMIT = "both", "rolling", "pinned", "record", "commit"
_ID = re.compile(r"[0-9a-f]{4,32}")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class BaselineSpec:
    """What a new record is to be compared with.

    Attributes:
        kind: ``both`` (the rolling window, and what is pinned beside it), ``rolling``, ``pinned``, ``record``,
            ``commit``.
        value: of ``record`` the id or its beginning, of ``commit`` the hash.
    """

    kind: str = BOTH
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> BaselineSpec:
        """What people write: ``both``, ``rolling``, ``pinned``, a record's id, or ``commit:1a2b3c4``.

        Raises:
            ValueError: it is nothing of these; says what to write.
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


@dataclass(frozen=True)
class Baseline:
    """The baseline of one key.

    Attributes:
        records: newest first.
        unreadable: files that should have been considered and can't be read.
        differing: when there is no record of this key but of the same test: the newest one's key fields that differ,
            as name to (there, here). Where a record or a commit was asked for, only that one's.
        pinned: compared with as well, so that slow creep is not absorbed; the one pinned last first.
    """

    records: tuple[Record, ...] = ()
    unreadable: tuple[UnreadableRecord, ...] = ()
    differing: dict[str, tuple[Plain, Plain]] | None = field(default=None)
    pinned: tuple[Record, ...] = ()


class RecordReader:
    """Reads entries, and keeps those that can't be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.opened = 0
        self.unreadable: list[UnreadableRecord] = []

    def __call__(self, entry: RecordFile) -> Record | None:
        self.opened += 1
        try:
            return self._store.read(entry)
        except UnreadableRecord as error:
            self.unreadable.append(error)
            return None

    @property
    def damaged(self) -> list[UnreadableRecord]:
        """Those that are there. A pinned one whose file is gone has no more to say: what is left is unpinning it."""
        return [one for one in self.unreadable if not isinstance(one.__cause__, FileNotFoundError)]


def select_baseline(
    store: Store, key: PlainMapping, choice: BaselineSpec | None = None, *, before: RecordFile | None = None
) -> Baseline:
    """The records of this key that a new one is compared with.

    The rolling window has the newest that passed their own gate or were accepted by hand. A record accepted by hand
    starts it anew: it says that the level before it no longer holds. What is pinned stays.

    At most ``MOST_OPENED`` files are read, and those that are pinned.

    Args:
        choice: what to compare with; ``BaselineSpec()``, which is both, when None.
        before: take only what is older than this record.

    Raises:
        UnreadableRecord: there are records of this key that could be the baseline, but none that can be read.
        StoreError: the store can't be listed, or the record that was asked for is not there.
    """
    chosen, folder, reader = choice or BaselineSpec(), store.folder(key), RecordReader(store)
    records: list[Record] = []
    pinned: list[Record] = []
    if chosen.kind in (RECORD, COMMIT):
        records = _asked_for(store, folder, chosen, reader, before)
    if chosen.kind in (BOTH, ROLLING):
        records = _rolling(store, folder, reader, before)
    if chosen.kind in (BOTH, PINNED):
        found = (reader(entry) for entry in store.pinned(folder) if before is None or entry.name != before.name)
        pinned = [record for record in found if record is not None]
    if chosen.kind == PINNED:
        records, pinned = pinned, []
    if not records and not pinned:
        if reader.damaged:
            raise reader.damaged[0]
        differing = _nearest(store, key, chosen)
        if chosen.kind in (RECORD, COMMIT) and not differing:
            raise StoreError(_not_there(store, key, chosen))
        return Baseline(unreadable=tuple(reader.unreadable), differing=differing)
    return Baseline(tuple(records), tuple(reader.unreadable), pinned=tuple(pinned))


def duet_history(store: Store, key: PlainMapping, *, before: RecordFile | None = None) -> Baseline:
    """The newest duets of this key, for the spread between their blocks. Their verdicts don't matter for that.

    Raises:
        StoreError: the store can't be listed.
    """
    reader, records = RecordReader(store), []
    for entry in _older(store.newest(store.folder(key)), before):
        if entry.duet and (record := reader(entry)) is not None and record.status == "complete":
            records.append(record)
        if len(records) == WINDOW or reader.opened == MOST_OPENED:
            break
    return Baseline(tuple(records), tuple(reader.unreadable))


def _rolling(store: Store, folder: str, reader: RecordReader, before: RecordFile | None) -> list[Record]:
    records: list[Record] = []
    for entry in _older(store.newest(folder), before):
        if not entry.may_be_baseline:
            continue
        record = reader(entry)
        if record is not None and (entry.accepted or record.may_be_baseline):
            records.append(record)
        if entry.accepted or len(records) == WINDOW or reader.opened == MOST_OPENED:
            break
    return records


def _asked_for(
    store: Store, folder: str, choice: BaselineSpec, reader: RecordReader, before: RecordFile | None
) -> list[Record]:
    """The record of that id, or the newest of that commit."""
    entries = (entry for entry in _older(store.newest(folder), before) if _is_meant(entry, choice))
    found = list(entries if choice.kind == RECORD else islice(entries, WINDOW))
    if choice.kind == RECORD and len(found) > 1:
        raise StoreError(f"{len(found)} records of this test have an id that begins with {choice.value}.")
    records = [record for record in map(reader, found) if record is not None]
    cut = [record for record in records if record.status != "complete"]
    if cut and len(cut) == len(records):
        raise StoreError(f"Record {cut[0].id} was cut short, so it can't be a baseline. Choose another.")
    return [record for record in records if record.status == "complete"]


def _is_meant(entry: RecordFile, choice: BaselineSpec) -> bool:
    """Whether a choice can mean this record, by its name."""
    if choice.kind == RECORD:
        return not entry.duet and entry.id.startswith(choice.value)
    if choice.kind == COMMIT:
        # A name has eight digits of the commit.
        return not entry.duet and entry.commit.startswith(choice.value[:8])
    return True


def _older(entries: Iterator[RecordFile], before: RecordFile | None) -> Iterator[RecordFile]:
    return (entry for entry in entries if before is None or entry.name < before.name)


def _not_there(store: Store, key: PlainMapping, choice: BaselineSpec) -> str:
    what = f"of commit {choice.value}" if choice.kind == COMMIT else choice.value
    return (
        f"There is no record {what} of {key.get('test')} on {key.get('device')} in {store.url}.\n"
        "See them with: gpuperf baseline list"
    )


def _nearest(store: Store, key: PlainMapping, choice: BaselineSpec) -> dict[str, tuple[Plain, Plain]] | None:
    """The key fields in which the newest other record of the test differs, on this device if there is one there.

    Of the record or the commit that was asked for, if one was: that others differ does not explain why it is missing.
    """
    for folders in (store.folders(key), store.elsewhere(key)):
        meant = ((entry for entry in store.newest(folder) if _is_meant(entry, choice)) for folder in folders)
        heads = [entry for entries in meant for entry in islice(entries, 1)]
        heads.sort(key=lambda entry: entry.name, reverse=True)
        for entry in heads[:MOST_NEAR]:
            try:
                record = store.read(entry)
            except UnreadableRecord:
                continue  # it belongs to another key, whose own gate names it
            differing = difference(record.key, key)
            if differing:
                return differing
    return None
