"""Copies of records whose tests have not finished: what was measured outlives a kill during a test's teardown.

A record is stored when pytest has reported all phases of its test. Until then a copy lies in a hidden folder of the
store. The copy of a process that ended before is stored later, rejected: nobody knows whether its test passed.
"""

from __future__ import annotations

from dataclasses import replace
from posixpath import basename

from pytest_gpuperf.atomic_write import has_ended, writer
from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.dates import is_older
from pytest_gpuperf.store.record_format.record_file import REMEDY, parse_record, record_content
from pytest_gpuperf.store.store import Store

_FOLDER = ".unfinished"
#: No teardown takes so long, where nobody knows whether a process of another machine lives.
_ABANDONED_H = 24
#: Names of the copies of this process.
_kept: set[str] = set()


def keep_copy(store: Store, record: Record) -> str:
    """Keep a copy of a record whose test has not finished; return its path, empty if there is none.

    A store whose files can't be deleted, such as a write-once bucket, gets no copies.
    """
    rejected = replace(record, gate="failed")
    name = f"{layout.file_name(rejected).removesuffix('.json')}.{writer()}.json"
    path = f"{_folder(store)}/{name}"
    if not store.can_delete:
        return ""
    try:
        store.files.put(path, record_content(rejected))
    except StoreError:
        return ""  # writing the record itself says why
    _kept.add(name)
    return path


def drop_copy(store: Store, path: str) -> None:
    """Delete a copy, since its record is stored.

    Raises:
        StoreError: It can't be deleted.
    """
    store.files.delete(path)
    store.files.remove_if_empty(_folder(store))
    _kept.discard(basename(path))


def store_unfinished(store: Store) -> tuple[list[Record], list[str]]:
    """Store the copies of processes that have ended, as rejected records; return them, and what could not be read.

    Raises:
        StoreError: The store can't be listed, read or written.
    """
    stored, problems = [], []
    for name in sorted(filter(_is_abandoned, store.files.names(_folder(store)))):
        path = f"{_folder(store)}/{name}"
        where = store.describe(path)
        try:
            record = parse_record(store.files.read(path), where)
        except FileNotFoundError:
            continue  # another process has stored it
        except UnreadableRecord as error:
            problems.append(str(error))
            continue
        except OSError as error:
            problems.append(f"{where} can't be read: {error}. {REMEDY}")
            continue
        if not any(file.id == record.id for file in store.newest(store.folder(record.key))):
            store.write(record)
            stored.append(record)
        drop_copy(store, path)
    return stored, problems


def _folder(store: Store) -> str:
    return f"{store.files.root}/{_FOLDER}"


def _is_abandoned(name: str) -> bool:
    """Return whether a name is that of a copy whose writer has ended."""
    if not layout.is_json(name) or name in _kept:
        return False
    by = name.removesuffix(".json").rpartition(".")[2]
    ended = by == writer() or has_ended(by)  # an earlier process may have had our number
    return is_older(name, _ABANDONED_H) if ended is None else ended
