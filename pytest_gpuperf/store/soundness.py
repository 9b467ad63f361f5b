"""Whether a file from elsewhere is what its place in a store says, looked at before it is taken over."""

from __future__ import annotations

import json
from typing import TypeVar

from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import SCHEMA, Record
from pytest_gpuperf.model.codec import from_builtins
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.calibration import ENDING, Calibration
from pytest_gpuperf.store.key import key_digest
from pytest_gpuperf.store.layout import ACCEPTED, PINS, PRUNED
from pytest_gpuperf.store.record_file import parse
from pytest_gpuperf.store.store import Acceptance, Pin, Pruning

NoteType = TypeVar("NoteType")


def digest_of(path: str) -> str | None:
    """The digest of the key in whose folder a file lies; None when it lies in none."""
    return next((part for part in reversed(path.split("/")[:-1]) if layout.is_key(part)), None)


def check_record(content: bytes, path: str, where: str, remedy: str) -> Record:
    """A record that lies where it belongs.

    Args:
        path: inside the store.
        where: what the file is called in errors.

    Raises:
        UnreadableRecord: it is damaged, edited, too new, or lies under another key or name than its own.
    """
    record = parse(content, where)
    digest, name = digest_of(path), path.rpartition("/")[2]
    if key_digest(record.key) != digest:
        raise UnreadableRecord(where, f"lies in the folder of another key than its own, {digest}", remedy)
    expected = layout.file_name(record)
    if name != expected:
        raise UnreadableRecord(where, f"has another name than its content says, which is {expected}", remedy)
    return record


def check_note(content: bytes, kind: type[NoteType], label: str, where: str, remedy: str) -> NoteType:
    """A small file.

    Args:
        label: of its content in the file.

    Raises:
        UnreadableRecord: it is not whole, or too new.
    """
    try:
        data = json.loads(content)
        if data["gpuperf"] > SCHEMA:
            raise UnreadableRecord(where, "is newer than this version", "pip install --upgrade pytest-gpuperf")
        return from_builtins(kind, data[label], label)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableRecord(where, f"is not a whole {label}: {error}", remedy) from error


def check(content: bytes, path: str, where: str, remedy: str) -> None:
    """Look at any file of a store.

    Raises:
        UnreadableRecord: it is not what its place says.
    """
    name, folder = path.rpartition("/")[2], path.split("/")[-2:-1]
    if name.endswith(ENDING):
        check_note(content, Calibration, "calibration", where, remedy)
    elif name.endswith(ACCEPTED):
        check_note(content, Acceptance, "acceptance", where, remedy)
    elif folder == [PINS]:
        check_note(content, Pin, "pin", where, remedy)
    elif folder == [PRUNED]:
        check_note(content, Pruning, "pruning", where, remedy)
    else:
        check_record(content, path, where, remedy)
