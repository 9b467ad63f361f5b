from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from pytest_gpuperf.cli import calibrate
from pytest_gpuperf.cli.judging import rule_for
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.model import Record
from pytest_gpuperf.store import Calibration, Store, newest_calibration, write_calibration
from tests.unit.cli.stores import gpuperf, measured
from tests.unit.factories import KEY, record


class Fake:
    """Stands for pytest: stores a record, and ends as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[str], str]] = []
        self.statuses: dict[int, int] = {}
        self.gate = "open"

    def __call__(self, arguments: Sequence[str], store: str, log: Path) -> int:
        index = len(self.calls)
        self.calls.append((list(arguments), store))
        log.write_text(f"pytest's output {index}\n")
        status = self.statuses.get(index, 0)
        if status < 2:
            gate = "failed" if status else self.gate
            measured(Store(store), f"{index:04x}", 4.0 * (1 + 0.002 * (index % 3)), day=index, gate=gate)
        return status


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    found = Fake()
    monkeypatch.setattr(calibrate, "measure", found)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_five_invocations_make_a_prior(fake: Fake, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "tests/perf", "--store", store.url, "--", "-k", "resnet"]) == 0
    assert [arguments for arguments, _ in fake.calls] == [["tests/perf", "-k", "resnet"]] * 5
    assert len({url for _, url in fake.calls} | {store.url}) == 6
    assert not any(Path(url).exists() for _, url in fake.calls)
    assert list(store.folders()) == []  # the baseline doesn't see them
    text = capsys.readouterr().out
    assert "false alarms in 0 of 5 records, 0.0% [95% interval 0.0% to 52.2%]" in text
    assert "m=20 k=8" in text
    assert "serving: whole sweep" in text
    found = newest_calibration(store, str(KEY["device"]))
    assert found is not None
    assert (found.records, found.freedom["p50"]) == (5, 4)
    assert 0 < found.record_sd["p50"] < 0.02


@pytest.mark.usefixtures("fake")
def test_the_stored_prior_changes_a_verdict(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Against a single record, 4% is nothing on any GPU, and much on this one."""
    for name, level, day in (("aaaa0", 4.0, 0), ("aaaa1", 4.16, 1)):
        store.write(record([[level]] * 3, name=name, minute=1440 * day))
    assert gpuperf(store, "compare") == 0
    assert gpuperf(store, "calibrate", "suite", "--records", "12", "--prior-only") == 0
    capsys.readouterr()
    assert gpuperf(store, "compare", "--format", "json") == 1
    (one,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert one["verdict"] == "regressed"


@pytest.mark.usefixtures("fake")
def test_other_devices_keep_their_prior(store: Store) -> None:
    gpuperf(store, "calibrate", "suite")
    other: Record = record(key={**KEY, "device": "NVIDIA A100"})
    assert rule_for(other, store=store) == rule_for(other)
    assert rule_for(record(), store=store) != rule_for(record())


def test_only_the_prior(fake: Fake, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(store, "calibrate", "suite", "--records", "2", "--prior-only") == 0
    text = capsys.readouterr().out
    assert len(fake.calls) == 2
    assert "power" not in text
    assert "p50: records differ by" in text


def test_failed_tests_are_reported_and_left_out(fake: Fake, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    fake.statuses = {2: 1}
    assert gpuperf(store, "calibrate", "suite") == 1
    text = capsys.readouterr().out
    assert "pytest's output 2" in text
    assert "0 of 4 records" in text


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ({0: 1}, "The first invocation measured no usable record"),
        ({0: 4}, "The suite can't be run"),
        ({1: 5}, "The suite can't be run"),
        ({1: 1}, "no two records of the same test"),
    ],
)
def test_too_little_to_calibrate(
    fake: Fake, store: Store, capsys: pytest.CaptureFixture[str], statuses: dict[int, int], message: str
) -> None:
    fake.statuses = statuses
    assert gpuperf(store, "calibrate", "suite", "--records", "2") == 1
    assert len(fake.calls) == max(statuses) + 1  # it ends there
    assert message in capsys.readouterr().err
    assert newest_calibration(store, str(KEY["device"])) is None


def test_from_the_store(fake: Fake, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for day in range(8):
        measured(store, f"aaaa{day}", day=day)
    measured(store, "bbbb0", 9.0, day=9, gate="failed")
    assert gpuperf(store, "calibrate", "--from-store") == 0
    assert not fake.calls
    text = capsys.readouterr().out
    assert "0 of 8 records" in text
    assert "0 of 1 invocation" in text  # the factories give all records the same one
    found = newest_calibration(store, str(KEY["device"]))
    assert found is not None
    assert found.freedom["p50"] == 7


def with_calibration(store: Store, freedom: float, *, from_store: bool) -> Calibration:
    """Store a calibration and eight records, which know 7 degrees of freedom."""
    spreads = dict.fromkeys(("p50", "p90", "throughput"), 0.01)
    known = Calibration(str(KEY["device"]), spreads, dict.fromkeys(spreads, freedom), 9, (), "ada", from_store)
    write_calibration(store, known)
    for day in range(8):
        measured(store, f"aaaa{day}", day=day)
    return known


@pytest.mark.parametrize(("freedom", "from_store"), [(9.0, True), (3.0, False)])
def test_the_store_replaces_no_better_founded_calibration_unasked(
    store: Store, capsys: pytest.CaptureFixture[str], freedom: float, *, from_store: bool
) -> None:
    known = with_calibration(store, freedom, from_store=from_store)
    assert gpuperf(store, "calibrate", "--from-store", "--prior-only") == 1
    out, err = capsys.readouterr()
    assert "--from-store --yes" in err
    assert f"p50: records differ by 1.00% ({freedom:.0f} degrees of freedom)" in out
    assert "(7 degrees of freedom)" in out
    assert newest_calibration(store, known.device) == known
    assert gpuperf(store, "calibrate", "--from-store", "--prior-only", "--yes") == 0
    replaced = newest_calibration(store, known.device)
    assert replaced is not None
    assert replaced.from_store
    assert replaced.freedom["p50"] == 7


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("", 1)])
def test_a_terminal_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch, answer: str, status: int) -> None:
    known = with_calibration(store, 9.0, from_store=True)
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert gpuperf(store, "calibrate", "--from-store", "--prior-only") == status
    assert (newest_calibration(store, known.device) == known) is bool(status)


def test_the_store_replaces_what_it_showed_with_fewer_records(store: Store) -> None:
    known = with_calibration(store, 3.0, from_store=True)
    assert gpuperf(store, "calibrate", "--from-store", "--prior-only") == 0
    assert newest_calibration(store, known.device) != known


def test_an_empty_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpuperf(Store(str(tmp_path)), "calibrate", "--from-store") == 1
    assert "Measure some: gpuperf calibrate SUITE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate"], "name the suite"),
        (["calibrate", "suite", "--records", "1"], "whole number of 2 or more"),
        (["calibrate", "suite", "--from-store"], "takes neither a suite nor --records"),
        (["calibrate", "suite", "--yes"], "only goes with --from-store"),
        (["baseline", "list", "--", "-k"], "takes no arguments after --"),
    ],
)
def test_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
