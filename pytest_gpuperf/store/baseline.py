"""Which stored sessions a new one is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_gpuperf.errors import UnreadableSession
from pytest_gpuperf.model import Plain, PlainMapping, Session
from pytest_gpuperf.store.key import difference
from pytest_gpuperf.store.store import Store

#: Sessions in the rolling window: enough for their own spread to outweigh the prior, few enough to follow the machine.
WINDOW = 20


@dataclass(frozen=True)
class Baseline:
    """The baseline of one key.

    Attributes:
        sessions: newest first.
        unreadable: files that should have been considered and can't be read.
        differing: when there is no session of this key but of the same test: the newest one's key fields that differ,
            as name to (there, here).
    """

    sessions: tuple[Session, ...] = ()
    unreadable: tuple[UnreadableSession, ...] = ()
    differing: dict[str, tuple[Plain, Plain]] | None = field(default=None)


def select_baseline(store: Store, key: PlainMapping) -> Baseline:
    """The newest sessions of this key that passed their own gate or were accepted by hand.

    A session accepted by hand starts the baseline anew: it says that the level before it no longer holds.

    At most ``WINDOW`` files are read, and those that turn out unreadable.

    Raises:
        UnreadableSession: there are sessions of this key that could be the baseline, but none that can be read.
        StoreError: the store can't be listed.
    """
    sessions: list[Session] = []
    unreadable: list[UnreadableSession] = []
    for entry in store.entries(store.folder(key)):
        if not entry.may_be_baseline:
            continue
        try:
            session = store.read(entry)
            if entry.accepted or session.may_be_baseline:
                sessions.append(session)
        except UnreadableSession as error:
            unreadable.append(error)
        if entry.accepted or len(sessions) == WINDOW:
            break
    if unreadable and not sessions:
        raise unreadable[0]
    if sessions:
        return Baseline(tuple(sessions), tuple(unreadable))
    return Baseline(differing=_nearest(store, key))


def _nearest(store: Store, key: PlainMapping) -> dict[str, tuple[Plain, Plain]] | None:
    """The key fields in which the newest other session of the test on this device differs; None without one."""
    newest: tuple[str, dict[str, tuple[Plain, Plain]]] | None = None
    for folder in store.folders(key):
        for entry in store.entries(folder)[:1]:
            try:
                session = store.read(entry)
            except UnreadableSession:
                continue  # it belongs to another key, whose own gate names it
            differing = difference(session.key, key)
            if differing and session.test == key.get("test") and (newest is None or session.created_utc > newest[0]):
                newest = (session.created_utc, differing)
    return newest[1] if newest else None
