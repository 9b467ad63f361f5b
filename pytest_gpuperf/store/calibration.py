"""What A/A sessions showed of a device, as small files: ``STORE/<device>.priors/<utc>-<nonce>.prior``.

No device's folder has a dot in its name, and no session file that ending, so nothing else in a store mistakes them for
its own. As everywhere in a store nothing is rewritten; the newest one holds.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import SCHEMA
from pytest_gpuperf.model.codec import from_builtins, to_builtins
from pytest_gpuperf.store import layout
from pytest_gpuperf.store.key import canonical
from pytest_gpuperf.store.store import Store

#: Of a prior's file.
ENDING = ".prior"


@dataclass(frozen=True)
class Calibration:
    """The spread between sessions of one device.

    Attributes:
        device: as keys name it.
        session_sd: by metric, the standard deviation of the log of a session's value.
        freedom: by metric, its degrees of freedom.
        sessions: how many were measured.
        tests: of which tests.
        author: who had them measured.
    """

    device: str
    session_sd: Mapping[str, float]
    freedom: Mapping[str, float]
    sessions: int
    tests: tuple[str, ...]
    author: str = ""

    def __post_init__(self) -> None:
        for numbers in (self.session_sd, self.freedom):
            if not all(0 <= number < math.inf for number in numbers.values()):
                raise ValueError("a spread and its degrees of freedom are numbers from 0 on")


def write_calibration(store: Store, calibration: Calibration) -> str:
    """Store what later gates of the device shrink to; its path.

    Raises:
        StoreError: it can't be written.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
    name = layout.note_name(now, uuid.uuid4().hex[:6]).removesuffix(".json") + ENDING
    path = f"{_folder(store, calibration.device)}/{name}"
    store.files.put(path, canonical({"gpuperf": SCHEMA, "calibration": to_builtins(calibration)}).encode())
    return path


def newest_calibration(store: Store, device: str) -> Calibration | None:
    """What holds for a device; None where it was never calibrated.

    Raises:
        StoreError: the store can't be listed, or the file is damaged or newer than this version.
    """
    folder = _folder(store, device)
    for name in sorted(store.files.names(folder), reverse=True):
        if name.endswith(ENDING) and not name.startswith("."):
            found = _read(store, f"{folder}/{name}")
            if found.device == device:  # folders of devices whose names are alike are the same
                return found
    return None


def _folder(store: Store, device: str) -> str:
    return f"{store.files.root}/{layout.device_folder({'device': device})}.priors"


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
