"""How records lie in a store, as names.

``STORE/<device>/<test>-<8 digits>/<key digest>/<day>/<utc>-<commit8>-<id>.json``: one file for each test and record.
A folder for each day, since the gate wants the newest records of a key: it lists the days and opens the last few, so
that years of history cost no more than a week. A folder for each test, so that the records that are *not* comparable,
other keys of the same test, are found without looking at every other test.

The name of a record file says what the search for a baseline has to know:

* ``....json`` may become part of a baseline;
* ``....rejected.json`` may not by itself: its gate failed, or it was cut short;
* ``....duet.json`` (or ``....duet.rejected.json``) is a duet, whose level is not that of a record of its own.

Beside it lies ``<record file>.accepted.json`` when somebody took it into the baseline. ``pins/`` and ``pruned/`` of a
key hold one small file for every pin, unpin and pruning. What ``gpuperf calibrate`` measured lies beside the device's
folder, in ``STORE/<device>.priors/`` (``calibration``).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timezone

from pytest_gpuperf.model import PlainMapping, Record
from pytest_gpuperf.store.key import key_digest, slug

ACCEPTED = ".accepted.json"
PINS, PRUNED = "pins", "pruned"
_REJECTED, _DUET = ".rejected", ".duet"
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_KEY = re.compile(r"[0-9a-f]{12}")
_RECORD = re.compile(r"\d{8}T\d{9}Z-(?P<commit>[^/]*)-(?P<id>[^-/]+?)(?:\.duet)?(?:\.rejected)?\.json")
#: What ``branch.PATH`` lets no file be called; a commit that people name may be any text.
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]")
_PIN = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]+-(?P<what>pin|unpin)-(?P<record>.+)")


@dataclass(frozen=True)
class RecordFile:
    """One record file, not yet read.

    Attributes:
        path: inside the store's file system.
        id: the record's.
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
        found = _RECORD.fullmatch(self.name)
        return found["commit"] if found else ""

    @property
    def day(self) -> str:
        """When it was measured, as ``2026-01-31``."""
        return day_of(self.name)

    @property
    def may_be_baseline(self) -> bool:
        """Worth opening in search of the baseline."""
        return (self.accepted or not self.rejected) and not self.duet


def entry_of(path: str, *, accepted: bool = False, pinned: bool = False) -> RecordFile:
    """What a record file's name says."""
    stem = path.rpartition("/")[2].removesuffix(".json")
    rejected, stem = stem.endswith(_REJECTED), stem.removesuffix(_REJECTED)
    duet, stem = stem.endswith(_DUET), stem.removesuffix(_DUET)
    return RecordFile(path, stem.rpartition("-")[2], accepted, rejected, pinned, duet)


def file_name(record: Record) -> str:
    """The name of a record's file."""
    ending = (_DUET if is_duet(record) else "") + ("" if record.may_be_baseline else _REJECTED)
    at = _utc(record.created_utc)
    milliseconds = at.microsecond // 1000
    commit = _NO_NAME.sub("", record.commit)[:8] or "nocommit"
    return f"{at:%Y%m%dT%H%M%S}{milliseconds:03}Z-{commit}-{record.id}{ending}.json"


def is_duet(record: Record) -> bool:
    """It was measured beside a reference."""
    return bool(record.reference)


def day_of(name: str) -> str:
    """The folder of the day that a record file's name tells."""
    return f"{name[:4]}-{name[4:6]}-{name[6:8]}"


def is_day(name: str) -> bool:
    """Whether a folder holds the records of one day."""
    return _DAY.fullmatch(name) is not None


def is_key(name: str) -> bool:
    """Whether a folder holds the records of one key."""
    return _KEY.fullmatch(name) is not None


def is_record(name: str) -> bool:
    """Whether a file is a record, and not one of the small ones beside it, or half written."""
    return is_json(name) and not name.endswith(ACCEPTED)


def is_json(path: str) -> bool:
    """Whether a file is a record or one of the small ones, and not half written."""
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


def note_name(at_utc: str, nonce: str) -> str:
    """The name of a small file that no other takes; names sort by time."""
    return f"{_utc(at_utc):%Y%m%dT%H%M%S%f}Z-{nonce}.json"


def pin_name(record_file: str, note: str, *, pinned: bool) -> str:
    """The name of the small file that says that a record is pinned, or no longer is."""
    return f"{note.removesuffix('.json')}-{'pin' if pinned else 'unpin'}-{record_file}"


def pinned_files(pin_names: list[str]) -> list[str]:
    """The record files that are pinned now, the one pinned last first."""
    found: dict[str, bool] = {}
    for name in sorted(pin_names):
        match = _PIN.fullmatch(name)
        if match:
            found.pop(match["record"], None)
            found[match["record"]] = match["what"] == "pin"
    return [name for name, pinned in reversed(found.items()) if pinned]


def record_of_pin(name: str) -> str:
    """The record file that a pin's name tells of; empty when it is no such name."""
    match = _PIN.fullmatch(name)
    return match["record"] if match else ""


def _utc(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(timezone.utc) if at.tzinfo else at
