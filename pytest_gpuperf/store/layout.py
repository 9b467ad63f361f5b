"""Names of the files and folders of a store.

A record is ``STORE/<device>/<test>-<8 digits>/<key digest>/<day>/<utc>-<commit8>-<id>.json``: one file per test and
invocation. Each day has a folder, since the gate wants the newest records of a key: it lists the days and opens the
last few, so that years of history cost no more than a week. Each test has a folder, so that records under other keys of
the same test are listed without the other tests.

The name of a record file contains what the search for a baseline needs:

* ``....json`` may join the baseline;
* ``....unchanged.json`` and ``....improved.json`` may, too, and show that suspect records before them were noise;
* ``....suspect.json`` waits: it joins once a later record is unchanged or improved, or if it is accepted by hand;
* ``....rejected.json`` may not join unless it is accepted by hand: its gate failed, it inherited a regression, or it
  was cut short;
* ``....duet.json`` (or ``....duet.rejected.json``) is a duet, which is compared with its own reference only.

Notes lie beside the records: ``<record file>.accepted.json`` for an acceptance, ``<record file>.judged.json`` (with the
same endings as above) if the end of the invocation decided otherwise than the end of the test, and in the folders
``pins/`` and ``pruned/`` of a key a file for every pin, unpin and pruning. An unpin has the same time and digits as its
pin.
Calibrations lie in ``STORE/<device>.priors/`` (``calibration``).
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from posixpath import basename, dirname

from pytest_gpuperf.model import PlainMapping, Record
from pytest_gpuperf.store.dates import is_future, moment_after, stem, time_of
from pytest_gpuperf.store.key import key_digest, slug

ACCEPTED = ".accepted.json"
PINS, PRUNED = "pins", "pruned"
#: Endings of a calibration and of its folder.
CALIBRATION, CALIBRATIONS = ".prior", ".priors"
#: A record of a hundred load points and eight runs is below 10 MB; a much larger file is not a record.
LARGEST_BYTES = 32 << 20
_DUET = ".duet"
#: What the name of a record says of its gate, if anything.
_REJECTED, _SUSPECT, _SETTLING = "rejected", "suspect", ("unchanged", "improved")
_STATES = (_REJECTED, _SUSPECT, *_SETTLING)
_ANY_STATE = "|".join(_STATES)
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_KEY = re.compile(r"[0-9a-f]{12}")
_RECORD = re.compile(rf"\d{{8}}T\d{{9}}Z-(?P<commit>[^/]*)-(?P<id>[^-/]+?)(?:\.duet)?(?:\.(?:{_ANY_STATE}))?\.json")
_JUDGEMENT = re.compile(rf"(?P<record>[^/]+\.json)\.judged(?:\.(?P<state>{_ANY_STATE}))?\.json")
#: Characters that ``branch.PATH`` allows in no file name; the commit may be any text.
_FORBIDDEN = re.compile(r"[^A-Za-z0-9._+-]")
_PIN = re.compile(r"(?P<stem>\d{8}T\d{12}Z-[0-9a-f]+)-(?P<action>pin|unpin)-(?P<record>.+)")


@dataclass(frozen=True)
class RecordFile:
    """A record file that has not been read.

    Attributes:
        path: Path inside the store's file system.
        id: Id of the record.
        accepted: Whether the record was accepted by hand.
        rejected: Whether the record may join the baseline only if it is accepted by hand.
        suspect: Whether the record waits until it is accepted, or until a later record is unchanged or improved.
        cleared: Whether a later record is unchanged or improved, so that a suspect record may join the baseline.
        settles: Whether the record is unchanged or improved, and clears the suspect records before it.
        judgement: Path of the note about the record from the end of its invocation; empty without a note.
        pinned: Whether the record is compared with, however old it is.
        duet: Whether the record has a reference.
        place: Time that orders the record, where it is not the time in its name.
        future: Whether the record is dated in the future, so that its time of measurement is unknown.
    """

    path: str
    id: str
    accepted: bool
    rejected: bool = False
    pinned: bool = False
    duet: bool = False
    place: str = ""
    future: bool = False
    suspect: bool = False
    cleared: bool = False
    settles: bool = False
    judgement: str = ""

    @property
    def name(self) -> str:
        """Name of the file; names sort by time."""
        return basename(self.path)

    @property
    def order(self) -> tuple[str, str]:
        """What orders the records of a key by time."""
        return self.place or time_of(self.name), self.name

    @property
    def commit(self) -> str:
        """First digits of the commit; ``nocommit`` without a commit."""
        match = _RECORD.fullmatch(self.name)
        return match["commit"] if match else ""

    @property
    def day(self) -> str:
        """Day of the measurement, as ``2026-01-31``."""
        return day_of(self.name)

    @property
    def waits(self) -> bool:
        """Whether the record is suspect, and nothing has decided about it yet."""
        return self.suspect and not (self.cleared or self.accepted)

    @property
    def joins(self) -> bool:
        """Whether the name allows the record among those that later ones are compared with."""
        return self.accepted or not (self.rejected or self.waits)

    @property
    def may_be_baseline(self) -> bool:
        """Whether the name allows the record in a baseline."""
        return self.joins and not self.duet


def parse_path(path: str, *, accepted: bool = False, pinned: bool = False, judgement: str = "") -> RecordFile:
    """Describe a record file by its name, and by that of the note about it."""
    stem = basename(path).removesuffix(".json")
    ending = stem.rpartition(".")[2]
    state = ending if ending in _STATES else ""
    stem = stem.removesuffix(f".{state}") if state else stem
    duet, stem = stem.endswith(_DUET), stem.removesuffix(_DUET)
    if match := _JUDGEMENT.fullmatch(basename(judgement)):
        state = match["state"] or ""
    return RecordFile(
        path,
        stem.rpartition("-")[2],
        accepted,
        state == _REJECTED,
        pinned,
        duet,
        suspect=state == _SUSPECT,
        settles=state in _SETTLING and not duet,
        judgement=judgement,
    )


def cleared(files: Iterable[RecordFile]) -> Iterator[RecordFile]:
    """Yield the records of a key, newest first, with those suspect ones cleared that a later record clears."""
    settled = False
    for file in files:
        yield replace(file, cleared=True) if settled and file.suspect else file
        settled = settled or file.settles


def file_name(record: Record) -> str:
    """Return the name of a record's file."""
    created = stem(datetime.fromisoformat(record.created_utc))
    commit = _FORBIDDEN.sub("", record.commit)[:8] or "nocommit"
    ending = _ending(record.gate, record.verdict) if record.status == "complete" else f".{_REJECTED}"
    if record.reference:
        ending = _DUET + ("" if record.may_be_baseline else f".{_REJECTED}")
    return f"{created}Z-{commit}-{record.id}{ending}.json"


def judgement_name(record_file: str, gate: str, verdict: str) -> str:
    """Return the name of the note that says how a complete record is judged now.

    Args:
        record_file: Name of the record's file, which says how it was judged before.
        gate, verdict: See ``Record``.
    """
    return f"{record_file}.judged{_ending(gate, verdict)}.json"


def _ending(gate: str, verdict: str) -> str:
    """Return what the name of a complete record says of its gate."""
    if gate in ("passed", "open"):
        return f".{verdict}" if verdict in _SETTLING else ""
    return f".{_SUSPECT if gate == 'suspect' else _REJECTED}"


def record_of_judgement(name: str) -> str:
    """Return the record file that a judgement is about; empty if the name is not a judgement's."""
    match = _JUDGEMENT.fullmatch(name)
    return match["record"] if match else ""


def day_of(name: str) -> str:
    """Return the folder of the day for a file name that begins with a time."""
    return f"{name[:4]}-{name[4:6]}-{name[6:8]}"


def is_day(name: str) -> bool:
    """Return whether a folder holds the records of one day."""
    return _DAY.fullmatch(name) is not None


def is_key(name: str) -> bool:
    """Return whether a folder holds the records of one key."""
    return _KEY.fullmatch(name) is not None


def is_record(path: str) -> bool:
    """Return whether a file is a record, not a note or an incomplete file."""
    name, folder = basename(path), basename(dirname(path))
    return is_json(path) and not (name.endswith(ACCEPTED) or record_of_judgement(name) or folder in (PINS, PRUNED))


def by_name(name: str) -> tuple[bool, str]:
    """Return what orders record files by time; files that have no record's name are the oldest."""
    return _RECORD.fullmatch(name) is not None, name


def is_ahead(name: str) -> bool:
    """Return whether a record file is dated in the future."""
    return _RECORD.fullmatch(name) is not None and is_future(name)


def is_json(path: str) -> bool:
    """Return whether a file is a record or a note, not an incomplete file."""
    return path.endswith(".json") and not basename(path).startswith(".")


def is_calibration(path: str) -> bool:
    """Return whether a file is a calibration, not an incomplete file."""
    return path.endswith(CALIBRATION) and not basename(path).startswith(".")


def calibrations_folder(device: str) -> str:
    """Return the folder for a device's calibrations, below the store's root."""
    return device_folder({"device": device}) + CALIBRATIONS


def device_folder(key: PlainMapping) -> str:
    """Return the folder of a key's device."""
    return slug(str(key.get("device", "")))


def test_folder(key: PlainMapping) -> str:
    """Return the folder of a key's test: its short name, and a digest of its full id."""
    test = str(key.get("test", ""))
    return f"{slug(test.rpartition('::')[2])}-{hashlib.sha256(test.encode()).hexdigest()[:8]}"


def key_folder(key: PlainMapping) -> str:
    """Return the folder of a key, below the store's root."""
    return f"{device_folder(key)}/{test_folder(key)}/{key_digest(key)}"


def record_path(key: PlainMapping, name: str) -> str:
    """Return the path of a record file, below the store's root."""
    return f"{key_folder(key)}/{day_of(name)}/{name}"


def new_note_stem(earlier: Iterable[str] = ()) -> str:
    """Return a unique beginning of the name of a note written now.

    Args:
        earlier: Names of notes that sort before it, also if the clock of their machine was a little ahead.
    """
    latest = max((name for name in earlier if not is_future(name)), default="")
    return f"{moment_after(latest, timedelta(milliseconds=1)):%Y%m%dT%H%M%S%f}Z-{uuid.uuid4().hex[:6]}"


def pin_name(record_file: str, stem: str, *, pinned: bool) -> str:
    """Return the name of the note that pins a record, or that revokes the pin with the same ``stem``.

    An unpin names the pin that it revokes, so that the order of their clocks does not matter.
    """
    return f"{stem}-{'pin' if pinned else 'unpin'}-{record_file}"


def pinned_files(pin_names: list[str]) -> list[str]:
    """Return the names of the record files that are pinned, the last pinned first."""
    return list(dict.fromkeys(name for _, name in sorted(pins_in_force(pin_names), reverse=True)))


def pins_in_force(pin_names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pins that no unpin revokes, each as the beginning of its name and its record file."""
    pins: dict[str, set[tuple[str, str]]] = {"pin": set(), "unpin": set()}
    for match in filter(None, map(_PIN.fullmatch, pin_names)):
        pins[match["action"]].add((match["stem"], match["record"]))
    return sorted(pins["pin"] - pins["unpin"])


def may_differ(path: str) -> bool:
    """Return whether two stores may have different files of this name: two people may make the same decision."""
    name = basename(path)
    match = _PIN.fullmatch(name)
    return name.endswith(ACCEPTED) or (match is not None and match["action"] == "unpin")


def is_pin(name: str) -> bool:
    """Return whether a note pins its record."""
    match = _PIN.fullmatch(name)
    return match is not None and match["action"] == "pin"


def record_of_pin(name: str) -> str:
    """Return the record file that a pin is about; empty when the name is not a pin's."""
    match = _PIN.fullmatch(name)
    return match["record"] if match else ""
