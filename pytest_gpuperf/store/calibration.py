"""Calibrations: the spread between A/A records of a device, in ``STORE/<device>.priors/<utc>-<nonce>.prior``.

The folder of a device has no dot in its name, and record files have another ending, so that nothing in a store takes a
calibration for a record. Nothing is rewritten; the newest calibration holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_gpuperf.errors import FutureDate, UnreadableRecord
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.dates import is_future
from pytest_gpuperf.store.notes import Note, check_texts, note_content, parse_note
from pytest_gpuperf.store.store import Store

_REMEDY = "Restore it, or delete it to use the calibration before it, or none."


@dataclass(frozen=True)
class Calibration(Note):
    """The spread between records of one device, as ``gpuperf calibrate`` measured it.

    Attributes:
        device: Device model, as in keys.
        record_sd: Standard deviation of the log of a record's value, by metric.
        freedom: Degrees of freedom of ``record_sd``, by metric.
        records: Number of records.
        tests: Tests that were measured.
        author: Who measured it.
        from_store: Whether it comes from records of baselines, which have passed their gates, instead of a suite that
            was run with nothing changed.
    """

    device: str
    record_sd: Mapping[str, float]
    freedom: Mapping[str, float]
    records: int
    tests: tuple[str, ...]
    author: str = ""
    from_store: bool = False

    def __post_init__(self) -> None:
        check_texts(self.device, self.author, *self.tests)
        if self.records < 0:
            raise ValueError("the number of records must be 0 or more")
        for numbers in (self.record_sd, self.freedom):
            if not all(0 <= number < math.inf for number in numbers.values()):
                raise ValueError("spreads and degrees of freedom must be finite and not negative")


def is_better_founded(calibration: Calibration, other: Calibration) -> bool:
    """Return whether a calibration knows something better than another: by how it was measured, or in some metric."""
    measured = other.from_store and not calibration.from_store
    return measured or any(freedom > other.freedom.get(metric, 0.0) for metric, freedom in calibration.freedom.items())


def write_calibration(store: Store, calibration: Calibration) -> str:
    """Store a calibration, to which later gates of the device shrink their spread, and return its path.

    Raises:
        StoreError: The calibration can't be written.
    """
    folder = f"{store.files.root}/{layout.calibrations_folder(calibration.device)}"
    earlier = filter(layout.is_calibration, store.files.names(folder))
    path = f"{folder}/{layout.new_note_stem(earlier)}{layout.CALIBRATION}"
    store.files.put(path, note_content(calibration))
    return path


def newest_calibration(store: Store, device: str) -> Calibration | None:
    """Return the calibration that holds for a device; None without one.

    Raises:
        StoreError: The store can't be listed.
        UnreadableRecord: The newest calibration is damaged, has a newer schema, or is dated in the future.
    """
    folder = f"{store.files.root}/{layout.calibrations_folder(device)}"
    for name in filter(layout.is_calibration, sorted(store.files.names(folder), reverse=True)):
        calibration = _read(store, f"{folder}/{name}")
        if calibration.device == device:  # devices with similar names share a folder
            if is_future(name):
                raise FutureDate(store.describe(f"{folder}/{name}"), layout.day_of(name))
            return calibration
    return None


def _read(store: Store, path: str) -> Calibration:
    where = store.describe(path)
    try:
        content = store.files.read(path)
    except OSError as error:
        raise UnreadableRecord(where, f"can't be read: {error}", _REMEDY) from error
    return parse_note(content, Calibration, where, _REMEDY)
