"""What A/A records showed of a device, as small files: ``STORE/<device>.priors/<utc>-<nonce>.prior``.

No device's folder has a dot in its name, and no record file that ending, so nothing else in a store mistakes them for
its own. As everywhere in a store nothing is rewritten; the newest one holds.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import SCHEMA
from pytest_gpuperf.model.codec import from_builtins, to_builtins
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.key import canonical
from pytest_gpuperf.store.store import Store

#: Of a prior's file, and of the folder that it lies in.
ENDING, FOLDER_ENDING = ".prior", ".priors"


@dataclass(frozen=True)
class Calibration:
    """The spread between records of one device.

    Attributes:
        device: as keys name it.
        record_sd: by metric, the standard deviation of the log of a record's value.
        freedom: by metric, its degrees of freedom.
        records: how many were measured.
        tests: of which tests.
        author: who had them measured.
    """

    device: str
    record_sd: Mapping[str, float]
    freedom: Mapping[str, float]
    records: int
    tests: tuple[str, ...]
    author: str = ""

    def __post_init__(self) -> None:
        for numbers in (self.record_sd, self.freedom):
            if not all(0 <= number < math.inf for number in numbers.values()):
                raise ValueError("a spread and its degrees of freedom are numbers from 0 on")


def write_calibration(store: Store, calibration: Calibration) -> str:
    """Store what later gates of the device shrink to; its path.

    Raises:
        StoreError: it can't be written.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    name = layout.note_name(now, uuid.uuid4().hex[:6]).removesuffix(".json") + ENDING
    path = f"{store.files.root}/{priors_folder(calibration.device)}/{name}"
    store.files.put(path, canonical({"gpuperf": SCHEMA, "calibration": to_builtins(calibration)}).encode())
    return path


def newest_calibration(store: Store, device: str) -> Calibration | None:
    """What holds for a device; None where it was never calibrated.

    Raises:
        StoreError: the store can't be listed, or the file is damaged or newer than this version.
    """
    folder = f"{store.files.root}/{priors_folder(device)}"
    for name in sorted(store.files.names(folder), reverse=True):
        if is_prior(name):
            found = _read(store, f"{folder}/{name}")
            if found.device == device:  # folders of devices whose names are alike are the same
                return found
    return None


def prior_paths(store: Store) -> Iterator[str]:
    """What all devices have, as paths inside the store.

    Raises:
        StoreError: the store can't be listed.
    """
    files, root = store.files, store.files.root
    for folder in files.names(root):
        if folder.endswith(FOLDER_ENDING) and not folder.startswith("."):
            yield from (f"{folder}/{name}" for name in files.names(f"{root}/{folder}") if is_prior(name))


def is_prior(path: str) -> bool:
    """Whether a file is one, and not half written."""
    return path.endswith(ENDING) and not path.rpartition("/")[2].startswith(".")


def priors_folder(device: str) -> str:
    """Where what holds for a device lies, below the store's root."""
    return layout.device_folder({"device": device}) + FOLDER_ENDING


def _read(store: Store, path: str) -> Calibration:
    try:
        data = json.loads(store.files.read(path))
        if data["gpuperf"] > SCHEMA:
            why = f"has schema {data['gpuperf']}, and this version of pytest-gpuperf reads up to {SCHEMA}"
            raise StoreError(f"{store.describe(path)} {why}.\nUpgrade with: pip install --upgrade pytest-gpuperf")
        return from_builtins(Calibration, data["calibration"], "calibration")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"{store.describe(path)}, what gpuperf calibrate measured, can't be read: {error}\n"
            "Delete it to use the calibration before it, or none; or restore it."
        ) from error
