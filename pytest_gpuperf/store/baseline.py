"""Which stored sessions a new one is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from pytest_gpuperf.errors import StoreError, UnreadableSession
from pytest_gpuperf.model import Plain, PlainMapping, Session
from pytest_gpuperf.store.key import difference
from pytest_gpuperf.store.layout import Entry
from pytest_gpuperf.store.store import Store

#: Sessions in the rolling window: enough for their own spread to outweigh the prior, few enough to follow the machine.
WINDOW = 20
#: Files of one key that are opened at most in search of them: more than there are when damaged ones are among them.
MOST_OPENED = 3 * WINDOW
#: The same for the search of a session that is *not* comparable, which only explains.
MOST_NEAR = 40

BOTH, ROLLING, PINNED, SESSION, COMMIT = "both", "rolling", "pinned", "session", "commit"
_ID = re.compile(r"[0-9a-f]{4,32}")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Choice:
    """What a new session is to be compared with.

    Attributes:
        kind: ``both`` (the rolling window, and what is pinned beside it), ``rolling``, ``pinned``, ``session``,
            ``commit``.
        value: of ``session`` the id or its beginning, of ``commit`` the hash.
    """

    kind: str = BOTH
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Choice:
        """What people write: ``both``, ``rolling``, ``pinned``, a session's id, or ``commit:1a2b3c4``.

        Raises:
            ValueError: it is nothing of these; says what to write.
        """
        if text in (BOTH, ROLLING, PINNED):
            return cls(text)
        commit = text.removeprefix("commit:")
        if commit != text and _COMMIT.fullmatch(commit):
            return cls(COMMIT, commit)
        if _ID.fullmatch(text):
            return cls(SESSION, text)
        raise ValueError(
            "write both, rolling, pinned, the id of a session (gpuperf baseline list shows them), or commit: and seven "
            "or more digits of its hash"
        )


@dataclass(frozen=True)
class Baseline:
    """The baseline of one key.

    Attributes:
        sessions: newest first.
        unreadable: files that should have been considered and can't be read.
        differing: when there is no session of this key but of the same test: the newest one's key fields that differ,
            as name to (there, here). Where a session or a commit was asked for, only that one's.
        pinned: compared with as well, so that slow creep is not absorbed; the one pinned last first.
    """

    sessions: tuple[Session, ...] = ()
    unreadable: tuple[UnreadableSession, ...] = ()
    differing: dict[str, tuple[Plain, Plain]] | None = field(default=None)
    pinned: tuple[Session, ...] = ()


class _Reader:
    """Reads entries, and keeps those that can't be read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.opened = 0
        self.unreadable: list[UnreadableSession] = []

    def __call__(self, entry: Entry) -> Session | None:
        self.opened += 1
        try:
            return self._store.read(entry)
        except UnreadableSession as error:
            self.unreadable.append(error)
            return None

    @property
    def damaged(self) -> list[UnreadableSession]:
        """Those that are there. A pinned one whose file is gone has no more to say: what is left is unpinning it."""
        return [one for one in self.unreadable if not isinstance(one.__cause__, FileNotFoundError)]


def select_baseline(
    store: Store, key: PlainMapping, choice: Choice | None = None, *, before: Entry | None = None
) -> Baseline:
    """The sessions of this key that a new one is compared with.

    The rolling window has the newest that passed their own gate or were accepted by hand. A session accepted by hand
    starts it anew: it says that the level before it no longer holds. What is pinned stays.

    At most ``MOST_OPENED`` files are read, and those that are pinned.

    Args:
        choice: what to compare with; ``Choice()``, which is both, when None.
        before: take only what is older than this session.

    Raises:
        UnreadableSession: there are sessions of this key that could be the baseline, but none that can be read.
        StoreError: the store can't be listed, or the session that was asked for is not there.
    """
    chosen, folder, reader = choice or Choice(), store.folder(key), _Reader(store)
    sessions: list[Session] = []
    pinned: list[Session] = []
    if chosen.kind in (SESSION, COMMIT):
        sessions = _asked_for(store, folder, chosen, reader, before)
    if chosen.kind in (BOTH, ROLLING):
        sessions = _rolling(store, folder, reader, before)
    if chosen.kind in (BOTH, PINNED):
        found = (reader(entry) for entry in store.pinned(folder) if before is None or entry.name != before.name)
        pinned = [session for session in found if session is not None]
    if chosen.kind == PINNED:
        sessions, pinned = pinned, []
    if not sessions and not pinned:
        if reader.damaged:
            raise reader.damaged[0]
        differing = _nearest(store, key, chosen)
        if chosen.kind in (SESSION, COMMIT) and not differing:
            raise StoreError(_not_there(store, key, chosen))
        return Baseline(unreadable=tuple(reader.unreadable), differing=differing)
    return Baseline(tuple(sessions), tuple(reader.unreadable), pinned=tuple(pinned))


def duet_history(store: Store, key: PlainMapping, *, before: Entry | None = None) -> Baseline:
    """The newest duets of this key, for the spread between their blocks. Their verdicts don't matter for that.

    Raises:
        StoreError: the store can't be listed.
    """
    reader, sessions = _Reader(store), []
    for entry in _older(store.newest(store.folder(key)), before):
        if entry.duet and (session := reader(entry)) is not None and session.status == "complete":
            sessions.append(session)
        if len(sessions) == WINDOW or reader.opened == MOST_OPENED:
            break
    return Baseline(tuple(sessions), tuple(reader.unreadable))


def _rolling(store: Store, folder: str, reader: _Reader, before: Entry | None) -> list[Session]:
    sessions: list[Session] = []
    for entry in _older(store.newest(folder), before):
        if not entry.may_be_baseline:
            continue
        session = reader(entry)
        if session is not None and (entry.accepted or session.may_be_baseline):
            sessions.append(session)
        if entry.accepted or len(sessions) == WINDOW or reader.opened == MOST_OPENED:
            break
    return sessions


def _asked_for(store: Store, folder: str, choice: Choice, reader: _Reader, before: Entry | None) -> list[Session]:
    """The session of that id, or the newest of that commit."""
    entries = (entry for entry in _older(store.newest(folder), before) if _is_meant(entry, choice))
    found = list(entries if choice.kind == SESSION else islice(entries, WINDOW))
    if choice.kind == SESSION and len(found) > 1:
        raise StoreError(f"{len(found)} sessions of this test have an id that begins with {choice.value}.")
    sessions = [session for session in map(reader, found) if session is not None]
    cut = [session for session in sessions if session.status != "complete"]
    if cut and len(cut) == len(sessions):
        raise StoreError(f"Session {cut[0].id} was cut short, so it can't be a baseline. Choose another.")
    return [session for session in sessions if session.status == "complete"]


def _is_meant(entry: Entry, choice: Choice) -> bool:
    """Whether a choice can mean this session, by its name."""
    if choice.kind == SESSION:
        return not entry.duet and entry.id.startswith(choice.value)
    if choice.kind == COMMIT:
        # A name has eight digits of the commit.
        return not entry.duet and entry.commit.startswith(choice.value[:8])
    return True


def _older(entries: Iterator[Entry], before: Entry | None) -> Iterator[Entry]:
    return (entry for entry in entries if before is None or entry.name < before.name)


def _not_there(store: Store, key: PlainMapping, choice: Choice) -> str:
    what = f"of commit {choice.value}" if choice.kind == COMMIT else choice.value
    return (
        f"There is no session {what} of {key.get('test')} on {key.get('device')} in {store.url}.\n"
        "See them with: gpuperf baseline list"
    )


def _nearest(store: Store, key: PlainMapping, choice: Choice) -> dict[str, tuple[Plain, Plain]] | None:
    """The key fields in which the newest other session of the test differs, on this device if there is one there.

    Of the session or the commit that was asked for, if one was: that others differ does not explain why it is missing.
    """
    for folders in (store.folders(key), store.elsewhere(key)):
        meant = ((entry for entry in store.newest(folder) if _is_meant(entry, choice)) for folder in folders)
        heads = [entry for entries in meant for entry in islice(entries, 1)]
        heads.sort(key=lambda entry: entry.name, reverse=True)
        for entry in heads[:MOST_NEAR]:
            try:
                session = store.read(entry)
            except UnreadableSession:
                continue  # it belongs to another key, whose own gate names it
            differing = difference(session.key, key)
            if differing and session.test == key.get("test"):
                return differing
    return None
