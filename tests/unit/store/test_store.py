from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_gpuperf.errors import MissingExtra, OptionError, StoreError, UnreadableSession
from pytest_gpuperf.model import SCHEMA, LoadPoint, Session
from pytest_gpuperf.model.codec import to_builtins
from pytest_gpuperf.store import Entry, Store
from pytest_gpuperf.store.key import canonical
from tests.unit.factories import KEY, alike, run, session, sessions, utc, window

SMALL = replace(
    session(), runs=(run(window(p50_ms=1.0, requests=5, window_s=0.5)),), environment={"driver": "570.1", "clock": 1.5}
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


def entry_of(store: Store, one: Session) -> Entry:
    (found,) = (entry for entry in store.entries(store.folder(one.key)) if entry.id == one.id)
    return found


def put(store: Store, content: bytes | str) -> Entry:
    """A session file of any content."""
    folder = Path(store.folder(KEY))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "20260101T000000000Z-12345678-damaged.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Entry(str(path), "damaged", False)


def sealed(change: Callable[[dict[str, Any]], None]) -> str:
    """A session file whose content was changed by somebody who knows how to make the checksum."""
    body = to_builtins(SMALL)
    change(body)
    digest = hashlib.sha256(canonical([SCHEMA, body]).encode()).hexdigest()
    return json.dumps({"gpuperf": SCHEMA, "sha256": digest, "session": body})


def files(store: Store) -> dict[str, tuple[bytes, int]]:
    """All files of a local store, with their content and time of change."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(store.url).rglob("*") if path.is_file()
    }


# Writing and finding


def test_what_is_written_is_read(url: str) -> None:
    written = session(alike(load_points=2), environment={"driver": "570.1", "mig": None})
    path = Store(url).write(written)
    reader = Store(url)
    (entry,) = reader.entries(reader.folder(KEY))
    assert (entry.path, entry.id, entry.accepted) == (path, written.id, False)
    assert reader.read(entry) == written


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sessions())
def test_any_session_is_read_as_it_was_written(one: Session) -> None:
    store = Store(f"memory://any-{uuid.uuid4().hex}")
    one = replace(one, id=uuid.uuid4().hex[:12], commit="", key={**one.key, "device": "any"})
    store.write(one)
    assert store.read(entry_of(store, one)) == one


def test_an_empty_store_holds_nothing(url: str) -> None:
    store = Store(url)
    assert store.entries(store.folder(KEY)) == []
    assert list(store.folders()) == []
    assert list(store.folders(KEY)) == []


def test_sessions_lie_by_device_and_key(url: str) -> None:
    store = Store(url)
    other = {**KEY, "version": 2}
    elsewhere = {**KEY, "device": "NVIDIA T4"}
    for index, key in enumerate((KEY, other, elsewhere)):
        store.write(session(key=key, name=f"s{index}"))
    assert len({store.folder(key) for key in (KEY, other, elsewhere)}) == 3
    assert "/nvidia-l4/" in store.folder(KEY)
    assert set(store.folders()) == {store.folder(key) for key in (KEY, other, elsewhere)}
    assert set(store.folders(KEY)) == {store.folder(KEY), store.folder(other)}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1)).map(lambda at: at.replace(microsecond=0)),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_names_sort_by_time(times: list[datetime]) -> None:
    store = Store(f"memory://times-{uuid.uuid4().hex}")
    for index, at in enumerate(times):
        created = (at.replace(tzinfo=timezone.utc) + timedelta(milliseconds=index)).isoformat(timespec="milliseconds")
        store.write(replace(session(name=f"s{index}", commit=uuid.uuid4().hex), created_utc=created))
    newest_first = sorted(range(len(times)), key=lambda index: times[index], reverse=True)
    assert [entry.id for entry in store.entries(store.folder(KEY))] == [f"s{index}" for index in newest_first]


def test_a_session_without_a_commit_can_be_stored(store: Store) -> None:
    store.write(session(commit=""))
    assert entry_of(store, session()).id == session().id


def test_a_session_is_found_by_the_beginning_of_its_id(url: str) -> None:
    store = Store(url)
    for index, name in enumerate(("abc111", "abc222", "def333")):
        store.write(session(name=name, minute=index))
    assert store.find("def").id == "def333"
    assert store.find("abc2").id == "abc222"
    with pytest.raises(StoreError, match="2 sessions with the id abc"):
        store.find("abc")
    with pytest.raises(StoreError, match="no session with the id xyz"):
        store.find("xyz")


def test_paths_are_told_as_people_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(".gpuperf")
    assert store.describe(store.write(session())).startswith(".gpuperf/nvidia-l4/")
    memory = Store(f"memory://told-{uuid.uuid4().hex}")
    assert memory.describe(memory.write(session())).startswith("memory://")


# Atomic writing


def test_a_write_leaves_one_file(store: Store) -> None:
    path = store.write(session())
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
    kept = store.write(session(name="kept"))
    with full_disk(100), pytest.raises(StoreError) as caught:
        store.write(session(name="lost", minute=1))
    assert store.url in str(caught.value)
    assert "--gpuperf-store" in str(caught.value)
    assert list(files(store)) == [kept]


def test_a_reader_does_not_see_a_file_that_is_being_written(store: Store) -> None:
    path = Path(store.write(session()))
    (path.parent / f".{path.name}.0a1b2c3d").write_bytes(path.read_bytes()[:100])
    assert [entry.path for entry in store.entries(store.folder(KEY))] == [str(path)]


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
            store.write(session())
        assert list(directory.iterdir()) == []
    finally:
        shutil.rmtree(directory)


def test_a_file_in_the_store_s_place_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("not a directory")
    with pytest.raises(StoreError, match="can't be written"):
        Store(str(tmp_path / "store")).write(session())


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_written(store: Store, number: float) -> None:
    with pytest.raises(StoreError):
        store.write(session(environment={"temperature_c": number}))
    assert files(store) == {}


# Damage


def test_a_truncated_file_is_unreadable_wherever_it_was_cut(store: Store) -> None:
    whole = Path(store.write(SMALL)).read_bytes()
    for length in range(len(whole)):
        entry = put(store, whole[:length])
        with pytest.raises(UnreadableSession):
            store.read(entry)


def test_an_edited_digit_is_noticed_wherever_it_is(store: Store) -> None:
    whole = Path(store.write(SMALL)).read_text()
    digits = [index for index, character in enumerate(whole) if character.isdigit()]
    assert len(digits) > 100
    for index in digits:
        entry = put(store, whole[:index] + str((int(whole[index]) + 1) % 10) + whole[index + 1 :])
        with pytest.raises(UnreadableSession):
            store.read(entry)


def test_the_message_names_the_file_the_damage_and_the_remedy(store: Store) -> None:
    entry = put(store, Path(store.write(SMALL)).read_text().replace("570.1", "580.1"))
    with pytest.raises(UnreadableSession) as caught:
        store.read(entry)
    message = str(caught.value)
    assert Path(entry.path).name in message
    assert "checksum" in message
    assert "Restore the file, or delete it" in message


def test_a_newer_schema_asks_for_an_upgrade(store: Store) -> None:
    entry = put(store, json.dumps({"gpuperf": SCHEMA + 1, "sha256": "", "session": {}}))
    with pytest.raises(UnreadableSession) as caught:
        store.read(entry)
    assert f"schema {SCHEMA + 1}" in str(caught.value)
    assert "pip install --upgrade pytest-gpuperf" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"gpuperf": true, "session": {}}',
        '{"gpuperf": "1", "session": {}}',
        '{"gpuperf": 0, "session": {}}',
        '{"gpuperf": 1}',
        '{"gpuperf": 1, "sha256": null, "session": null}',
        b"\xff\xfe\x00",
        "[" * 100_000,
        pytest.param(b"\x00" * 512, id="zeros"),
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_session_is_unreadable(store: Store, content: bytes | str) -> None:
    with pytest.raises(UnreadableSession):
        store.read(put(store, content))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_no_number_is_unreadable(store: Store, number: str) -> None:
    whole = Path(store.write(SMALL)).read_text()
    assert '"clock":1.5' in whole
    with pytest.raises(UnreadableSession):
        store.read(put(store, whole.replace('"clock":1.5', f'"clock":{number}')))


def test_half_a_character_is_unreadable(store: Store) -> None:
    whole = Path(store.write(SMALL)).read_text()
    with pytest.raises(UnreadableSession):
        store.read(put(store, whole.replace('"570.1"', '"\\ud800"')))


def test_a_missing_field_is_named_though_the_checksum_fits(store: Store) -> None:
    entry = put(store, sealed(lambda body: body["runs"][0].pop("startup_s")))
    with pytest.raises(UnreadableSession, match=r"session\.runs\[0\]\.startup_s is missing"):
        store.read(entry)


def test_fields_that_came_later_are_ignored(store: Store) -> None:
    assert store.read(put(store, sealed(lambda body: body.update(energy_j=1.5)))) == SMALL


def test_a_file_that_went_away_is_unreadable(store: Store) -> None:
    entry = put(store, "{}")
    Path(entry.path).unlink()
    with pytest.raises(UnreadableSession, match="can't be read"):
        store.read(entry)


# Where a store can be


@pytest.mark.parametrize("url", ["nosuch://bucket/path", "htp://example"])
def test_an_unknown_protocol_is_a_mistake_in_the_option(url: str) -> None:
    with pytest.raises(OptionError, match="fsspec URL"):
        Store(url)


@pytest.mark.parametrize(("url", "module"), [("s3://bucket/perf", "s3fs"), ("gs://bucket/perf", "gcsfs")])
def test_a_missing_library_names_an_extra_that_there_is(url: str, module: str) -> None:
    try:
        __import__(module)
    except ImportError:
        pass
    else:
        pytest.skip(f"{module} is installed")
    with pytest.raises(MissingExtra) as caught:
        Store(url)
    assert caught.value.library == module
    assert caught.value.extra in (metadata("pytest-gpuperf").get_all("Provides-Extra") or ())


# Accepting


def test_accepting_adds_a_small_file_and_touches_no_other(store: Store) -> None:
    one = session(gate="failed")
    path = store.write(one)
    store.write(session(name="other", minute=1))
    before = files(store)
    acceptance = store.accept(entry_of(store, one), "new engine, twice as exact")
    after = files(store)
    assert {name: after[name] for name in before} == before
    (added,) = after.keys() - before.keys()
    assert added.startswith(path)
    assert len(after[added][0]) < 500
    assert (acceptance.session, acceptance.reason) == (one.id, "new engine, twice as exact")
    assert acceptance.author
    assert json.loads(after[added][0])["acceptance"]["reason"] == acceptance.reason
    assert store.read(entry_of(store, one)) == one


def test_an_accepted_session_is_marked(url: str) -> None:
    store = Store(url)
    for index in range(3):
        store.write(session(name=f"s{index}", minute=index))
    store.accept(store.find("s1"), "meant")
    assert [(entry.id, entry.accepted) for entry in store.entries(store.folder(KEY))] == [
        ("s2", False),
        ("s1", True),
        ("s0", False),
    ]


def test_a_session_that_was_cut_short_is_not_accepted(store: Store) -> None:
    cut = session(status="incomplete")
    store.write(cut)
    with pytest.raises(StoreError, match="cut short"):
        store.accept(entry_of(store, cut), "but I want it")
    assert not entry_of(store, cut).accepted


def test_a_damaged_session_is_not_accepted(store: Store) -> None:
    with pytest.raises(UnreadableSession):
        store.accept(put(store, "{"), "looks fine")
    assert len(files(store)) == 1


def test_a_session_keeps_its_load_points(store: Store) -> None:
    one = session(alike(load_points=2), at=[LoadPoint(4, 8), LoadPoint(1)])
    store.write(one)
    read = store.read(entry_of(store, one))
    assert [seen.point for seen in read.runs[0].windows] == [LoadPoint(4, 8), LoadPoint(1)]
    assert read.created_utc == utc(0)
