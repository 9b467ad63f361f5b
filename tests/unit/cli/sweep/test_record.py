from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_gpuperf.cli.main import main
from pytest_gpuperf.cli.sweep.record import SWEEP_METHOD, SweepRecord
from pytest_gpuperf.cli.sweep.settings import RecordSettings, SteppedRange, SweepSettings
from pytest_gpuperf.device import find_device
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.model import LoadPoint, Record
from pytest_gpuperf.store import Store
from tests.unit.cli.stores import gpuperf
from tests.unit.factories import window

SETTINGS = SweepSettings("resnet50", levels=SteppedRange(1, 2))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def sweep(
    store: Store, p50_ms: float = 4.0, *, target: RecordSettings | None = None, complete: bool = True, windows: int = 4
) -> None:
    """Store a sweep over two levels, of which the first window at each is three times as slow as the others."""
    record = SweepRecord(SETTINGS, target or RecordSettings(store.url, gpu="NVIDIA L4"))
    for point in (LoadPoint(1), LoadPoint(2)):
        for visit in range(windows):
            slow = 3.0 if visit == 0 else 1.0
            record.add(window(point, p50_ms=p50_ms * slow * point.concurrency, visit=visit))
        record.end_level(SETTINGS.counted_windows)
    record.under_test = {"server": "triton 2.50"}
    record.store(complete=complete)


def records(store: Store) -> list[Record]:
    """All records, newest first."""
    return [store.read(file) for folder in store.folders() for file in store.newest(folder)]


def test_the_record_has_the_windows_that_make_up_the_levels(store: Store) -> None:
    sweep(store, target=RecordSettings(store.url, test="serving", commit="1a2b3c4d5e", gpu="NVIDIA L4"))
    (record,) = records(store)
    (run,) = record.runs
    assert [(one.point.concurrency, one.visit) for one in run.windows] == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
        (2, 3),
    ]
    assert {one.sweep for one in run.windows} == {"resnet50"}
    assert record.key == {"device": "NVIDIA L4", "test": "serving", "version": 1, "method_version": SWEEP_METHOD}
    assert (record.commit, record.status, record.gate) == ("1a2b3c4d5e", "complete", "open")
    assert record.under_test == {"resnet50": {"server": "triton 2.50"}}
    assert record.settings["window_s"] == 5.0
    assert "uncommitted_changes" not in record.environment


def test_defaults_are_the_model_the_local_device_and_the_checked_out_commit(store: Store) -> None:
    device = find_device("cpu")
    sweep(store, target=RecordSettings(store.url, device="cpu"))
    (record,) = records(store)
    assert record.key == {**device.key, "test": "resnet50", "version": 1, "method_version": SWEEP_METHOD}
    assert record.environment["host"] == device.environment["host"]
    assert re.fullmatch(r"[0-9a-f]{40}|", record.commit)
    assert "uncommitted_changes" in record.environment


def test_each_sweep_is_compared_with_those_before(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for p50_ms, verdict, status in (
        (4.0, "NO BASELINE", 0),
        (4.01, "unchanged|inconclusive", 0),
        (9.0, "regressed", 1),
    ):
        sweep(store, p50_ms)
        printed = capsys.readouterr().out
        assert re.match(f"resnet50: ({verdict})", printed), printed
        assert "stored as " in printed
        assert gpuperf(store, "compare") == status
        capsys.readouterr()
    assert [record.gate for record in records(store)] == ["failed", "passed", "open"]
    assert gpuperf(store, "report") == 0
    assert "resnet50" in capsys.readouterr().out
    assert gpuperf(store, "history") == 0
    assert "p50 of resnet50, all load points, 3 records" in capsys.readouterr().out


def test_an_interrupted_sweep_is_stored_and_never_a_baseline(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(store, complete=False)
    assert (
        "resnet50: measurement cut short after 1 run; stored, but never used as a baseline" in capsys.readouterr().out
    )
    sweep(store)
    assert "NO BASELINE" in capsys.readouterr().out
    assert [record.status for record in records(store)] == ["complete", "incomplete"]
    assert not records(store)[1].runs[0].complete


def test_without_a_window_there_is_no_record(store: Store) -> None:
    sweep(store, windows=0)
    assert records(store) == []


def test_an_unwritable_store_is_reported_before_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    url = str(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="can't be written"):
        SweepRecord(SETTINGS, RecordSettings(url, gpu="NVIDIA L4"))
    # Nothing listens there, which only a sweep that has begun would notice.
    assert main(["sweep", "-m", "resnet50", "-u", "127.0.0.1:9", "--store", url]) == 1
    captured = capsys.readouterr()
    assert f"gpuperf: The store {url} can't be written" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--test serving", "--test describes a stored record: name the store, for example --store .gpuperf."),
        ("--commit 1a2b3c4d", "--commit describes a stored record"),
        ("--device cpu", "--device describes a stored record"),
        ("--store s --commit v1", "--commit v1: write seven or more digits"),
        ("--store s -u gpu7:8000", "--store needs the GPU that gpu7 computes on, for the record's key"),
        ("--store s -u https://10.0.0.7:8000", "name it with --gpu 'NVIDIA L4', or write --device auto"),
    ],
)
def test_missing_record_options_are_reported_before_the_sweep(
    line: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", "-m", "resnet50", *line.split()]) == 2
    captured = capsys.readouterr()
    assert part in captured.err
    assert captured.out == ""
    assert not list(tmp_path.iterdir())
