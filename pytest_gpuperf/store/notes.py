"""Notes: the small files beside records, which say what people decided about them.

A note is ``{"gpuperf": SCHEMA, "sha256": ..., LABEL: {...}}``; the label is the name of its class in lower case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import GATES, check_utc
from pytest_gpuperf.model.codec import Mismatch, from_builtins, to_builtins
from pytest_gpuperf.store.record_format.sealed_file import sealed, unsealed

#: Longest author or reason in a note.
_LONGEST_TEXT = 2000


@dataclass(frozen=True)
class Note:
    """Decision about records, with its time; the base of all notes."""


NoteT = TypeVar("NoteT", bound=Note)


@dataclass(frozen=True)
class Acceptance(Note):
    """Acceptance of a record into the baseline by hand: by whom, and why.

    Attributes:
        after: Name of the newest other record of the key at that moment; empty without one.
    """

    record: str
    author: str
    reason: str
    accepted_utc: str
    after: str = ""

    def __post_init__(self) -> None:
        check_texts(self.author, self.reason)
        check_utc(self.accepted_utc)


@dataclass(frozen=True)
class Pin(Note):
    """Pinning or unpinning of a record: by whom, and why."""

    record: str
    pinned: bool
    author: str
    reason: str
    at_utc: str

    def __post_init__(self) -> None:
        check_texts(self.author, self.reason)
        check_utc(self.at_utc)


@dataclass(frozen=True)
class Pruning(Note):
    """Deletion of records of a key: by whom, and by which rule.

    Attributes:
        accepted: Those of the records that were accepted, as far as the store knew.
    """

    records: tuple[str, ...]
    author: str
    reason: str
    at_utc: str
    accepted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_texts(self.author, self.reason)
        check_utc(self.at_utc)


@dataclass(frozen=True)
class Judgement(Note):
    """How a record is judged at the end of its invocation, where that differs from the end of its test.

    Attributes:
        gate, verdict: See ``Record``.
    """

    record: str
    gate: str
    verdict: str
    at_utc: str

    def __post_init__(self) -> None:
        check_texts(self.verdict)
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {', '.join(GATES)}, not {self.gate!r}")
        check_utc(self.at_utc)


def check_texts(*texts: str) -> None:
    """Check what people wrote: stored text is printed.

    Raises:
        ValueError: A text is too long, or has control characters.
    """
    for text in texts:
        if len(text) > _LONGEST_TEXT or not text.isprintable():
            raise ValueError(f"a text has control characters, or more than {_LONGEST_TEXT} characters")


def note_text(text: str) -> str:
    """Return a text as notes may hold it: a single line without control characters, of limited length."""
    words = "".join(letter if letter.isprintable() else " " for letter in text).split()
    return " ".join(words)[:_LONGEST_TEXT]


def note_content(note: Note) -> bytes:
    """Serialise a note."""
    return sealed(_label(type(note)), to_builtins(note))


def parse_note(content: bytes, kind: type[NoteT], where: str, remedy: str) -> NoteT:
    """Read a note.

    Args:
        where: Name of the file for messages.
        remedy: What to do about a damaged file.

    Raises:
        UnreadableRecord: The content is damaged, or has a newer schema.
    """
    label = _label(kind)
    body = unsealed(content, label, where, remedy)
    try:
        return from_builtins(kind, body, label)
    except Mismatch as error:
        raise UnreadableRecord(where, f"is not a valid {label}: {error}", remedy) from error


def _label(kind: type) -> str:
    return kind.__name__.lower()
