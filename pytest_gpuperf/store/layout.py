"""How sessions lie in a store, as names.

``STORE/<device>/<test>-<8 digits>/<key digest>/<day>/<utc>-<commit8>-<id>.json``: one file for each test and session.
A folder for each day, since the gate wants the newest sessions of a key: it lists the days and opens the last few, so
that years of history cost no more than a week. A folder for each test, so that the sessions that are *not* comparable,
other keys of the same test, are found without looking at every other test.

The name of a session file says what the search for a baseline has to know:

* ``....json`` may become part of a baseline;
* ``....rejected.json`` may not by itself: its gate failed, or it was cut short;
* ``....duet.json`` (or ``....duet.rejected.json``) is a duet, whose level is not that of a session of its own.

Beside it lies ``<session file>.accepted.json`` when somebody took it into the baseline. ``pins/`` and ``pruned/`` of a
key hold one small file for every pin, unpin and pruning. What ``gpuperf calibrate`` measured lies beside the device's
folder, in ``STORE/<device>.priors/`` (``calibration``).

Stores of the first version had ``STORE/<device>/<key digest>/<session file>``, all sessions of a key in one folder.
They are read as they are, and new sessions go beside them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timezone

from pytest_gpuperf.model import PlainMapping, Session
from pytest_gpuperf.store.key import key_digest, slug

ACCEPTED = ".accepted.json"
PINS, PRUNED = "pins", "pruned"
_REJECTED, _DUET = ".rejected", ".duet"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_KEY = re.compile(r"[0-9a-f]{12}")
_SESSION = re.compile(r"\d{8}T\d{9}Z-(?P<commit>[^/]*)-(?P<id>[^-/]+?)(?:\.duet)?(?:\.rejected)?\.json")
#: What ``branch.PATH`` lets no file be called; a commit that people name may be any text.
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]")
_PIN = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]+-(?P<what>pin|unpin)-(?P<session>.+)")


@dataclass(frozen=True)
class Entry:
    """One session file, not yet read.

    Attributes:
        path: inside the store's file system.
        id: the session's.
        accepted: somebody accepted it by hand.
        rejected: its name says that it may not become a baseline by itself.
        pinned: it is compared with, however old it is.
        duet: it has a reference of its own.
    """

    path: str
    id: str
    accepted: bool
    rejected: bool = False
    pinned: bool = False
    duet: bool = False

    @property
    def name(self) -> str:
        """The file's; names sort by time."""
        return self.path.rpartition("/")[2]

    @property
    def commit(self) -> str:
        """The first digits of the commit; ``nocommit`` without one."""
        found = _SESSION.fullmatch(self.name)
        return found["commit"] if found else ""

    @property
    def day(self) -> str:
        """When it was measured, as ``2026-01-31``."""
        return day_of(self.name)

    @property
    def may_be_baseline(self) -> bool:
        """Worth opening in search of the baseline."""
        return (self.accepted or not self.rejected) and not self.duet


def entry_of(path: str, *, accepted: bool = False, pinned: bool = False) -> Entry:
    """What a session file's name says."""
    stem = path.rpartition("/")[2].removesuffix(".json")
    rejected, stem = stem.endswith(_REJECTED), stem.removesuffix(_REJECTED)
    duet, stem = stem.endswith(_DUET), stem.removesuffix(_DUET)
    return Entry(path, stem.rpartition("-")[2], accepted, rejected, pinned, duet)


def file_name(session: Session) -> str:
    """The name of a session's file."""
    ending = (_DUET if is_duet(session) else "") + ("" if session.may_be_baseline else _REJECTED)
    at = _utc(session.created_utc)
    milliseconds = at.microsecond // 1000
    commit = _NO_NAME.sub("", session.commit)[:8] or "nocommit"
    return f"{at:%Y%m%dT%H%M%S}{milliseconds:03}Z-{commit}-{session.id}{ending}.json"


def is_duet(session: Session) -> bool:
    """It was measured beside a reference."""
    return bool(session.reference)


def day_of(name: str) -> str:
    """The folder of the day that a session file's name tells."""
    return f"{name[:4]}-{name[4:6]}-{name[6:8]}"


def is_day(name: str) -> bool:
    """Whether a folder holds the sessions of one day."""
    return _DAY.fullmatch(name) is not None


def is_key(name: str) -> bool:
    """Whether a folder holds the sessions of one key."""
    return _KEY.fullmatch(name) is not None


def is_session(name: str) -> bool:
    """Whether a file is a session, and not one of the small ones beside it, or half written."""
    return is_json(name) and not name.endswith(ACCEPTED)


def is_json(path: str) -> bool:
    """Whether a file is a session or one of the small ones, and not half written."""
    return path.endswith(".json") and not path.rpartition("/")[2].startswith(".")


def device_folder(key: PlainMapping) -> str:
    """The folder of a key's device."""
    return slug(str(key.get("device", "")))


def test_folder(key: PlainMapping) -> str:
    """The folder of a key's test: what people call it, and a digest of all of its id."""
    test = str(key.get("test", ""))
    return f"{slug(test.rpartition('::')[2])}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"


def key_folder(key: PlainMapping) -> str:
    """The folder of a key, below the store's root."""
    return f"{device_folder(key)}/{test_folder(key)}/{key_digest(key)}"


def old_folder(folder: str) -> str:
    """Where the first version put the sessions of a key whose folder this is."""
    parts = folder.split("/")
    return "/".join((*parts[:-2], parts[-1]))


def note_name(at_utc: str, nonce: str) -> str:
    """The name of a small file that no other takes; names sort by time."""
    return f"{_utc(at_utc):%Y%m%dT%H%M%S%f}Z-{nonce}.json"


def pin_name(session_file: str, note: str, *, pinned: bool) -> str:
    """The name of the small file that says that a session is pinned, or no longer is."""
    return f"{note.removesuffix('.json')}-{'pin' if pinned else 'unpin'}-{session_file}"


def pinned_files(pin_names: list[str]) -> list[str]:
    """The session files that are pinned now, the one pinned last first."""
    found: dict[str, bool] = {}
    for name in sorted(pin_names):
        match = _PIN.fullmatch(name)
        if match:
            found.pop(match["session"], None)
            found[match["session"]] = match["what"] == "pin"
    return [name for name, pinned in reversed(found.items()) if pinned]


def session_of_pin(name: str) -> str:
    """The session file that a pin's name tells of; empty when it is no such name."""
    match = _PIN.fullmatch(name)
    return match["session"] if match else ""


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(timezone.utc) if at.tzinfo else at
