"""Export of records, with their notes, into a tar or another store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.errors import OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.calibration import Calibration
from pytest_gpuperf.store.layout import ACCEPTED, CALIBRATIONS, PINS, RecordFile
from pytest_gpuperf.store.notes import parse_note
from pytest_gpuperf.store.store import Store
from pytest_gpuperf.store.transfer.sides import StoreSink, StoreSource
from pytest_gpuperf.store.transfer.tars import TarSink, is_tar
from pytest_gpuperf.user_path import user_path

_REMEDY = "Restore the file, or delete it."


@dataclass(frozen=True)
class ExportResult:
    """Result of an export.

    Attributes:
        records: Number of records written.
        known: Number of records that the destination had already.
        notes: Number of acceptances, pins and calibrations written.
        unreadable: Files left out.
    """

    records: int
    known: int = 0
    notes: int = 0
    unreadable: tuple[UnreadableRecord, ...] = ()


def export_records(store: Store, chosen: Iterable[tuple[str, RecordFile]], destination: str) -> ExportResult:
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
        source = StoreSource(store)
        for path in store.calibrations():
            if path.partition("/")[0].removesuffix(CALIBRATIONS) in devices:
                try:
                    content = source.content(path, _REMEDY)
                    parse_note(content, Calibration, source.describe(path), _REMEDY)
                except UnreadableRecord as error:
                    unreadable.append(error)
                else:
                    notes += sink.put(path, content)
    return ExportResult(records, known, notes, tuple(unreadable))


def _notes(store: Store, folder: str, file: RecordFile, path: str) -> list[tuple[str, bytes]]:
    """Read the notes about a record; each with its path in the destination."""
    sources = {path + ACCEPTED: file.path + ACCEPTED} if file.accepted else {}
    if file.judgement:
        sources[path + file.judgement.removeprefix(file.path)] = file.judgement
    key_folder = "/".join(path.split("/")[:3])
    for name in sorted(store.files.names(f"{folder}/{PINS}")):
        if layout.record_of_pin(name) == file.name:
            sources[f"{key_folder}/{PINS}/{name}"] = f"{folder}/{PINS}/{name}"
    return [(target, store.files.read(source)) for target, source in sources.items()]


@contextmanager
def _sink(destination: str) -> Iterator[TarSink | StoreSink]:
    if not is_tar(destination):
        yield StoreSink(Store(destination))
        return
    if "://" in destination:
        raise OptionError(f"A tar is written to this machine, not to {destination}. Name a file, or another URL.")
    path = user_path(destination)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_write(path) as temporary,
            TarSink.open(temporary, compressed=not destination.endswith(".tar")) as sink,
        ):
            yield sink
    except OSError as error:
        raise StoreError(f"{destination} can't be written: {error}") from error
