"""Checks of files from another store, before they are taken over."""

from __future__ import annotations

from posixpath import basename, dirname

from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.calibration import Calibration
from pytest_gpuperf.store.key import key_digest
from pytest_gpuperf.store.layout import ACCEPTED, CALIBRATION, PINS, PRUNED
from pytest_gpuperf.store.notes import Acceptance, Pin, Pruning, parse_note
from pytest_gpuperf.store.record_file import parse_record


def digest_of(path: str) -> str | None:
    """Return the key digest among the folders of a path; None if there is none."""
    return next((part for part in reversed(path.split("/")[:-1]) if layout.is_key(part)), None)


def check_record(content: bytes, path: str, where: str, remedy: str) -> Record:
    """Read a record and check its place.

    Args:
        path: Path of the file inside the store.
        where: Name of the file for messages.
        remedy: What to do about it.

    Raises:
        UnreadableRecord: The record is damaged or edited, has a newer schema, or lies under another key or name.
    """
    record = parse_record(content, where)
    digest, name = digest_of(path), basename(path)
    if key_digest(record.key) != digest:
        raise UnreadableRecord(where, f"is in the folder of another key, {digest}", remedy)
    expected = layout.file_name(record)
    if name != expected:
        raise UnreadableRecord(where, f"has another name than its content requires, which is {expected}", remedy)
    return record


def check(content: bytes, path: str, where: str, remedy: str) -> None:
    """Check any file of a store.

    Raises:
        UnreadableRecord: The content does not match the path.
    """
    kind: type[object] | None = {PINS: Pin, PRUNED: Pruning}.get(basename(dirname(path)))
    if path.endswith((CALIBRATION, ACCEPTED)):
        kind = Calibration if path.endswith(CALIBRATION) else Acceptance
    if kind is None:
        check_record(content, path, where, remedy)
    else:
        parse_note(content, kind, where, remedy)
