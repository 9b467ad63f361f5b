from __future__ import annotations

import math
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.store import Calibration, Store, import_records, newest_calibration, write_calibration
from pytest_gpuperf.store.record_format.sealed_file import sealed
from tests.unit.factories import KEY, record

ONE = Calibration("NVIDIA L4", {"p50": 0.01}, {"p50": 4.0}, 5, ("tests/test_a.py::test_a",), "ada")


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    url = str(tmp_path / "store") if request.param == "directory" else f"memory://calibration-{uuid.uuid4().hex}"
    return Store(url)


def test_the_newest_one_of_the_device_holds_and_nothing_is_rewritten(store: Store) -> None:
    assert newest_calibration(store, "NVIDIA L4") is None
    first = write_calibration(store, ONE)
    newer = replace(ONE, record_sd={"p50": 0.02})
    second = write_calibration(store, newer)
    assert first != second
    assert store.files.read(first)
    assert newest_calibration(store, "NVIDIA L4") == newer
    assert newest_calibration(store, "NVIDIA L40") is None


def test_devices_whose_folders_have_the_same_name_are_told_apart(store: Store) -> None:
    write_calibration(store, ONE)
    write_calibration(store, replace(ONE, device="nvidia-l4"))
    assert newest_calibration(store, "NVIDIA L4") == ONE


def test_a_calibration_is_never_taken_for_a_record(store: Store, tmp_path: Path) -> None:
    store.write(record(key=KEY))
    write_calibration(store, ONE)
    (folder,) = store.folders()
    assert list(store.folders(KEY)) == [folder]
    assert list(store.folders_elsewhere(KEY)) == []
    assert import_records(Store(str(tmp_path / "other")), store.url).records == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not complete JSON"),
        (b"[]", "is not a gpuperf calibration"),
        (b'{"gpuperf": 1, "calibration": {"device": 5}}', "does not match its own checksum"),
        (sealed("calibration", {"device": 5}), "is not a valid calibration"),
        (b'{"gpuperf": 999, "calibration": {}}', "Upgrade with"),
    ],
)
def test_a_damaged_file_is_reported(store: Store, content: bytes, message: str) -> None:
    path = write_calibration(store, ONE)
    store.files.put(path, content)
    with pytest.raises(StoreError, match=message):
        newest_calibration(store, "NVIDIA L4")


@pytest.mark.parametrize("sd", [-0.1, math.nan, math.inf])
def test_a_spread_is_finite_and_not_negative(sd: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        replace(ONE, record_sd={"p50": sd})
