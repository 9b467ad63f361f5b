from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from fsspec.registry import _registry
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpuperf.errors import MissingExtra, OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.model import SCHEMA, LoadPoint, Record
from pytest_gpuperf.model.codec import to_builtins
from pytest_gpuperf.store import ALL_NOTES, RecordFile, Store, import_records
from pytest_gpuperf.store.key import canonical
from pytest_gpuperf.store.provenance import user
from pytest_gpuperf.store.store import MOST_PINNED
from tests.unit.factories import KEY, equal_runs, record, records, run, utc, window

SMALL = replace(
    record(), runs=(run(window(p50_ms=1.0, requests=5, window_s=0.5)),), environment={"driver": "570.1", "clock": 1.5}
)


@pytest.fixture(params=["directory", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "directory": str(tmp_path / "store"),
        "file": f"file://{tmp_path / 'store'}",
        "memory": f"memory://store-{uuid.uuid4().hex}",
    }[request.param]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def stored_file(store: Store, one: Record) -> RecordFile:
    (found,) = (file for file in list(store.newest(store.folder(one.key))) if file.id == one.id)
    return found


def put(store: Store, content: bytes | str) -> RecordFile:
    """A record file of any content."""
    folder = Path(store.folder(KEY))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "20260101T000000000Z-12345678-damaged.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return RecordFile(str(path), "damaged", False)


def sealed(change: Callable[[dict[str, Any]], None]) -> str:
    """A record file whose content was changed by somebody who knows how to make the checksum."""
    body = to_builtins(SMALL)
    change(body)
    digest = hashlib.sha256(canonical([SCHEMA, body]).encode()).hexdigest()
    return json.dumps({"gpuperf": SCHEMA, "sha256": digest, "record": body})


def files(store: Store) -> dict[str, tuple[bytes, int]]:
    """All files of a local store, with their content and time of change."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(store.url).rglob("*") if path.is_file()
    }


# Writing and finding


def test_what_is_written_is_read(url: str) -> None:
    written = record(equal_runs(load_points=2), environment={"driver": "570.1", "mig": None})
    path = Store(url).write(written)
    reader = Store(url)
    (file,) = list(reader.newest(reader.folder(KEY)))
    assert (file.path, file.id, file.accepted) == (path, written.id, False)
    assert reader.read(file) == written


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records())
def test_any_record_is_read_as_it_was_written(one: Record) -> None:
    store = Store(f"memory://any-{uuid.uuid4().hex}")
    one = replace(one, id=uuid.uuid4().hex[:12], commit="", key={**one.key, "device": "any"})
    store.write(one)
    assert store.read(stored_file(store, one)) == one


def test_an_empty_store_holds_nothing(url: str) -> None:
    store = Store(url)
    assert list(store.newest(store.folder(KEY))) == []
    assert list(store.folders()) == []
    assert list(store.folders(KEY)) == []


def test_records_lie_by_device_and_key(url: str) -> None:
    store = Store(url)
    other = {**KEY, "version": 2}
    elsewhere = {**KEY, "device": "NVIDIA T4"}
    for index, key in enumerate((KEY, other, elsewhere)):
        store.write(record(key=key, name=f"s{index}"))
    assert len({store.folder(key) for key in (KEY, other, elsewhere)}) == 3
    assert "/nvidia-l4/test-resnet50-" in store.folder(KEY)
    assert set(store.folders()) == {store.folder(key) for key in (KEY, other, elsewhere)}
    assert set(store.folders(KEY)) == {store.folder(KEY), store.folder(other)}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.datetimes(datetime(2000, 1, 1), datetime(2025, 1, 1)).map(lambda at: at.replace(microsecond=0)),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_names_sort_by_time(times: list[datetime]) -> None:
    store = Store(f"memory://times-{uuid.uuid4().hex}")
    for index, at in enumerate(times):
        created = (at.replace(tzinfo=timezone.utc) + timedelta(milliseconds=index)).isoformat(timespec="milliseconds")
        store.write(replace(record(name=f"s{index}", commit=uuid.uuid4().hex), created_utc=created))
    newest_first = sorted(range(len(times)), key=lambda index: times[index], reverse=True)
    assert [file.id for file in list(store.newest(store.folder(KEY)))] == [f"s{index}" for index in newest_first]


def test_a_record_without_a_commit_can_be_stored(store: Store) -> None:
    store.write(record(commit=""))
    assert stored_file(store, record()).id == record().id


def test_a_record_is_found_by_the_beginning_of_its_id(url: str) -> None:
    store = Store(url)
    for index, name in enumerate(("abc111", "abc222", "def333")):
        store.write(record(name=name, minute=index))
    assert store.find("def").id == "def333"
    assert store.find("abc2").id == "abc222"
    with pytest.raises(StoreError, match="2 records with the id abc"):
        store.find("abc")
    with pytest.raises(StoreError, match="no record with the id xyz"):
        store.find("xyz")


def test_paths_are_told_as_people_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(".gpuperf")
    assert store.describe(store.write(record())).startswith(".gpuperf/nvidia-l4/")
    memory = Store(f"memory://told-{uuid.uuid4().hex}")
    assert memory.describe(memory.write(record())).startswith("memory://")


# Atomic writing


def test_a_write_leaves_one_file(store: Store) -> None:
    path = store.write(record())
    assert list(files(store)) == [path]


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_write_leaves_nothing(store: Store) -> None:
    kept = store.write(record(name="kept"))
    with full_disk(100), pytest.raises(StoreError) as caught:
        store.write(record(name="lost", minute=1))
    assert store.url in str(caught.value)
    assert "--gpuperf-store" in str(caught.value)
    assert list(files(store)) == [kept]


def test_a_reader_does_not_see_a_file_that_is_being_written(store: Store) -> None:
    path = Path(store.write(record()))
    (path.parent / f".{path.name}.0a1b2c3d").write_bytes(path.read_bytes()[:100])
    assert [file.path for file in list(store.newest(store.folder(KEY)))] == [str(path)]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere, so it stops being root for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_directory_is_a_store_error() -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o555)
        store = Store(str(directory))
        with unprivileged(), pytest.raises(StoreError, match="can't be written"):
            store.write(record())
        assert list(directory.iterdir()) == []
    finally:
        shutil.rmtree(directory)


def test_a_file_in_the_store_s_place_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a directory")
    with pytest.raises(StoreError, match="can't be written"):
        Store(str(tmp_path / "store")).write(record())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_written(store: Store, number: float) -> None:
    with pytest.raises(StoreError):
        store.write(record(environment={"temperature_c": number}))
    assert files(store) == {}


# Damage


def test_a_truncated_file_is_unreadable_wherever_it_was_cut(store: Store) -> None:
    whole = Path(store.write(SMALL)).read_bytes()
    for length in range(len(whole)):
        file = put(store, whole[:length])
        with pytest.raises(UnreadableRecord):
            store.read(file)


def test_an_edited_digit_is_noticed_wherever_it_is(store: Store) -> None:
    whole = Path(store.write(SMALL)).read_text()
    digits = [index for index, character in enumerate(whole) if character.isdigit()]
    assert len(digits) > 100
    for index in digits:
        file = put(store, whole[:index] + str((int(whole[index]) + 1) % 10) + whole[index + 1 :])
        with pytest.raises(UnreadableRecord):
            store.read(file)


def test_the_message_names_the_file_the_damage_and_the_remedy(store: Store) -> None:
    file = put(store, Path(store.write(SMALL)).read_text().replace("570.1", "580.1"))
    with pytest.raises(UnreadableRecord) as caught:
        store.read(file)
    message = str(caught.value)
    assert Path(file.path).name in message
    assert "checksum" in message
    assert "Restore the file, or delete it" in message


def test_a_newer_schema_asks_for_an_upgrade(store: Store) -> None:
    file = put(store, json.dumps({"gpuperf": SCHEMA + 1, "sha256": "", "record": {}}))
    with pytest.raises(UnreadableRecord) as caught:
        store.read(file)
    assert f"schema {SCHEMA + 1}" in str(caught.value)
    assert "pip install --upgrade pytest-gpuperf" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"gpuperf": true, "record": {}}',
        '{"gpuperf": "1", "record": {}}',
        '{"gpuperf": 0, "record": {}}',
        '{"gpuperf": 1}',
        '{"gpuperf": 1, "sha256": null, "record": null}',
        b"\xff\xfe\x00",
        "[" * 100_000,
        pytest.param(b"\x00" * 512, id="zeros"),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_record_is_unreadable(store: Store, content: bytes | str) -> None:
    with pytest.raises(UnreadableRecord):
        store.read(put(store, content))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_unreadable(store: Store, number: str) -> None:
    whole = Path(store.write(SMALL)).read_text()
    assert '"clock":1.5' in whole
    with pytest.raises(UnreadableRecord):
        store.read(put(store, whole.replace('"clock":1.5', f'"clock":{number}')))


def test_half_a_character_is_unreadable(store: Store) -> None:
    whole = Path(store.write(SMALL)).read_text()
    with pytest.raises(UnreadableRecord):
        store.read(put(store, whole.replace('"570.1"', '"\\ud800"')))


def test_a_missing_field_is_named_though_the_checksum_fits(store: Store) -> None:
    file = put(store, sealed(lambda body: body["runs"][0].pop("warmup_s")))
    with pytest.raises(UnreadableRecord, match=r"record\.runs\[0\]\.warmup_s is missing"):
        store.read(file)


def test_fields_that_came_later_are_ignored(store: Store) -> None:
    assert store.read(put(store, sealed(lambda body: body.update(energy_j=1.5)))) == SMALL


def test_a_file_that_went_away_is_unreadable(store: Store) -> None:
    file = put(store, "{}")
    Path(file.path).unlink()
    with pytest.raises(UnreadableRecord, match="can't be read"):
        store.read(file)


# Where a store can be


@pytest.mark.parametrize("url", ["nosuch://bucket/path", "htp://example"])
def test_an_unknown_protocol_is_a_mistake_in_the_option(url: str) -> None:
    with pytest.raises(OptionError, match="fsspec URL"):
        Store(url)


@pytest.mark.parametrize(("url", "module"), [("s3://bucket/perf", "s3fs"), ("gs://bucket/perf", "gcsfs")])
def test_a_missing_library_names_an_extra_that_there_is(monkeypatch: pytest.MonkeyPatch, url: str, module: str) -> None:
    # As if it were not installed, and never had been asked for.
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(_registry, url.partition("://")[0], raising=False)
    with pytest.raises(MissingExtra) as caught:
        Store(url)
    assert caught.value.library == module
    assert caught.value.extra in (metadata("pytest-gpuperf").get_all("Provides-Extra") or ())


# Accepting


def test_accepting_adds_a_small_file_and_touches_no_other(store: Store) -> None:
    one = record(gate="failed")
    path = store.write(one)
    store.write(record(name="other", minute=1))
    before = files(store)
    acceptance = store.accept(stored_file(store, one), "new engine, twice as exact")
    after = files(store)
    assert {name: after[name] for name in before} == before
    (added,) = after.keys() - before.keys()
    assert added.startswith(path)
    assert len(after[added][0]) < 500
    assert (acceptance.record, acceptance.reason) == (one.id, "new engine, twice as exact")
    assert acceptance.author
    assert json.loads(after[added][0])["acceptance"]["reason"] == acceptance.reason
    assert store.read(stored_file(store, one)) == one


def test_a_record_is_accepted_once(store: Store) -> None:
    one = record(gate="failed")
    store.write(one)
    store.accept(stored_file(store, one), "a larger model", "Ada")
    before = files(store)
    with pytest.raises(StoreError, match=r"accepted already, by Ada at 20.*: a larger model"):
        store.accept(stored_file(store, one), "a much larger model", "Bob")
    assert files(store) == before


def test_an_acceptance_that_can_t_be_read_is_given_anew(store: Store) -> None:
    path = store.write(record(name="s0", gate="failed"))
    store.accept(store.find("s0"), "meant")
    Path(path + ".accepted.json").write_text("{")
    given = store.accept(store.find("s0"), "meant, again")
    assert store.acceptance(store.find("s0")) == given


def test_an_accepted_record_is_marked(url: str) -> None:
    store = Store(url)
    for index in range(3):
        store.write(record(name=f"s{index}", minute=index))
    store.accept(store.find("s1"), "meant")
    assert [(file.id, file.accepted) for file in list(store.newest(store.folder(KEY)))] == [
        ("s2", False),
        ("s1", True),
        ("s0", False),
    ]


def test_a_record_that_was_cut_short_is_not_accepted(store: Store) -> None:
    cut = record(status="incomplete")
    store.write(cut)
    with pytest.raises(StoreError, match="cut short"):
        store.accept(stored_file(store, cut), "but I want it")
    assert not stored_file(store, cut).accepted


def test_a_damaged_record_is_not_accepted(store: Store) -> None:
    with pytest.raises(UnreadableRecord):
        store.accept(put(store, "{"), "looks fine")
    assert len(files(store)) == 1


def test_a_record_keeps_its_load_points(store: Store) -> None:
    one = record(equal_runs(load_points=2), at=[LoadPoint(4, 8), LoadPoint(1)])
    store.write(one)
    read = store.read(stored_file(store, one))
    assert [seen.point for seen in read.runs[0].windows] == [LoadPoint(4, 8), LoadPoint(1)]
    assert read.created_utc == utc(0)


# Days


def test_records_of_a_day_lie_together(store: Store) -> None:
    for day in range(3):
        for index in range(2):
            store.write(record(name=f"s{day}{index}", minute=1440 * day + index))
    names = {path.name for path in Path(store.folder(KEY)).iterdir()}
    assert names == {"2026-01-01", "2026-01-02", "2026-01-03"}
    assert [file.id for file in store.newest(store.folder(KEY))] == ["s21", "s20", "s11", "s10", "s01", "s00"]


class ListingStore(Store):
    """Keeps the folders that are listed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.listed: list[str] = []
        names = self.files.names

        def counted(folder: str) -> list[str]:
            self.listed.append(folder)
            return names(folder)

        self.files.names = counted  # type: ignore[method-assign]


def test_older_days_are_not_listed(tmp_path: Path) -> None:
    store = ListingStore(str(tmp_path / "store"))
    for day in range(40):
        store.write(record(name=f"s{day:02}", minute=1440 * day))
    newest = store.newest(store.folder(KEY))
    assert [next(newest).id for _ in range(3)] == ["s39", "s38", "s37"]
    days = [folder.rpartition("/")[2] for folder in store.listed if "/2026-" in folder]
    assert days == ["2026-02-09", "2026-02-08", "2026-02-07"]


# Pinning


def test_pinning_adds_a_small_file_and_touches_no_other(store: Store) -> None:
    one = record()
    store.write(one)
    before = files(store)
    pin = store.pin(stored_file(store, one), "release 1.0", "Ada")
    after = files(store)
    assert {name: after[name] for name in before} == before
    (added,) = after.keys() - before.keys()
    assert len(after[added][0]) < 500
    assert (pin.record, pin.author, pin.reason, pin.pinned) == (one.id, "Ada", "release 1.0", True)
    file = stored_file(store, one)
    assert file.pinned
    assert store.pin_of(file) == pin


def test_pins_come_and_go(url: str) -> None:
    store = Store(url)
    for index in range(3):
        store.write(record(name=f"s{index}", minute=1440 * index))
    store.pin(store.find("s0"), "first")
    store.pin(store.find("s2"), "second")
    assert [file.id for file in store.pinned(store.folder(KEY))] == ["s2", "s0"]
    assert [(file.id, file.pinned) for file in store.newest(store.folder(KEY))] == [
        ("s2", True),
        ("s1", False),
        ("s0", True),
    ]
    store.unpin("s0", "too old")
    assert [file.id for file in store.pinned(store.folder(KEY))] == ["s2"]
    with pytest.raises(StoreError, match="isn't pinned"):
        store.unpin("s0")
    store.pin(store.find("s0"), "again")
    assert [file.id for file in store.pinned(store.folder(KEY))] == ["s0", "s2"]


def test_not_too_many_are_pinned(store: Store) -> None:
    for index in range(MOST_PINNED + 1):
        store.write(record(name=f"s{index}", minute=index))
    for index in range(MOST_PINNED):
        store.pin(store.find(f"s{index}"), "one more")
    with pytest.raises(StoreError, match="gpuperf baseline unpin s0"):
        store.pin(store.find(f"s{MOST_PINNED}"), "one too many")
    store.pin(store.find("s0"), "pinned already, for another reason")
    store.unpin("s1")
    store.pin(store.find(f"s{MOST_PINNED}"), "there is room now")


def test_stores_brought_together_may_have_more_pins_than_gates_read(store: Store, tmp_path: Path) -> None:
    other = Store(str(tmp_path / "other"))
    for index in range(2 * MOST_PINNED - 1):
        one = (store, other)[index % 2]
        one.write(record(name=f"s{index}", minute=index))
        one.pin(one.find(f"s{index}"), "release")
    import_records(store, other.url, notes=ALL_NOTES)
    assert all(file.pinned for file in store.newest(store.folder(KEY)))
    read = [file.id for file in store.pinned(store.folder(KEY))]
    assert read == ["s8", "s7", "s6", "s5", "s4"]
    store.write(record(name="more", minute=99))
    with pytest.raises(StoreError, match="9 records of this key are pinned already, and every gate reads 5"):
        store.pin(store.find("more"), "one too many")
    store.unpin("s0")
    assert not store.find("s0").pinned
    assert [file.id for file in store.pinned(store.folder(KEY))] == read


@pytest.mark.parametrize("damage", [lambda path: path.write_text("{"), Path.unlink], ids=["damaged", "gone"])
def test_a_record_that_can_t_be_read_is_unpinned(store: Store, damage: Callable[[Path], object]) -> None:
    for name in ("s0", "s1"):
        store.write(record(name=name, minute=int(name[1:])))
        store.pin(store.find(name), "release")
    damage(Path(store.find("s0").path))
    with pytest.raises(StoreError, match=r"2 records s\.\.\. are pinned"):
        store.unpin("s")
    pin = store.unpin("s0", "its disk broke", "Ada")
    assert (pin.record, pin.pinned, pin.author, pin.reason) == ("s0", False, "Ada", "its disk broke")
    assert [file.id for file in store.pinned(store.folder(KEY))] == ["s1"]


@pytest.mark.parametrize("what", ["pin", "accept"])
def test_a_duet_is_no_baseline_for_others(store: Store, what: str) -> None:
    store.write(replace(record(name="duet"), reference=(run(),)))
    with pytest.raises(StoreError, match="is a duet"):
        getattr(store, what)(store.find("duet"), "I want it")


def test_a_record_that_was_cut_short_is_not_pinned(store: Store) -> None:
    store.write(record(name="cut", status="incomplete"))
    with pytest.raises(StoreError, match="cut short"):
        store.pin(store.find("cut"), "but I want it")


def test_a_damaged_note_hides_nothing_but_its_words(store: Store) -> None:
    one = record(gate="failed")
    path = store.write(one)
    store.accept(stored_file(store, one), "meant")
    Path(path + ".accepted.json").write_text("{")
    assert stored_file(store, one).accepted
    assert store.acceptance(stored_file(store, one)) is None


# Deleting


def test_deleting_leaves_a_note_and_no_empty_folders(store: Store) -> None:
    for index in range(3):
        store.write(record(name=f"s{index}", minute=1440 * index))
    store.accept(store.find("s1"), "meant")
    folder = store.folder(KEY)
    store.delete(folder, [store.find("s0"), store.find("s1")], "too old", "Ada")
    assert [file.id for file in store.newest(folder)] == ["s2"]
    assert sorted(path.name for path in Path(folder).iterdir()) == ["2026-01-03", "pruned"]
    (pruning,) = store.prunings(folder)
    assert (pruning.records, pruning.author, pruning.reason) == (("s0", "s1"), "Ada", "too old")


def test_what_can_t_be_deleted_is_told_and_the_note_tells_the_rest(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(2):
        store.write(record(name=f"s{index}", minute=index))
    delete = store.files.delete

    def fail(path: str) -> None:
        if "-s1" in path:
            raise StoreError("it can't be deleted")
        delete(path)

    monkeypatch.setattr(store.files, "delete", fail)
    with pytest.raises(StoreError, match="can't be deleted"):
        store.delete(store.folder(KEY), [store.find("s0"), store.find("s1")], "too old")
    assert [one.records for one in store.prunings(store.folder(KEY))] == [("s0",)]


def test_who_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):  # git knows no author
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.delenv("GITHUB_ACTOR", raising=False)
    monkeypatch.delenv("GITLAB_USER_LOGIN", raising=False)
    assert user()
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(KeyError("uid not found")))
    assert user().startswith("uid ")
    monkeypatch.setenv("GITHUB_ACTOR", "ada")
    assert user() == "ada"
