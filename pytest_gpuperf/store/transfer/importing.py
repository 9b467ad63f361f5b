"""Import of records, and of those notes that are asked for, from a tar or another store."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from posixpath import basename, dirname

from pytest_gpuperf.errors import FutureDate, StoreError, UnreadableRecord
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.calibration import Calibration
from pytest_gpuperf.store.layout import ACCEPTED, PINS, is_calibration, is_record
from pytest_gpuperf.store.notes import Acceptance, Note, Pin, Pruning
from pytest_gpuperf.store.store import Store
from pytest_gpuperf.store.transfer.sides import Source, StoreSink, open_source
from pytest_gpuperf.store.transfer.soundness import check_note, check_record, digest_of

#: Kinds of notes that an import can take, and their classes.
NOTE_KINDS: Mapping[str, type[Note]] = {"acceptances": Acceptance, "pins": Pin, "calibrations": Calibration}
ALL_NOTES = frozenset(NOTE_KINDS)
_REMEDY = "Export it again."


@dataclass(frozen=True)
class ImportResult:
    """Result of an import.

    Attributes:
        records: Number of records written.
        known: Number of records that the store had already.
        joining: Number of records written that may join a baseline without being accepted here.
        notes: The notes written, in words.
        notes_left: Notes of the source that were not asked for, in words, and that the store lacks.
        left_out: Files that were left out since they are dated in the future.
    """

    records: int = 0
    known: int = 0
    joining: int = 0
    notes: tuple[str, ...] = ()
    notes_left: tuple[str, ...] = ()
    left_out: tuple[UnreadableRecord, ...] = ()


@dataclass(frozen=True)
class CheckedFile:
    """A file of the source that was checked.

    Attributes:
        path: Path in the source.
        sha256: Digest of the checked content. The content itself is read again, since a store may not fit into memory.
    """

    path: str
    sha256: str


@dataclass
class ImportPlan:
    """Files that an import will write.

    Attributes:
        records: Records, by destination path.
        notes: Notes, by destination path.
        words: Each note in words, by destination path.
        left: Notes that are not asked for, in words, by destination path.
        judgements: Notes from the end of the invocation, by destination path of their record; each with its own path.
        folders: Key folder of each record file, by key digest and name.
        damaged: Errors that prevent the import.
        future: Errors of the files that are dated in the future.
    """

    records: dict[str, CheckedFile] = field(default_factory=dict)
    notes: dict[str, CheckedFile] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    judgements: dict[str, tuple[str, CheckedFile]] = field(default_factory=dict)
    folders: dict[tuple[str | None, str], str] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    future: list[UnreadableRecord] = field(default_factory=list)


def import_records(
    store: Store,
    source: str,
    *,
    records: Sequence[str] = (),
    notes: Collection[str] = (),
    may_be_empty: bool = False,
) -> ImportResult:
    """Copy the records of a tar or of another store. May be repeated.

    Every file is checked (content, checksum, schema, key, name and date) before the first one is written. Files that
    are dated in the future are left out.

    Args:
        source: What ``export_records`` wrote, or any store.
        records: Ids of the records to copy, or their beginnings; all when empty.
        notes: Kinds of the notes to copy, of ``NOTE_KINDS``. Notes about other records are never copied.
        may_be_empty: Whether a source without records is no error.

    Raises:
        StoreError: The source has no record, or something in it is damaged or conflicts with the store. Nothing was
            written.
        OptionError, MissingExtra: The URL can't be used.
    """
    sink = StoreSink(store)
    with open_source(source) as files:
        plan = _plan(files, records, notes, sink)
        plan.damaged += _shared_ids(store, plan)
        if plan.damaged:
            listed = "\n".join(plan.damaged)
            raise StoreError(f"Nothing was imported from {source}: it has damaged or conflicting files.\n{listed}")
        if not plan.records and not plan.future and not may_be_empty:
            raise StoreError(f"There is no record in {source}. Name a tar or a folder from `gpuperf baseline export`.")
        # A judgement is a part of its record, and comes before it. Records that are here already keep theirs.
        for record_path, (path, origin) in plan.judgements.items():
            if not sink.has(record_path):
                _copy(files, origin, sink, path)
        written = [path for path, origin in plan.records.items() if _copy(files, origin, sink, path)]
        left = tuple(words for path, words in plan.left.items() if not sink.has(path))
        noted = [path for path, origin in plan.notes.items() if _copy(files, origin, sink, path)]
    return ImportResult(
        len(written),
        len(plan.records) - len(written),
        sum(_file(plan, path).may_be_baseline for path in written),
        tuple(plan.words[path] for path in noted),
        left,
        tuple(plan.future),
    )


def _file(plan: ImportPlan, path: str) -> layout.RecordFile:
    judgement = plan.judgements[path][0] if path in plan.judgements else ""
    return layout.parse_path(path, judgement=judgement)


def _copy(files: Source, origin: CheckedFile, sink: StoreSink, path: str) -> bool:
    if sink.has(path):
        return False
    content = files.content(origin.path, _REMEDY)
    if hashlib.sha256(content).hexdigest() != origin.sha256:
        raise UnreadableRecord(files.describe(origin.path), "was changed during the import", "Import it again.")
    return sink.put(path, content)


def _plan(files: Source, records: Sequence[str], kinds: Collection[str], sink: StoreSink) -> ImportPlan:
    plan = ImportPlan()
    paths = sorted(files.paths())
    record_paths = list(filter(is_record, paths))
    if records:
        record_paths = list(_chosen(record_paths, records, plan))
    for path in record_paths:
        with _noting(plan):
            _add_record(files, path, sink, plan)
    for path in filter(_is_note, paths):
        with _noting(plan):
            _add_note(files, path, kinds, sink, plan)
    return plan


@contextmanager
def _noting(plan: ImportPlan) -> Iterator[None]:
    """Add the error of a file to the plan."""
    try:
        yield
    except FutureDate as error:
        plan.future.append(error)
    except UnreadableRecord as error:
        plan.damaged.append(str(error))


def _chosen(paths: Iterable[str], records: Sequence[str], plan: ImportPlan) -> Iterator[str]:
    """Yield the records with the ids asked for; an id that no record has is an error."""
    missing = dict.fromkeys(records)
    for path in paths:
        for prefix in records:
            if layout.parse_path(path).id.startswith(prefix):
                missing.pop(prefix, None)
                yield path
                break
    plan.damaged += [f"It has no record {prefix}." for prefix in missing]


def _is_note(path: str) -> bool:
    return is_calibration(path) or (
        layout.is_json(path)
        and (
            path.endswith(ACCEPTED)
            or bool(layout.record_of_judgement(basename(path)))
            or basename(dirname(path)) == PINS
        )
    )


def _add_record(files: Source, path: str, sink: StoreSink, plan: ImportPlan) -> None:
    name, where, content = basename(path), files.describe(path), files.content(path, _REMEDY)
    digest = digest_of(path)
    if digest is None:
        raise UnreadableRecord(where, "is not in the folder of a key, as records are", _REMEDY)
    record = check_record(content, path, where, _REMEDY)
    destination = layout.record_path(record.key, name)
    checked = _checked(path, content, where, sink, destination)
    if plan.records.setdefault(destination, checked).sha256 != checked.sha256:
        raise UnreadableRecord(where, f"differs from {plan.records[destination].path}, of the same name", _REMEDY)
    plan.folders[digest, name] = layout.key_folder(record.key)


def _checked(path: str, content: bytes, where: str, sink: StoreSink, destination: str) -> CheckedFile:
    if problem := sink.conflict(destination, content):
        raise UnreadableRecord(where, problem, "Nothing was overwritten.")
    return CheckedFile(path, hashlib.sha256(content).hexdigest())


def _add_note(files: Source, path: str, kinds: Collection[str], sink: StoreSink, plan: ImportPlan) -> None:
    """Plan to import a note if it is asked for, unless it is about a record that is not imported."""
    name = basename(path)
    judged_file = layout.record_of_judgement(name)
    accepted_file = name.removesuffix(ACCEPTED) if name.endswith(ACCEPTED) else ""
    record_file = judged_file or accepted_file or layout.record_of_pin(name)
    folder = plan.folders.get((digest_of(path), record_file))
    if folder is None and not is_calibration(path):
        return
    try:
        content = files.content(path, _REMEDY)
        note = check_note(content, path, files.describe(path), _REMEDY)
    except UnreadableRecord:
        if kinds or judged_file:
            raise
        return  # it would be left out anyway
    if judged_file:
        day_folder = f"{folder}/{layout.day_of(name)}"
        checked = _checked(path, content, files.describe(path), sink, f"{day_folder}/{name}")
        plan.judgements[f"{day_folder}/{judged_file}"] = f"{day_folder}/{name}", checked
        return
    if isinstance(note, Calibration):
        destination = f"{layout.calibrations_folder(note.device)}/{name}"
    else:
        destination = f"{folder}/{PINS if isinstance(note, Pin) else layout.day_of(name)}/{name}"
    kind = next(kind for kind, class_ in NOTE_KINDS.items() if isinstance(note, class_))
    plan.words[destination] = words = _words(note)
    if kind in kinds:
        plan.notes[destination] = _checked(path, content, files.describe(path), sink, destination)
    else:
        plan.left[destination] = words


def _words(note: Note) -> str:
    """Return what a note says, in one line."""
    if isinstance(note, Acceptance):
        return f"acceptance of {note.record} by {note.author} at {note.accepted_utc}: {note.reason}"
    if isinstance(note, Calibration):
        spreads = ", ".join(f"{metric} {100 * sd:.2f}%" for metric, sd in note.record_sd.items())
        return f"calibration of {note.device} by {note.author or 'an unknown author'}: {spreads}"
    if isinstance(note, Pin):
        return f"{'pin' if note.pinned else 'unpin'} of {note.record} by {note.author} at {note.at_utc}: {note.reason}"
    assert isinstance(note, Pruning)
    return f"pruning of {len(note.records)} records by {note.author} at {note.at_utc}: {note.reason}"


def _shared_ids(store: Store, plan: ImportPlan) -> Iterator[str]:
    """Yield an error for each record whose id another record has: a decision about that one would mean this one too."""
    known = {file.id: file.name for folder in store.folders() for file in store.newest(folder)}
    for path, origin in plan.records.items():
        file = layout.parse_path(path)
        if known.setdefault(file.id, file.name) != file.name:
            yield f"{origin.path}\n  has the id of another record, {known[file.id]}; ids are unique."
