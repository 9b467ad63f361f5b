from __future__ import annotations

import io
import shutil
import tarfile
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError, StoreError
from pytest_gpuperf.store import (
    ALL_NOTES,
    Calibration,
    ExportResult,
    ImportResult,
    RecordFile,
    Store,
    export_records,
    import_records,
    newest_calibration,
    select_baseline,
    write_calibration,
)
from tests.unit.factories import KEY, record, run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two keys; one record failed and was accepted, one is pinned, one was pinned and is no longer."""
    store = Store(str(tmp_path / "store"))
    for index in range(4):
        store.write(record(name=f"s{index}", minute=index * 1000, gate="failed" if index == 2 else "passed"))
    store.write(record(name="other", key={**KEY, "version": 2}))
    store.write(replace(record(name="duet"), reference=(run(),)))
    store.accept(store.find("s2"), "a larger model")
    for name in ("s0", "s1"):
        store.pin(store.find(name), "release")
    store.unpin("s1")
    return store


@pytest.fixture(params=["folder", "memory", "export.tar", "export.tar.gz", "export.tgz"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory://export-{uuid.uuid4().hex}"
    return str(tmp_path / "deep" / request.param)


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "target"))


def everything(store: Store) -> list[tuple[str, RecordFile]]:
    return [(folder, entry) for folder in store.folders() for entry in store.newest(folder)]


def told(store: Store) -> list[tuple[str, bool, bool, bool]]:
    return sorted((entry.id, entry.accepted, entry.pinned, entry.duet) for _, entry in everything(store))


def contents(store: Store) -> dict[str, bytes]:
    root = Path(store.url)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_there_and_back_is_byte_for_byte_the_same(store: Store, place: str, target: Store) -> None:
    assert export_records(store, everything(store), place) == ExportResult(6, notes=4)
    assert counts(import_all(target, place)) == (6, 0, 4)
    assert contents(target) == contents(store)
    assert told(target) == told(store)
    assert [one.id for one in select_baseline(target, KEY).records] == ["s3", "s2"]
    assert [one.id for one in select_baseline(target, KEY).pinned] == ["s0"]


def test_an_import_may_be_repeated(store: Store, place: str, target: Store) -> None:
    export_records(store, everything(store), place)
    import_all(target, place)
    before = contents(target)
    assert counts(import_all(target, place)) == (0, 6, 0)
    assert counts(import_all(store, place)) == (0, 6, 0)
    assert contents(target) == before


def test_an_import_adds_to_what_is_there(store: Store, place: str, target: Store) -> None:
    export_records(store, everything(store), place)
    target.write(record(name="mine", minute=9000))
    import_all(target, place)
    assert {entry.id for _, entry in everything(target)} == {"s0", "s1", "s2", "s3", "other", "duet", "mine"}


def test_only_what_was_chosen_is_exported(store: Store, place: str, target: Store) -> None:
    chosen = [(folder, entry) for folder, entry in everything(store) if entry.id in ("s2", "other")]
    assert export_records(store, chosen, place) == ExportResult(2, notes=1)
    import_all(target, place)
    assert told(target) == [("other", False, False, False), ("s2", True, False, False)]


def test_exporting_again_into_a_folder_adds_what_is_new(store: Store, tmp_path: Path) -> None:
    place = str(tmp_path / "export")
    export_records(store, everything(store), place)
    store.write(record(name="s9", minute=9000))
    assert export_records(store, everything(store), place) == ExportResult(1, known=6)


def import_all(store: Store, source: str) -> ImportResult:
    return import_records(store, source, notes=ALL_NOTES)


def counts(result: ImportResult) -> tuple[int, int, int]:
    return result.records, result.known, len(result.notes)


def tampered(path: str, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """Write a tar anew, each file as ``change`` wants it."""
    with tarfile.open(path) as tar:
        found = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, content in found.items():
            new = change(name, content)
            if new is not None:
                info = tarfile.TarInfo(new[0])
                info.size = len(new[1])
                tar.addfile(info, io.BytesIO(new[1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, c: (n, c.replace(b'"requests":60', b'"requests":61', 1)), "checksum"),
        (lambda n, c: (n, c[:-30]), "not complete JSON"),
        (lambda n, c: (n, c.replace(b'"gpuperf":1', b'"gpuperf":99', 1)), "schema 99"),
        (lambda n, _: (n, b"[]"), "not a gpuperf record"),
        (lambda n, c: (n.replace("-s3", "-s7"), c), "another name than its content requires"),
        (lambda n, c: (n.replace(".json", ".rejected.json"), c), "another name than its content requires"),
        (lambda n, c: (n.split("/")[-1], c), "is not in the folder of a key"),
        (lambda n, c: ("/".join((*n.split("/")[:2], "0123456789ab", *n.split("/")[3:])), c), "folder of another key"),
    ],
)
def test_one_bad_record_and_nothing_is_imported(
    store: Store, tmp_path: Path, target: Store, change: Callable[[str, bytes], tuple[str, bytes]], message: str
) -> None:
    place = str(tmp_path / "export.tar")
    export_records(store, everything(store), place)
    tampered(place, lambda name, content: change(name, content) if name.endswith("-s3.json") else (name, content))
    with pytest.raises(StoreError, match=message) as caught:
        import_all(target, place)
    assert "Nothing was imported" in str(caught.value)
    assert "export.tar" in str(caught.value)
    assert not Path(target.url).exists()


def test_a_bad_note_is_named(store: Store, tmp_path: Path, target: Store) -> None:
    place = str(tmp_path / "export.tar")
    export_records(store, everything(store), place)
    tampered(place, lambda name, content: (name, b'{"gpuperf":1}' if ".accepted" in name else content))
    with pytest.raises(StoreError, match="is not a valid acceptance"):
        import_all(target, place)


def test_a_damaged_archive_is_refused_wherever_the_damage_is(store: Store, tmp_path: Path, target: Store) -> None:
    place = tmp_path / "export.tar.gz"
    export_records(store, everything(store), str(place))
    whole = place.read_bytes()
    for index in range(0, len(whole), len(whole) // 60):
        place.write_bytes(whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :])
        try:
            import_all(target, str(place))
        except StoreError:
            assert not Path(target.url).exists()
        else:  # gzip's header has a time and a name, on which nothing depends
            assert contents(target) == contents(store)
            shutil.rmtree(target.url)


def test_what_lies_behind_the_damage_is_not_forgotten(store: Store, tmp_path: Path, target: Store) -> None:
    place = tmp_path / "export.tar"
    export_records(store, everything(store), str(place))
    with tarfile.open(place) as tar:
        at = tar.getmembers()[3].offset
    whole = place.read_bytes()
    place.write_bytes(whole[:at] + b"?" + whole[at + 1 :])
    with pytest.raises(StoreError, match=r"export\.tar can't be read as a tar: .* byte \d+"):
        import_all(target, str(place))
    assert not Path(target.url).exists()


def test_a_note_without_its_record_is_left_out(store: Store, tmp_path: Path, target: Store) -> None:
    place = str(tmp_path / "export.tar")
    export_records(store, everything(store), place)
    tampered(place, lambda name, content: None if name.endswith("-s2.rejected.json") else (name, content))
    assert counts(import_all(target, place)) == (5, 0, 3)


def test_a_record_that_is_there_with_other_content_is_never_overwritten(
    store: Store, tmp_path: Path, target: Store
) -> None:
    place = str(tmp_path / "export.tar")
    export_records(store, everything(store), place)
    path = Path(target.write(record(name="s3", minute=3000, environment={"driver": "570"})))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="records never change"):
        import_all(target, place)
    assert path.read_bytes() == before
    assert len(contents(target)) == 1


L4 = Calibration("NVIDIA L4", {"p50": 0.01}, {"p50": 4.0}, 5, ("tests/test_a.py::test_a",), "ada")


def test_what_was_calibrated_of_a_device_goes_with_its_records(store: Store, place: str, target: Store) -> None:
    write_calibration(store, L4)
    write_calibration(store, replace(L4, device="NVIDIA T4"))  # it has no records here
    assert export_records(store, everything(store), place) == ExportResult(6, notes=5)
    assert counts(import_all(target, place)) == (6, 0, 5)
    assert newest_calibration(target, "NVIDIA L4") == L4
    assert newest_calibration(target, "NVIDIA T4") is None
    assert counts(import_all(target, place)) == (0, 6, 0)


def test_a_store_that_is_imported_as_it_is_brings_all_calibrations(store: Store, target: Store) -> None:
    write_calibration(store, L4)
    write_calibration(store, replace(L4, device="NVIDIA T4"))
    assert counts(import_all(target, store.url)) == (6, 0, 6)
    assert contents(target) == contents(store)


def test_a_damaged_calibration_is_named(store: Store, tmp_path: Path, target: Store) -> None:
    path = write_calibration(store, L4)
    Path(path).write_text("{")
    moved = export_records(store, everything(store), str(tmp_path / "export.tar"))
    assert (moved.records, moved.notes) == (6, 4)
    assert [Path(path).name in problem.where for problem in moved.unreadable] == [True]
    with pytest.raises(StoreError, match="is not complete JSON"):
        import_all(target, store.url)
    assert not Path(target.url).exists()


def test_two_may_accept_the_same_record(store: Store, place: str, target: Store) -> None:
    target.write(record(name="s2", minute=2000, gate="failed"))
    mine = target.accept(target.find("s2"), "my own reason", "Bob")
    export_records(store, everything(store), place)
    assert counts(import_all(target, place)) == (5, 1, 3)
    assert target.acceptance(target.find("s2")) == mine
    assert told(target) == told(store)
    assert export_records(target, everything(target), store.url) == ExportResult(0, known=6)


def test_a_tar_that_people_made_with_tar_is_fine(store: Store, tmp_path: Path, target: Store) -> None:
    with tarfile.open(tmp_path / "own.tar", "w") as tar:
        tar.add(store.url, arcname=".")
    assert counts(import_all(target, str(tmp_path / "own.tar"))) == (6, 0, 4)


def test_a_member_outside_is_no_way_out(store: Store, tmp_path: Path, target: Store) -> None:
    place = str(tmp_path / "export.tar")
    export_records(store, everything(store), place)
    tampered(place, lambda name, content: (f"../../{name}", content))
    import_all(target, place)
    assert contents(target) == contents(store)


def test_damaged_records_are_left_out_of_an_export_and_named(store: Store, tmp_path: Path) -> None:
    path = Path(store.find("s1").path)
    path.write_bytes(path.read_bytes()[:-10])
    moved = export_records(store, everything(store), str(tmp_path / "export.tar"))
    assert moved.records == 5
    assert [path.name in problem.where for problem in moved.unreadable] == [True]


@pytest.mark.parametrize("name", ["nothing.tar", "nothing", "text.tar.gz"])
def test_where_there_is_nothing_to_import(tmp_path: Path, target: Store, name: str) -> None:
    (tmp_path / "text.tar.gz").write_text("not a tar")
    with pytest.raises(StoreError, match=name):
        import_all(target, str(tmp_path / name))


def test_a_tar_is_written_whole_or_not_at_all(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="can't be written"):
        export_records(store, everything(store), str(tmp_path / "file" / "export.tar"))
    with pytest.raises(OptionError, match="written to this machine"):
        export_records(store, everything(store), "s3://bucket/export.tar")
    assert not list(tmp_path.glob("*.part"))


def test_an_empty_source_may_be_allowed(tmp_path: Path, target: Store) -> None:
    with pytest.raises(StoreError, match="There is no record in"):
        import_all(target, str(tmp_path / "empty"))
    assert import_records(target, str(tmp_path / "empty"), may_be_empty=True) == ImportResult()
