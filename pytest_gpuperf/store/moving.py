"""Moves of baselines: the records of a test that was renamed or moved get the key of its new id.

Nothing is rewritten. Each record is stored again under the new key, with the notes about it, and the old files
are pruned, with a note that says where they went. So a move reaches git branches and other stores as records and
prunings do, and one that was interrupted can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pytest_gpuperf.errors import OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.layout import ACCEPTED, PINS, RecordFile
from pytest_gpuperf.store.store import Store


@dataclass
class MoveResult:
    """Result of a move.

    Attributes:
        tests: New id of each test, by its old id.
        records: Number of records moved.
        unreadable: Records of other tests or of these that can't be read, and stay where they are.
    """

    tests: dict[str, str] = field(default_factory=dict)
    records: int = 0
    unreadable: list[UnreadableRecord] = field(default_factory=list)


def new_id(test: str, old: str, new: str) -> str:
    """Return the id of a test after a move; empty if it is not concerned.

    Args:
        old, new: Id of a test, with or without its parameters; or a path of a file or folder.
    """
    old, new = old.rstrip("/"), new.rstrip("/")
    rest = test.removeprefix(old)
    concerned = test.startswith(old) and (not rest or rest.startswith(("::", "[", "/")))
    return f"{new}{rest}" if concerned else ""


def move(store: Store, old: str, new: str, reason: str = "", author: str = "") -> MoveResult:
    """Give the records of tests to their new ids.

    Args:
        old, new: See ``new_id``.
        author: Who decided it; the user of this process when empty.

    Raises:
        OptionError: The two ids are equal or empty.
        StoreError: There is no such test, or the store can't be read or written.
    """
    if not old.rstrip("/") or not new.rstrip("/") or old.rstrip("/") == new.rstrip("/"):
        raise OptionError("Name the old id of the test and the new one, for example: a.py::test_a b.py::test_a")
    result = MoveResult()
    for folder in list(store.folders()):
        records: list[tuple[RecordFile, Record]] = []
        unreadable: list[UnreadableRecord] = []
        for file in store.newest(folder):
            try:
                record = store.read_as_written(file)
            except UnreadableRecord as error:
                unreadable.append(error)
                continue
            if not new_id(record.test, old, new):
                break  # all records of a key belong to one test
            records.append((file, record))
        else:
            result.unreadable += unreadable
        if records:
            test = records[0][1].test
            result.tests[test] = new_id(test, old, new)
            result.records += len(records)
            _move_key(store, folder, records, result.tests[test], (reason, author))
    if not result.tests:
        raise StoreError(
            f"There is no record of {old} in {store.place}.\nList the tests with: gpuperf baseline list{store.option}"
        )
    return result


def _move_key(
    store: Store, folder: str, records: list[tuple[RecordFile, Record]], test: str, why: tuple[str, str]
) -> None:
    """Move the records of one key: first everything is copied, then the old files are pruned."""
    target = ""
    for file, record in records:
        node_id = test if "::" in test else record.node_id
        origin = record.moved_from or record.test
        copy = replace(record, test=test, key={**record.key, "test": test}, node_id=node_id, moved_from=origin)
        target = store.folder(copy.key)
        path = store.write(copy)
        if file.accepted:
            store.files.put(path + ACCEPTED, _content(store, file.path + ACCEPTED))
        if file.judgement:
            note = path + file.judgement.removeprefix(file.path)
            store.files.put(note, _content(store, file.judgement))
    names = {file.name for file, _ in records}
    # A pin that an interrupted move has revoked here is in force there already.
    in_force = [pin for pin in layout.pins_in_force(store.files.names(f"{folder}/{PINS}")) if pin[1] in names]
    pins = [layout.pin_name(name, stem, pinned=True) for stem, name in in_force]
    for name in pins:
        store.files.put(f"{target}/{PINS}/{name}", _content(store, f"{folder}/{PINS}/{name}"))
    reason, author = why
    explanation = f"moved to {test}" + (f": {reason}" if reason else "")
    for pinned in dict.fromkeys(layout.pinned_files(pins)):
        store.unpin(layout.parse_path(pinned).id, explanation, author, folder=folder)
    store.delete(folder, [file for file, _ in records], explanation, author)


def _content(store: Store, path: str) -> bytes:
    try:
        return store.files.read(path)
    except OSError as error:
        raise StoreError(f"{store.describe(path)} can't be read: {error}") from error
