"""Records from one store to another: through a folder, a bucket or a tar.

What was said about them, and what was calibrated of their devices, goes along: the gate needs all of it. What is
exported is a store by itself, with the same files, byte by byte. An import looks at all of it before it writes the
first file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.calibration import FOLDER_ENDING, Calibration, is_prior, prior_paths, priors_folder
from pytest_gpuperf.store.layout import ACCEPTED, PINS, RecordFile
from pytest_gpuperf.store.soundness import check_note, check_record, digest_of
from pytest_gpuperf.store.store import Acceptance, Pin, Store
from pytest_gpuperf.store.tars import DAMAGED, TarSink, TarSource, is_tar

_REMEDY = "Export it again."


@dataclass(frozen=True)
class TransferResult:
    """What an export or an import did.

    Attributes:
        records: how many were written.
        known: how many were there already.
        notes: acceptances, pins and calibrations that went with them.
        unreadable: left out of an export.
    """

    records: int
    known: int = 0
    notes: int = 0
    unreadable: tuple[UnreadableRecord, ...] = ()


class _Sink(Protocol):
    def put(self, path: str, content: bytes) -> bool:
        """Write a file, unless it is there; whether it was written."""


def export_records(store: Store, entries: Iterable[tuple[str, RecordFile]], destination: str) -> TransferResult:
    """Copy records, with what was said about them and calibrated of their devices, into a tar or another store.

    Args:
        entries: with the key folder of each.
        destination: a path that ends in ``.tar``, ``.tar.gz`` or ``.tgz``, a directory, or an fsspec URL.

    Raises:
        StoreError: the destination can't be written.
        OptionError, MissingExtra: it is no URL that can be used.
    """
    records = known = notes = 0
    devices: set[str] = set()
    unreadable: list[UnreadableRecord] = []
    with _sink(destination) as sink:
        for folder, entry in entries:
            try:
                content, path = _checked(store, entry)
                beside = list(_notes(store, folder, entry, path))
            except UnreadableRecord as error:
                unreadable.append(error)
                continue
            except OSError as error:
                raise StoreError(f"The store {store.url} can't be read: {error}") from error
            written = sink.put(path, content)
            records, known = records + written, known + (not written)
            notes += sum(sink.put(place, note) for place, note in beside)
            devices.add(path.partition("/")[0])
        here = _StoreSource(store)
        for path in prior_paths(store):
            if path.partition("/")[0].removesuffix(FOLDER_ENDING) not in devices:
                continue
            try:
                _, content = _prior(here, path, "Restore the file, or delete it.")
            except UnreadableRecord as error:
                unreadable.append(error)
                continue
            notes += sink.put(path, content)
    return TransferResult(records, known, notes, tuple(unreadable))


def _checked(store: Store, entry: RecordFile) -> tuple[bytes, str]:
    """A record file's content, and where it belongs.

    Raises:
        UnreadableRecord: it can't be read.
    """
    record = store.read(entry)
    path = f"{layout.key_folder(record.key)}/{layout.day_of(entry.name)}/{entry.name}"
    return store.files.read(entry.path), path


def _notes(store: Store, folder: str, entry: RecordFile, path: str) -> Iterator[tuple[str, bytes]]:
    if entry.accepted:
        yield path + ACCEPTED, store.files.read(entry.path + ACCEPTED)
    key_folder = "/".join(path.split("/")[:3])
    for name in sorted(store.files.names(f"{folder}/{PINS}")):
        if name.endswith(f"-{entry.name}"):
            yield f"{key_folder}/{PINS}/{name}", store.files.read(f"{folder}/{PINS}/{name}")


@contextmanager
def _sink(destination: str) -> Iterator[_Sink]:
    if not is_tar(destination):
        yield _StoreSink(Store(destination))
        return
    if "://" in destination:
        raise OptionError(f"A tar is written to this machine, not to {destination}. Name a file, or another URL.")
    path = Path(destination).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside, TarSink.open(beside, compressed=not destination.endswith(".tar")) as sink:
            yield sink
    except OSError as error:
        raise StoreError(f"{destination} can't be written: {error}") from error


class _StoreSink:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: dict[str, set[str]] = {}

    def put(self, path: str, content: bytes) -> bool:
        if not self._holds(path):
            self._store.files.put(f"{self._store.files.root}/{path}", content)
            self._folder(path).add(path.rpartition("/")[2])
            return True
        if problem := self.conflict(path, content):
            raise StoreError(f"{path}\n  {problem}")
        return False

    def conflict(self, path: str, content: bytes) -> str:
        """That there is a file of that name with another content; empty when there is none.

        Of an acceptance the one that is there stays: two people may have accepted the same record.
        """
        stored = f"{self._store.files.root}/{path}"
        if not self._holds(path) or path.endswith(ACCEPTED) or self._store.files.read(stored) == content:
            return ""
        where = self._store.describe(stored)
        return f"is not what {where} has; records never change, so one of the two was edited. Delete the wrong one."

    def _holds(self, path: str) -> bool:
        return path.rpartition("/")[2] in self._folder(path)

    def _folder(self, path: str) -> set[str]:
        """Return the names of the files beside a path; each folder is listed once."""
        parent = path.rpartition("/")[0]
        if parent not in self._names:
            self._names[parent] = set(self._store.files.names(f"{self._store.files.root}/{parent}"))
        return self._names[parent]


# Import


@dataclass
class ImportPlan:
    """What an import will write: destination paths, and where each comes from.

    Attributes:
        folders: of record files, by key digest and name.
    """

    records: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    folders: dict[tuple[str, str], str] = field(default_factory=dict)


def import_records(store: Store, source: str, *, if_any: bool = False) -> TransferResult:
    """Take over the records of a tar or of another store, with acceptances, pins and calibrations. May be repeated.

    Every file is read and checked (content, checksum, schema, key and name) before the first one is written.

    Args:
        source: what ``export_records`` wrote, or any store.
        if_any: it may be empty.

    Raises:
        StoreError: there is nothing, or something damaged in it; it is said what, and nothing was written.
        OptionError, MissingExtra: it is no URL that can be used.
    """
    sink = _StoreSink(store)
    with _source(source) as files:
        found, problems = ImportPlan(), []
        paths = sorted(files.paths())
        for check, wanted in ((_check_record, _is_record), (_check_note, _is_note), (_check_prior, is_prior)):
            for path in filter(wanted, paths):
                try:
                    check(files, path, found)
                except UnreadableRecord as error:
                    problems.append(str(error))
        moving = {**found.records, **found.notes}
        for path, origin in moving.items():
            if problem := sink.conflict(path, files.read(origin)):
                problems.append(f"{files.describe(origin)}\n  {problem}")
        if problems:
            listed = "\n".join(problems)
            raise StoreError(f"Nothing was imported from {source}, since not all of it is sound:\n{listed}")
        if not found.records and not if_any:
            raise StoreError(f"There is no record in {source}. Name a tar or a folder from `gpuperf baseline export`.")
        written = sum(sink.put(path, files.read(origin)) for path, origin in found.records.items())
        notes = sum(sink.put(path, files.read(origin)) for path, origin in found.notes.items())
    return TransferResult(written, len(found.records) - written, notes)


def _is_record(path: str) -> bool:
    return layout.is_json(path) and not _is_note(path)


def _is_note(path: str) -> bool:
    return layout.is_json(path) and (path.endswith(ACCEPTED) or path.split("/")[-2:-1] == [PINS])


def _content(files: _Source, path: str, remedy: str = _REMEDY) -> bytes:
    """What is in a file.

    Raises:
        UnreadableRecord: it can't be read.
    """
    try:
        return files.read(path)
    except (*DAMAGED, ValueError) as error:
        raise UnreadableRecord(files.describe(path), f"can't be read: {error}", remedy) from error


def _read(files: _Source, path: str) -> tuple[bytes, str]:
    """A file's content, and the digest of the key in whose folder it lies.

    Raises:
        UnreadableRecord: it can't be read, or lies anywhere else.
    """
    digest = digest_of(path)
    if digest is None:
        raise UnreadableRecord(files.describe(path), "does not lie in the folder of a key, as records do", _REMEDY)
    return _content(files, path), digest


def _check_record(files: _Source, path: str, found: ImportPlan) -> None:
    """Put a record into what is found.

    Raises:
        UnreadableRecord: it is not what it seems to be.
    """
    name, where = path.rpartition("/")[2], files.describe(path)
    if path.split("/")[-2:-1] == [layout.PRUNED]:
        return
    content, digest = _read(files, path)
    record = check_record(content, path, where, _REMEDY)
    folder = layout.key_folder(record.key)
    found.records[f"{folder}/{layout.day_of(name)}/{name}"] = path
    found.folders[digest, name] = folder


def _check_note(files: _Source, path: str, found: ImportPlan) -> None:
    """Put an acceptance or a pin into what is found; one of a record that isn't there is left out.

    Raises:
        UnreadableRecord: it is not what it seems to be.
    """
    name, where = path.rpartition("/")[2], files.describe(path)
    content, digest = _read(files, path)
    accepted = name.endswith(ACCEPTED)
    record_file = name.removesuffix(ACCEPTED) if accepted else layout.record_of_pin(name)
    folder = found.folders.get((digest, record_file))
    if folder is None:
        return
    if accepted:
        check_note(content, Acceptance, "acceptance", where, _REMEDY)
    else:
        check_note(content, Pin, "pin", where, _REMEDY)
    place = f"{folder}/{layout.day_of(name)}" if accepted else f"{folder}/{PINS}"
    found.notes[f"{place}/{name}"] = path


def _check_prior(files: _Source, path: str, found: ImportPlan) -> None:
    """Put what was calibrated of a device into what is found.

    Raises:
        UnreadableRecord: it is not what it seems to be.
    """
    calibration, _ = _prior(files, path, _REMEDY)
    found.notes[f"{priors_folder(calibration.device)}/{path.rpartition('/')[2]}"] = path


def _prior(files: _Source, path: str, remedy: str) -> tuple[Calibration, bytes]:
    content = _content(files, path, remedy)
    return check_note(content, Calibration, "calibration", files.describe(path), remedy), content


class _Source(Protocol):
    def paths(self) -> Iterable[str]: ...
    def read(self, path: str) -> bytes: ...
    def describe(self, path: str) -> str: ...


@contextmanager
def _source(source: str) -> Iterator[_Source]:
    if not is_tar(source):
        yield _StoreSource(Store(source))
        return
    try:
        with TarSource.open(source) as files:
            yield files
    except DAMAGED as error:
        raise StoreError(f"{source} can't be read as a tar: {error}") from error


class _StoreSource:
    def __init__(self, store: Store) -> None:
        self._store = store

    def paths(self) -> Iterable[str]:
        yield from self._store.paths()
        yield from prior_paths(self._store)

    def read(self, path: str) -> bytes:
        return self._store.files.read(f"{self._store.files.root}/{path}")

    def describe(self, path: str) -> str:
        return self._store.describe(f"{self._store.files.root}/{path}")
