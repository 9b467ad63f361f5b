"""Checks of files from another store, before they are taken over."""

from __future__ import annotations

from posixpath import basename, dirname

from pytest_gpuperf.errors import FutureDate, UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.calibration import Calibration
from pytest_gpuperf.store.dates import is_future, stem_of, time_of
from pytest_gpuperf.store.key import key_digest
from pytest_gpuperf.store.layout import ACCEPTED, PINS
from pytest_gpuperf.store.notes import Acceptance, Judgement, Note, Pin, Pruning, parse_note
from pytest_gpuperf.store.record_format.record_file import parse_record


def digest_of(path: str) -> str | None:
    """Return the key digest among the folders of a path; None if there is none."""
    return next((part for part in reversed(path.split("/")[:-1]) if layout.is_key(part)), None)


def check_record(content: bytes, path: str, where: str, remedy: str) -> Record:
    """Read a record and check its place and date.

    Args:
        path: Path of the file inside the store.
        where: Name of the file for messages.
        remedy: What to do about it.

    Raises:
        UnreadableRecord: The record is damaged or edited, has a newer schema, or lies under another key or name.
        FutureDate: The record is dated in the future.
    """
    record = parse_record(content, where)
    digest, name = digest_of(path), basename(path)
    if key_digest(record.key) != digest:
        raise UnreadableRecord(where, f"is in the folder of another key, {digest}", remedy)
    expected = layout.file_name(record)
    if name != expected:
        raise UnreadableRecord(where, f"has another name than its content requires, which is {expected}", remedy)
    if is_future(name):
        raise FutureDate(where, layout.day_of(name))
    return record


def check_note(content: bytes, path: str, where: str, remedy: str) -> Note:
    """Read a note and check its place and date.

    Raises:
        UnreadableRecord: The note is damaged or has a newer schema, or its name says something else than its content.
        FutureDate: The note is dated in the future.
    """
    name, folder = basename(path), basename(dirname(path))
    if layout.is_calibration(path):
        calibration = parse_note(content, Calibration, where, remedy)
        return _dated(calibration, name, where, folder == layout.calibrations_folder(calibration.device), remedy)
    if name.endswith(ACCEPTED):
        acceptance = parse_note(content, Acceptance, where, remedy)
        matches = acceptance.record == layout.parse_path(name.removesuffix(ACCEPTED)).id
        return _dated(acceptance, stem_of(acceptance.accepted_utc), where, matches, remedy)
    if record_file := layout.record_of_judgement(name):
        judgement = parse_note(content, Judgement, where, remedy)
        expected = layout.judgement_name(record_file, judgement.gate, judgement.verdict)
        matches = (judgement.record, name) == (layout.parse_path(record_file).id, expected)
        return _dated(judgement, stem_of(judgement.at_utc), where, matches, remedy)
    if folder == PINS:
        pin = parse_note(content, Pin, where, remedy)
        matches = (pin.record, pin.pinned) == (layout.parse_path(layout.record_of_pin(name)).id, layout.is_pin(name))
        return _dated(pin, max(time_of(name), stem_of(pin.at_utc)), where, matches, remedy)
    pruning = parse_note(content, Pruning, where, remedy)
    return _dated(pruning, max(time_of(name), stem_of(pruning.at_utc)), where, True, remedy)


def _dated(note: Note, time: str, where: str, matches: bool, remedy: str) -> Note:
    if not matches:
        raise UnreadableRecord(where, "has another name than its content requires", remedy)
    if is_future(time):
        raise FutureDate(where, layout.day_of(time))
    return note


def check(content: bytes, path: str, where: str, remedy: str) -> None:
    """Check any file of a store.

    Raises:
        UnreadableRecord: The content does not match the path.
        FutureDate: The file is dated in the future.
    """
    if layout.is_record(path) and not layout.is_calibration(path):
        check_record(content, path, where, remedy)
    else:
        check_note(content, path, where, remedy)
