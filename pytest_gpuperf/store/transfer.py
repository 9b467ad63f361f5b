"""Export and import: records from one store to another, through a folder, a bucket or a tar.

The notes about the records and the calibrations of their devices go along, since the gate needs them. What is exported
is itself a store, with the same files, byte by byte. An import checks every file before it writes the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import basename, dirname

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.calibration import Calibration
from pytest_gpuperf.store.layout import ACCEPTED, CALIBRATIONS, PINS, RecordFile, is_calibration, is_record
from pytest_gpuperf.store.notes import Acceptance, Pin, parse_note
from pytest_gpuperf.store.soundness import check_record, digest_of
from pytest_gpuperf.store.store import Store
from pytest_gpuperf.store.tars import DAMAGED, TarSink, TarSource, is_tar

_REMEDY = "Export it again."


@dataclass(frozen=True)
class TransferResult:
    """Result of an export or an import.

    Attributes:
        records: Number of records written.
        known: Number of records that the destination had already.
        notes: Number of acceptances, pins and calibrations written.
        unreadable: Files left out of an export.
    """

    records: int
    known: int = 0
    notes: int = 0
    unreadable: tuple[UnreadableRecord, ...] = ()


# Export


def export_records(store: Store, chosen: Iterable[tuple[str, RecordFile]], destination: str) -> TransferResult:
    """Copy records, the notes about them and the calibrations of their devices into a tar or another store.

    Args:
        chosen: The records, each with the folder of its key.
        destination: A path that ends in ``.tar``, ``.tar.gz`` or ``.tgz``, a directory, or an fsspec URL.

    Raises:
        StoreError: The destination can't be written.
        OptionError, MissingExtra: The URL can't be used.
    """
    records = known = notes = 0
    devices: set[str] = set()
    unreadable: list[UnreadableRecord] = []
    with _sink(destination) as sink:
        for folder, file in chosen:
            try:
                path = layout.record_path(store.read(file).key, file.name)
                content, notes_of_record = store.files.read(file.path), _notes(store, folder, file, path)
            except UnreadableRecord as error:
                unreadable.append(error)
                continue
            except OSError as error:
                raise StoreError(f"The store {store.url} can't be read: {error}") from error
            written = sink.put(path, content)
            records, known = records + written, known + (not written)
            notes += sum(sink.put(note_path, note) for note_path, note in notes_of_record)
            devices.add(path.partition("/")[0])
        source = _StoreSource(store)
        for path in store.calibrations():
            if path.partition("/")[0].removesuffix(CALIBRATIONS) in devices:
                try:
                    _calibration(source, path, "Restore the file, or delete it.")
                except UnreadableRecord as error:
                    unreadable.append(error)
                else:
                    notes += sink.put(path, source.read(path))
    return TransferResult(records, known, notes, tuple(unreadable))


def _notes(store: Store, folder: str, file: RecordFile, path: str) -> list[tuple[str, bytes]]:
    """Read the notes about a record; each with its path in the destination."""
    sources = {path + ACCEPTED: file.path + ACCEPTED} if file.accepted else {}
    key_folder = "/".join(path.split("/")[:3])
    for name in sorted(store.files.names(f"{folder}/{PINS}")):
        if layout.record_of_pin(name) == file.name:
            sources[f"{key_folder}/{PINS}/{name}"] = f"{folder}/{PINS}/{name}"
    return [(target, store.files.read(source)) for target, source in sources.items()]


@contextmanager
def _sink(destination: str) -> Iterator[TarSink | _StoreSink]:
    if not is_tar(destination):
        yield _StoreSink(Store(destination))
        return
    if "://" in destination:
        raise OptionError(f"A tar is written to this machine, not to {destination}. Name a file, or another URL.")
    path = Path(destination).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_write(path) as temporary,
            TarSink.open(temporary, compressed=not destination.endswith(".tar")) as sink,
        ):
            yield sink
    except OSError as error:
        raise StoreError(f"{destination} can't be written: {error}") from error


class _StoreSink:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: dict[str, set[str]] = {}

    def put(self, path: str, content: bytes) -> bool:
        """Write a file unless it exists; return whether it was written."""
        if problem := self.conflict(path, content):
            raise StoreError(f"{path}\n  {problem}")
        names, name = self._beside(path), basename(path)
        if name in names:
            return False
        self._store.files.put(f"{self._store.files.root}/{path}", content)
        names.add(name)
        return True

    def conflict(self, path: str, content: bytes) -> str:
        """Return why a file can't be written: one with the same name and another content exists; empty if it can.

        An existing acceptance is no conflict and stays: two people may have accepted the same record.
        """
        stored = f"{self._store.files.root}/{path}"
        if basename(path) not in self._beside(path) or path.endswith(ACCEPTED):
            return ""
        if self._store.files.read(stored) == content:
            return ""
        where = self._store.describe(stored)
        return f"differs from {where}; records never change, so one of the two was edited. Delete the wrong one."

    def _beside(self, path: str) -> set[str]:
        """Return the names of the files in a path's folder; each folder is listed once."""
        parent = dirname(path)
        if parent not in self._names:
            self._names[parent] = set(self._store.files.names(f"{self._store.files.root}/{parent}"))
        return self._names[parent]


# Import


@dataclass
class ImportPlan:
    """Files that an import will write.

    Attributes:
        records: Source path of each record, by destination path.
        notes: Source path of each note, by destination path.
        folders: Key folder of each record file, by key digest and name.
    """

    records: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    folders: dict[tuple[str, str], str] = field(default_factory=dict)


def import_records(store: Store, source: str, *, may_be_empty: bool = False) -> TransferResult:
    """Copy the records of a tar or of another store, with notes and calibrations. May be repeated.

    Every file is checked (content, checksum, schema, key and name) before the first one is written.

    Args:
        source: What ``export_records`` wrote, or any store.
        may_be_empty: Whether a source without records is no error.

    Raises:
        StoreError: The source has no record, or something in it is damaged. Nothing was written.
        OptionError, MissingExtra: The URL can't be used.
    """
    sink = _StoreSink(store)
    with _source(source) as files:
        plan, problems = ImportPlan(), []
        paths = sorted(files.paths())
        for add, belongs in ((_add_record, is_record), (_add_note, _is_note), (_add_calibration, is_calibration)):
            for path in filter(belongs, paths):
                try:
                    add(files, path, plan)
                except UnreadableRecord as error:
                    problems.append(str(error))
        for path, origin in {**plan.records, **plan.notes}.items():
            if problem := sink.conflict(path, files.read(origin)):
                problems.append(f"{files.describe(origin)}\n  {problem}")
        if problems:
            listed = "\n".join(problems)
            raise StoreError(f"Nothing was imported from {source}: it has damaged or conflicting files.\n{listed}")
        if not plan.records and not may_be_empty:
            raise StoreError(f"There is no record in {source}. Name a tar or a folder from `gpuperf baseline export`.")
        written = sum(sink.put(path, files.read(origin)) for path, origin in plan.records.items())
        notes = sum(sink.put(path, files.read(origin)) for path, origin in plan.notes.items())
    return TransferResult(written, len(plan.records) - written, notes)


def _is_note(path: str) -> bool:
    return layout.is_json(path) and (path.endswith(ACCEPTED) or basename(dirname(path)) == PINS)


def _add_record(files: _Source, path: str, plan: ImportPlan) -> None:
    digest, name = _digest(files, path), basename(path)
    record = check_record(_content(files, path), path, files.describe(path), _REMEDY)
    plan.records[layout.record_path(record.key, name)] = path
    plan.folders[digest, name] = layout.key_folder(record.key)


def _add_note(files: _Source, path: str, plan: ImportPlan) -> None:
    """Plan to import an acceptance or a pin, unless its record is missing."""
    digest, name = _digest(files, path), basename(path)
    content = _content(files, path)
    accepted = name.endswith(ACCEPTED)
    record_file = name.removesuffix(ACCEPTED) if accepted else layout.record_of_pin(name)
    folder = plan.folders.get((digest, record_file))
    if folder is None:
        return
    kind: type[object] = Acceptance if accepted else Pin
    parse_note(content, kind, files.describe(path), _REMEDY)
    subfolder = layout.day_of(name) if accepted else PINS
    plan.notes[f"{folder}/{subfolder}/{name}"] = path


def _add_calibration(files: _Source, path: str, plan: ImportPlan) -> None:
    calibration = _calibration(files, path, _REMEDY)
    plan.notes[f"{layout.calibrations_folder(calibration.device)}/{basename(path)}"] = path


def _calibration(files: _Source, path: str, remedy: str) -> Calibration:
    content = _content(files, path, remedy)
    return parse_note(content, Calibration, files.describe(path), remedy)


def _content(files: _Source, path: str, remedy: str = _REMEDY) -> bytes:
    try:
        return files.read(path)
    except (*DAMAGED, ValueError) as error:
        raise UnreadableRecord(files.describe(path), f"can't be read: {error}", remedy) from error


def _digest(files: _Source, path: str) -> str:
    digest = digest_of(path)
    if digest is None:
        raise UnreadableRecord(files.describe(path), "is not in the folder of a key, as records are", _REMEDY)
    return digest


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
        return self._store.paths()

    def read(self, path: str) -> bytes:
        return self._store.files.read(f"{self._store.files.root}/{path}")

    def describe(self, path: str) -> str:
        return self._store.describe(f"{self._store.files.root}/{path}")


_Source = TarSource | _StoreSource
