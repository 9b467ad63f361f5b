"""Reading and writing the records of a store (``layout`` describes the files).

Nothing is ever rewritten: accepting, pinning, unpinning and pruning records write notes. So two runners never conflict,
a git branch merges, and a bucket needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from posixpath import basename, dirname

from pytest_gpuperf.errors import StoreError, UnreadableRecord
from pytest_gpuperf.model import PlainMapping, Record
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.dates import moment_after
from pytest_gpuperf.store.files import Files
from pytest_gpuperf.store.layout import ACCEPTED, PINS, PRUNED, RecordFile
from pytest_gpuperf.store.listing import Listing
from pytest_gpuperf.store.notes import Acceptance, Judgement, NoteT, Pin, Pruning, note_content, note_text, parse_note
from pytest_gpuperf.store.provenance import user, utc_now
from pytest_gpuperf.store.record_format.record_file import REMEDY, parse_record, record_content
from pytest_gpuperf.store.rescue import save_elsewhere

#: Pinned records of one key that every gate reads besides the rolling window. A store that others were imported into
#: may have more pins: none is ever deleted, but gates read the last pinned.
MOST_PINNED = 5


class Store:
    """Records under one URL.

    Args:
        url: A directory, or any URL that fsspec knows.
        option: Option with which the ``gpuperf`` command uses this store, for messages: `` --store URL``.

    Attributes:
        can_delete: Whether files can be deleted, as far as is known.

    Raises:
        OptionError: fsspec knows no such URL.
        MissingExtra: The library for the URL's protocol is not installed.
    """

    def __init__(self, url: str, option: str = "") -> None:
        self.url, self.option = url, option
        self.files = Files(url)
        self.can_delete = True

    @property
    def place(self) -> str:
        """The URL as people type it: a directory relative to where they started, if it is below."""
        return self.url if "://" in self.url else self.describe(self.files.root)

    def describe(self, path: str) -> str:
        """Return a path as people type it: relative to the working directory if it is below it."""
        return self.files.describe(path)

    def folder(self, key: PlainMapping) -> str:
        """Return the folder for the records of a key."""
        return f"{self.files.root}/{layout.key_folder(key)}"

    def path(self, record: Record) -> str:
        """Return the path of a record, whether or not it is stored."""
        return f"{self.files.root}/{layout.record_path(record.key, layout.file_name(record))}"

    def write(self, record: Record) -> str:
        """Store a record and return its path.

        Raises:
            StoreError: The record can't be written. The message names the copy that was saved elsewhere.
        """
        path, content = self.path(record), record_content(record)
        try:
            self.files.put(path, content)
        except StoreError as error:
            relative = path.removeprefix(self.files.root + "/")
            raise StoreError(f"{error}\n{save_elsewhere(relative, content, self.url)}") from error
        return path

    def dated(self, record: Record) -> Record:
        """Return a new record, dated after the newest of its key.

        The newest record may come from a machine whose clock is a little ahead. If the store can't be listed, the new
        record keeps its date: it is measured already, and ``write`` saves it elsewhere if necessary.
        """
        try:
            newest = next(iter(self.listing(self.folder(record.key))), None)
        except StoreError:
            return record
        if newest is None or newest.name < layout.file_name(record):
            return record
        moment = moment_after(newest.name, timedelta(milliseconds=1))
        return replace(record, created_utc=moment.isoformat(timespec="milliseconds"))

    def exists(self) -> bool:
        """Return whether there is a store at the URL, or anything that may be one.

        Raises:
            StoreError: The URL can't be asked.
        """
        return self.files.exists()

    def check_writable(self) -> None:
        """Write an empty file and delete it again; ``can_delete`` then says whether that was possible.

        Raises:
            StoreError: The store can't be written.
        """
        path = f"{self.files.root}/.write-check"
        self.files.put(path, b"")
        try:
            self.files.delete(path)
        except StoreError:  # a bucket may accept files but not delete them
            self.can_delete = False

    # Listing. Every method raises StoreError when the store can't be listed.

    def listing(self, folder: str) -> Listing:
        """Return the records in a key's folder, unread."""
        return Listing(folder, self.files.names, self.acceptance)

    def newest(self, folder: str) -> Iterator[RecordFile]:
        """Yield the records in a key's folder, newest first; those that are dated in the future come first."""
        listing = self.listing(folder)
        yield from listing.ahead
        yield from layout.cleared(listing)

    def pinned(self, folder: str) -> list[RecordFile]:
        """Return the pinned records of a key that gates read, the last pinned first. Their files may be missing."""
        names = self._pinned_names(folder)[:MOST_PINNED]
        return [layout.parse_path(f"{folder}/{layout.day_of(name)}/{name}", pinned=True) for name in names]

    def _devices(self) -> list[str]:
        """Return the folders of devices and of their calibrations."""
        return sorted(name for name in self.files.names(self.files.root) if not name.startswith("."))

    def folders(self, key: PlainMapping | None = None) -> Iterator[str]:
        """Yield the folders of all keys; with ``key``, of the keys with its test and its device."""
        if key is not None:
            yield from self._folders(layout.device_folder(key), layout.test_folder(key))
            return
        for device in self._devices():
            yield from self._folders_of_device(device)

    def folders_of_device(self, key: PlainMapping) -> Iterator[str]:
        """Yield the folders of the keys with any test on the device of ``key``."""
        return self._folders_of_device(layout.device_folder(key))

    def folders_elsewhere(self, key: PlainMapping) -> Iterator[str]:
        """Yield the folders of the keys with the test of ``key`` and another device."""
        for device in self._devices():
            if device != layout.device_folder(key):
                yield from self._folders(device, layout.test_folder(key))

    def _folders_of_device(self, device: str) -> Iterator[str]:
        for test in sorted(self.files.names(f"{self.files.root}/{device}")):
            yield from self._folders(device, test)

    def _folders(self, device: str, test: str) -> Iterator[str]:
        folder = f"{self.files.root}/{device}/{test}"
        yield from (f"{folder}/{digest}" for digest in sorted(self.files.names(folder)) if layout.is_key(digest))

    def calibrations(self) -> Iterator[str]:
        """Yield the calibrations of all devices, as paths below the store's root."""
        root = self.files.root
        for folder in self._devices():
            if folder.endswith(layout.CALIBRATIONS):
                names = self.files.names(f"{root}/{folder}")
                yield from (f"{folder}/{name}" for name in names if layout.is_calibration(name))

    def paths(self) -> Iterator[str]:
        """Yield all calibrations, records and notes, as paths below the store's root."""
        yield from self.calibrations()
        for folder in self.folders():
            for subfolder in self.files.names(folder):
                if layout.is_day(subfolder) or subfolder in (PINS, PRUNED):
                    names = filter(layout.is_json, self.files.names(f"{folder}/{subfolder}"))
                    below = f"{folder.removeprefix(self.files.root + '/')}/{subfolder}"
                    yield from (f"{below}/{name}" for name in names)

    def find(self, record_id: str) -> RecordFile:
        """Return the record with this id, or with an id that begins so.

        Raises:
            StoreError: There is no such record, or more than one.
        """
        matching = [file for folder in self.folders() for file in self.newest(folder) if file.id.startswith(record_id)]
        if len(matching) != 1:
            count = f"{len(matching)} records" if matching else "no record"
            raise StoreError(
                f"There is {count} with the id {record_id} in {self.url}.\nList them with: gpuperf baseline list"
                f"{self.option}"
            )
        return matching[0]

    # Reading

    def read(self, file: RecordFile) -> Record:
        """Read and check a record, as it was judged at the end of its invocation.

        Raises:
            UnreadableRecord: The file, or the note about it, is missing, damaged or edited, or has a newer schema.
        """
        record = self.read_as_written(file)
        if not file.judgement:
            return record
        where = self.describe(file.judgement)
        try:
            content = self.files.read(file.judgement)
        except OSError as error:
            raise UnreadableRecord(where, f"can't be read: {error}", REMEDY) from error
        judgement = parse_note(content, Judgement, where, REMEDY)
        return replace(record, gate=judgement.gate, verdict=judgement.verdict)

    def read_as_written(self, file: RecordFile) -> Record:
        """Read and check a record, as it was judged at the end of its test.

        Raises:
            UnreadableRecord: The file is missing, damaged or edited, or has a newer schema.
        """
        where = self.describe(file.path)
        try:
            content = self.files.read(file.path)
        except OSError as error:
            missing_pin = file.pinned and isinstance(error, FileNotFoundError)
            remedy = f"Restore the file, or unpin the record: gpuperf baseline unpin {file.id}{self.option}"
            raise UnreadableRecord(where, f"can't be read: {error}", remedy if missing_pin else REMEDY) from error
        return parse_record(content, where)

    def acceptance(self, file: RecordFile) -> Acceptance | None:
        """Return who accepted a record; None without an acceptance, or if the note can't be read."""
        return self._note(file.path + ACCEPTED, Acceptance) if file.accepted else None

    def pin_of(self, file: RecordFile) -> Pin | None:
        """Return who pinned a record; None if it is not pinned, or if the note can't be read."""
        if not file.pinned:
            return None
        folder = f"{self.folder(self.read(file).key)}/{PINS}"
        stems = [stem for stem, name in layout.pins_in_force(self.files.names(folder)) if name == file.name]
        return self._note(f"{folder}/{layout.pin_name(file.name, stems[-1], pinned=True)}", Pin) if stems else None

    def prunings(self, folder: str) -> list[Pruning]:
        """Return the prunings of a key, oldest first."""
        names = sorted(self.files.names(f"{folder}/{PRUNED}"))
        notes = (self._note(f"{folder}/{PRUNED}/{name}", Pruning) for name in names)
        return [pruning for pruning in notes if pruning is not None]

    def _note(self, path: str, kind: type[NoteT]) -> NoteT | None:
        """Read a note; None if that fails, since a note only explains."""
        try:
            return parse_note(self.files.read(path), kind, path, "")
        except (OSError, UnreadableRecord):
            return None

    # Writing notes, and deleting

    def judge(self, record: Record, gate: str, verdict: str) -> None:
        """Write how a stored record is judged at the end of its invocation, if that differs.

        Args:
            record: The record as it was stored.
            gate, verdict: See ``Record``.

        Raises:
            StoreError: The store can't be written.
        """
        if (gate, verdict) != (record.gate, record.verdict):
            path, note = self.path(record), Judgement(record.id, gate, verdict, utc_now())
            name = layout.judgement_name(basename(path), gate, verdict)
            self.files.put(f"{dirname(path)}/{name}", note_content(note))

    def accept(self, file: RecordFile, reason: str, author: str = "") -> Acceptance:
        """Take a record into the baseline by hand. The baseline begins again with it.

        Args:
            author: Who accepts it; the user of this process when empty.

        Raises:
            UnreadableRecord: The record can't be read.
            StoreError: The record was cut short, is a duet, or is accepted already; or the store can't be written.
        """
        record = self.check_acceptable(file)
        others = (name.name for name in self.newest(self.folder(record.key)) if name.name != file.name)
        by, why = note_text(author or user()), note_text(reason)
        acceptance = Acceptance(record.id, by, why, utc_now(), next(others, ""))
        self.files.put(file.path + ACCEPTED, note_content(acceptance))
        return acceptance

    def check_acceptable(self, file: RecordFile) -> Record:
        """Read a record that may be accepted; raises what ``accept`` raises."""
        record = self._usable(file)
        if before := self.acceptance(file):
            raise StoreError(
                f"Record {record.id} is accepted already, by {before.author} at {before.accepted_utc}: "
                f"{before.reason}\nThe baseline begins with it, so there is nothing to do."
            )
        return record

    def pin(self, file: RecordFile, reason: str, author: str = "") -> Pin:
        """Compare every later record with this one as well, however old it gets, until it is unpinned.

        Raises:
            UnreadableRecord: The record can't be read.
            StoreError: The record was cut short or is a duet, or too many are pinned; or the store can't be written.
        """
        record = self._usable(file)
        folder = self.folder(record.key)
        pinned = self._pinned_names(folder)
        if len(pinned) >= MOST_PINNED and file.name not in pinned:
            raise StoreError(
                f"{len(pinned)} records of this key are pinned already, and every gate reads {MOST_PINNED}. Unpin one "
                f"first: gpuperf baseline unpin {layout.parse_path(pinned[-1]).id}{self.option}"
            )
        stem = layout.new_note_stem(self.files.names(f"{folder}/{PINS}"))
        return self._put_pin(
            folder, file.name, stem, Pin(record.id, True, note_text(author or user()), note_text(reason), utc_now())
        )

    def unpin(self, record_id: str, reason: str = "", author: str = "", *, folder: str = "") -> Pin:
        """Let a pinned record age like the others. Its file is not read: it may be damaged or missing.

        Args:
            record_id: Id of the record, or the beginning of it.
            folder: Folder of the record's key; any when empty.

        Raises:
            StoreError: No record with that id is pinned, or more than one; or the store can't be written.
        """
        folders = [folder] if folder else self.folders()
        pinned = [(folder, name) for folder in folders for name in self._pinned_names(folder)]
        matching = [place for place in pinned if layout.parse_path(place[1]).id.startswith(record_id)]
        if len(matching) != 1:
            count = f"{len(matching)} records {record_id}... are" if matching else f"Record {record_id} isn't"
            raise StoreError(
                f"{count} pinned in {self.url}.\nList pinned records with: gpuperf baseline list{self.option}"
            )
        folder, name = matching[0]
        unpin = Pin(layout.parse_path(name).id, False, note_text(author or user()), note_text(reason), utc_now())
        for stem, pinned_name in layout.pins_in_force(self.files.names(f"{folder}/{PINS}")):
            if pinned_name == name:
                self._put_pin(folder, name, stem, unpin)
        return unpin

    def delete(self, folder: str, files: Sequence[RecordFile], reason: str, author: str = "") -> Pruning:
        """Delete records of one key, and write a note about them.

        Raises:
            StoreError: A record can't be deleted; the note names those deleted before it.
        """
        deleted: list[str] = []
        accepted = tuple(file.id for file in files if file.accepted)
        try:
            for file in files:
                self.files.delete(file.path)
                if file.accepted:
                    self.files.delete(file.path + ACCEPTED)
                if file.judgement:
                    self.files.delete(file.judgement)
                deleted.append(file.id)
        finally:
            by, why = note_text(author or user()), note_text(reason)
            pruning = Pruning(tuple(deleted), by, why, utc_now(), tuple(id for id in accepted if id in deleted))
            if deleted:
                self.files.put(f"{folder}/{PRUNED}/{layout.new_note_stem()}.json", note_content(pruning))
        for parent in {dirname(file.path) for file in files}:
            self.files.remove_if_empty(parent)
        return pruning

    def _pinned_names(self, folder: str) -> list[str]:
        return layout.pinned_files(self.files.names(f"{folder}/{PINS}"))

    def _put_pin(self, folder: str, record_file: str, stem: str, pin: Pin) -> Pin:
        name = layout.pin_name(record_file, stem, pinned=pin.pinned)
        self.files.put(f"{folder}/{PINS}/{name}", note_content(pin))
        return pin

    def _usable(self, file: RecordFile) -> Record:
        """Read a record that others can be compared with.

        Raises:
            UnreadableRecord: The record can't be read.
            StoreError: The record was cut short, or is a duet.
        """
        record = self.read(file)
        if record.status != "complete":
            raise StoreError(f"Record {record.id} was cut short, so it can't be a baseline. Measure again.")
        if record.reference:
            raise StoreError(
                f"Record {record.id} is a duet, which is compared with its own reference only. For a baseline, measure "
                "with pytest --gpuperf and choose that record."
            )
        return record
