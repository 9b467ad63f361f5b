"""Notes: the small files beside records, which say what people decided about them.

A note is ``{"gpuperf": SCHEMA, LABEL: {...}}``; the label is the name of its class in lower case.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import SCHEMA
from pytest_gpuperf.model.codec import from_builtins, to_builtins
from pytest_gpuperf.store.key import canonical
from pytest_gpuperf.store.record_file import newer_schema

NoteT = TypeVar("NoteT")


@dataclass(frozen=True)
class Acceptance:
    """Acceptance of a record into the baseline by hand: by whom, and why."""

    record: str
    author: str
    reason: str
    accepted_utc: str


@dataclass(frozen=True)
class Pin:
    """Pinning or unpinning of a record: by whom, and why."""

    record: str
    pinned: bool
    author: str
    reason: str
    at_utc: str


@dataclass(frozen=True)
class Pruning:
    """Deletion of records of a key: by whom, and by which rule."""

    records: tuple[str, ...]
    author: str
    reason: str
    at_utc: str


def note_content(note: object) -> bytes:
    """Serialise a note."""
    return canonical({"gpuperf": SCHEMA, _label(type(note)): to_builtins(note)}).encode()


def parse_note(content: bytes, kind: type[NoteT], where: str, remedy: str) -> NoteT:
    """Read a note.

    Args:
        where: Name of the file for messages.
        remedy: What to do about a damaged file.

    Raises:
        UnreadableRecord: The content is damaged, or has a newer schema.
    """
    label = _label(kind)
    try:
        data = json.loads(content)
        if data["gpuperf"] > SCHEMA:
            raise newer_schema(where, data["gpuperf"])
        return from_builtins(kind, data[label], label)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableRecord(where, f"is not a valid {label}: {error}", remedy) from error


def _label(kind: type) -> str:
    return kind.__name__.lower()
