"""What an import takes from somebody else's store, and in which order records count."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.errors import FutureDate, StoreError
from pytest_gpuperf.model import Record, Verdict
from pytest_gpuperf.publish.comparison import compare_record, prior_of
from pytest_gpuperf.store import (
    ALL_NOTES,
    NOTE_KINDS,
    Calibration,
    Store,
    import_records,
    layout,
    newest_calibration,
    select_baseline,
    write_calibration,
)
from pytest_gpuperf.store.dates import TOLERANCE
from pytest_gpuperf.store.notes import Acceptance, note_content
from pytest_gpuperf.store.record_format.record_file import record_content
from tests.unit.factories import KEY, equal_runs, record

NOW = datetime.now(timezone.utc)
METRICS = ("p50", "p90", "throughput", "energy")


def at(moment: datetime, name: str, ms: float = 1.0, gate: str = "passed") -> Record:
    """A record of three runs at a time."""
    utc = moment.isoformat(timespec="milliseconds")
    return replace(record(equal_runs(ms), name=name, gate=gate), created_utc=utc)


def ago(**units: float) -> datetime:
    return NOW - timedelta(**units)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six records of the last days."""
    store = Store(str(tmp_path / "store"))
    for day in range(6):
        store.write(at(ago(days=6 - day), f"good{day}", 1 + day * 0.002))
    return store


def tar(path: Path, files: Mapping[str, bytes]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def as_file(record: Record) -> tuple[str, bytes]:
    return layout.record_path(record.key, layout.file_name(record)), record_content(record)


def verdict_of_a_slowdown(store: Store) -> Verdict:
    """What the gate says of a record that is three times slower."""
    slow = at(NOW, "slow", 3.0)
    rule = Rule(prior=prior_of(store, str(KEY["device"]), "gpu"))
    return compare_record(slow, select_baseline(store, KEY), rule).verdict


def baseline(store: Store) -> list[str]:
    return [member.id for member in select_baseline(store, KEY).records]


# Imports


def calibration_of_a_wide_spread(_: Record) -> tuple[str, bytes]:
    wide = Calibration("NVIDIA L4", dict.fromkeys(METRICS, 3.0), dict.fromkeys(METRICS, 1e9), 9, (), "the maintainer")
    return f"nvidia-l4.priors/{layout.new_note_stem()}.prior", note_content(wide)


def acceptance_in_another_name(slow: Record) -> tuple[str, bytes]:
    path, _ = as_file(slow)
    return f"{path}.accepted.json", note_content(
        Acceptance(slow.id, "the maintainer", "a larger model", NOW.isoformat(timespec="milliseconds"))
    )


@pytest.mark.parametrize("poison", [calibration_of_a_wide_spread, acceptance_in_another_name])
def test_notes_of_others_are_taken_only_when_asked_for(
    poison: Callable[[Record], tuple[str, bytes]],
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow = at(ago(minutes=5), "proposed", 3.0, gate="failed")
    source = tar(tmp_path / "records.tar", dict([as_file(slow), poison(slow)]))
    assert verdict_of_a_slowdown(store) is Verdict.REGRESSED
    assert main(["baseline", "import", source, "--store", store.url]) == 0
    assert verdict_of_a_slowdown(store) is Verdict.REGRESSED
    out = capsys.readouterr().out
    assert out.startswith(f"Imported 1 record into {store.url}.\nLeft out, because notes can accept a regression.")
    assert "by the maintainer" in out.splitlines()[-1]
    kind = "calibrations" if poison is calibration_of_a_wide_spread else "acceptances"
    others = ",".join(sorted(ALL_NOTES - {kind}))
    assert main(["baseline", "import", source, "--store", store.url, "--notes", others]) == 0
    assert verdict_of_a_slowdown(store) is Verdict.REGRESSED
    capsys.readouterr()
    assert main(["baseline", "import", source, "--store", store.url, "--notes", kind]) == 0
    assert "by the maintainer" in capsys.readouterr().out.splitlines()[1]
    assert verdict_of_a_slowdown(store) is not Verdict.REGRESSED


def test_records_of_the_future_are_left_out_and_named(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    future = [at(datetime(2999, 1, 1, second=n, tzinfo=timezone.utc), f"future{n}", 3.0) for n in range(20)]
    honest = at(ago(minutes=1), "honest", 3.0, gate="failed")
    source = tar(tmp_path / "records.tar", dict(map(as_file, [*future, honest])))
    assert main(["baseline", "import", source, "--store", store.url, "--notes", "all"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("Imported 1 record into")
    assert captured.err.count("is dated 2999-01-01, in the future") == 20
    assert store.find("honest").rejected
    assert verdict_of_a_slowdown(store) is Verdict.REGRESSED


def test_notes_of_the_future_are_left_out(store: Store, tmp_path: Path) -> None:
    slow = at(ago(minutes=5), "proposed", 3.0, gate="failed")
    path, _ = as_file(slow)
    late = Acceptance(slow.id, "ada", "why", "2999-01-01T00:00:00.000+00:00")
    source = tar(tmp_path / "r.tar", dict([as_file(slow), (f"{path}.accepted.json", note_content(late))]))
    result = import_records(store, source, notes=ALL_NOTES)
    assert (result.records, result.notes) == (1, ())
    assert [type(error) for error in result.left_out] == [FutureDate]


def test_a_single_record_is_imported(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [at(ago(minutes=n), f"new{n}", 3.0) for n in range(1, 4)]
    source = tar(tmp_path / "records.tar", dict(map(as_file, records)))
    assert main(["baseline", "import", source, "--record", "new2", "--store", store.url]) == 0
    assert "1 record passed the gate elsewhere, and may join a baseline here" in capsys.readouterr().out
    assert baseline(store)[:2] == ["new2", "good5"]
    assert main(["baseline", "import", source, "--record", "old", "--store", store.url]) == 1
    assert "It has no record old." in capsys.readouterr().err


def test_an_id_is_not_taken_over(store: Store, tmp_path: Path) -> None:
    for files in (
        [at(ago(minutes=1), "good3", 3.0)],
        [at(ago(minutes=1), "twice", 3.0), at(ago(minutes=2), "twice", 3.0)],
    ):
        source = tar(tmp_path / "records.tar", dict(map(as_file, files)))
        with pytest.raises(StoreError, match=r"has the id of another record, .*; ids are unique"):
            import_records(store, source)
    assert len(baseline(store)) == 6


def test_a_name_is_not_taken_over(store: Store, tmp_path: Path) -> None:
    path, content = as_file(at(ago(days=1), "good5", 3.0))
    assert Path(store.find("good5").path).name == Path(path).name
    with pytest.raises(StoreError, match=r"differs from .*; records never change"):
        import_records(store, tar(tmp_path / "records.tar", {path: content}))


def test_kinds_of_notes_are_those_there_are(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["baseline", "import", str(tmp_path), "--notes", "pins,wishes"])
    assert f"'wishes': write all, or one or more of {', '.join(NOTE_KINDS)}" in capsys.readouterr().err


# Clocks that are wrong


def test_an_accepted_record_of_the_future_does_not_hide_later_ones(store: Store) -> None:
    store.write(at(NOW + timedelta(days=400), "ahead", 3.0, gate="failed"))
    store.accept(store.find("ahead"), "the larger model")
    assert baseline(store) == ["ahead"]
    for minutes in (20, 40):  # longer than a busy machine needs to come here
        moment = NOW + timedelta(minutes=minutes)
        store.write(at(moment, f"later{minutes}", 3.0))
    assert baseline(store) == ["later40", "later20", "ahead"]
    assert [file.id for file in store.newest(store.folder(KEY))][:4] == ["later40", "later20", "ahead", "good5"]


def test_the_order_stays_when_that_future_has_come(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(at(NOW + timedelta(days=400), "ahead", 3.0, gate="failed"))
    store.accept(store.find("ahead"), "the larger model")
    store.write(at(NOW + timedelta(minutes=20), "later", 3.0))
    monkeypatch.setattr("pytest_gpuperf.store.dates.TOLERANCE", timedelta(days=800))
    assert baseline(store) == ["later", "ahead"]


def test_an_acceptance_by_the_same_wrong_clock_begins_after_the_records_there_were(store: Store) -> None:
    path = store.write(at(NOW + timedelta(days=400), "ahead", 3.0, gate="failed"))
    ahead = (NOW + timedelta(days=400, minutes=1)).isoformat(timespec="milliseconds")
    before = store.find("good5").name
    store.files.put(path + ".accepted.json", note_content(Acceptance("ahead", "ada", "why", ahead, before)))
    store.write(at(NOW, "later", 3.0))
    assert baseline(store) == ["later", "ahead"]


def test_other_records_of_the_future_are_named_and_left_out(store: Store) -> None:
    store.write(at(NOW + timedelta(days=400), "ahead", 3.0))
    selected = select_baseline(store, KEY)
    assert [member.id for member in selected.records] == [f"good{day}" for day in reversed(range(6))]
    (error,) = selected.unreadable
    assert "ahead.json" in str(error)
    assert "the clock of the machine that wrote it was ahead, or this machine's is behind" in str(error)


def test_a_machine_whose_clock_is_behind_has_no_empty_baseline(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    store.write(at(NOW + timedelta(days=400), "ahead"))
    with pytest.raises(FutureDate, match="this machine's is behind"):
        select_baseline(store, KEY)


def test_a_clock_that_is_a_little_ahead_is_followed(store: Store) -> None:
    ahead = at(NOW + TOLERANCE / 2, "ahead")
    store.write(ahead)
    following = store.dated(at(NOW, "following"))
    assert following.created_utc > ahead.created_utc
    store.write(following)
    assert baseline(store)[:3] == ["following", "ahead", "good5"]
    store.write(at(NOW + timedelta(days=400), "far"))
    assert store.dated(at(NOW + TOLERANCE / 2 + timedelta(seconds=1), "x")).created_utc < "2" + ahead.created_utc


def test_an_unpin_holds_though_the_pin_is_dated_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(layout, "new_note_stem", lambda _=(): "29990101T000000000000Z-abcdef")
        store.pin(store.find("good1"), "release")
    assert [file.id for file in store.pinned(store.folder(KEY))] == ["good1"]
    store.unpin("good1")
    assert store.pinned(store.folder(KEY)) == []


def test_a_calibration_of_the_future_is_named(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = Calibration("NVIDIA L4", {"p50": 0.01}, {"p50": 4.0}, 5, ())
    with monkeypatch.context() as patch:
        patch.setattr(layout, "new_note_stem", lambda _=(): "29990101T000000000000Z-abcdef")
        write_calibration(store, spread)
    with pytest.raises(FutureDate, match="nvidia-l4"):
        newest_calibration(store, "NVIDIA L4")


def test_a_new_calibration_counts_though_the_last_was_by_a_clock_ahead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = f"{NOW + TOLERANCE / 2:%Y%m%dT%H%M%S%f}Z-abcdef"
    with monkeypatch.context() as patch:
        patch.setattr(layout, "new_note_stem", lambda _=(): ahead)
        write_calibration(store, Calibration("NVIDIA L4", {"p50": 0.01}, {"p50": 4.0}, 5, ()))
    newer = Calibration("NVIDIA L4", {"p50": 0.02}, {"p50": 4.0}, 5, ())
    write_calibration(store, newer)
    assert newest_calibration(store, "NVIDIA L4") == newer
