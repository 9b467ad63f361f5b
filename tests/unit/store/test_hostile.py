"""Stores and tars that were made to do harm, or that somebody's machine damaged."""

from __future__ import annotations

import copy
import errno
import gzip
import io
import json
import logging
import os
import shutil
import tarfile
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.cli.main import main
from pytest_gpuperf.errors import GpuperfError, MissingExtra, OptionError, StoreError, UnreadableRecord
from pytest_gpuperf.model import Finding, StartTimes
from pytest_gpuperf.model.codec import to_builtins
from pytest_gpuperf.store import Store, import_records, layout, rescue, select_baseline
from pytest_gpuperf.store.layout import LARGEST_BYTES
from pytest_gpuperf.store.record_format.record_file import parse_record, record_content
from pytest_gpuperf.store.record_format.sealed_file import sealed
from tests.unit.factories import KEY, equal_runs, record, server_times, window

GOOD = record(equal_runs(1.0), name="good")
PATH = layout.record_path(GOOD.key, layout.file_name(GOOD))
CONTENT = record_content(GOOD)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


# URLs


#: Protocols that can be stores: nothing is refused before a server is asked (for S3: tests/e2e/test_s3*.py).
STORES = {"file", "local", "memory"} | {"s3", "s3a", "gs", "gcs", "hdfs", "arrow_hdfs", "sftp", "ssh", "smb", "webhdfs"}


@pytest.mark.parametrize("protocol", sorted(set(fsspec.available_protocols()) - STORES))
def test_every_protocol_is_a_store_or_a_typed_error(protocol: str) -> None:
    with pytest.raises((OptionError, MissingExtra, StoreError)) as caught:
        list(Store(f"{protocol}://127.0.0.1:1/path").folders())
    assert "can't be" in str(caught.value) or "pip install" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://user:pw@127.0.0.1/x", "ftp:// doesn't write files atomically"),
        ("http://127.0.0.1/x", "http:// can't be written"),
        ("https://127.0.0.1/x", "https:// can't be written"),
        ("zip://x.zip", "zip:// is an archive"),
        ("tar://x.tar", "tar:// is an archive"),
        ("simplecache::s3://bucket/x", "chains several file systems"),
        ("s3:/bucket/x", "write s3:// "),
        ("s3://", "it names no bucket"),
        ("nosuch://x", "Protocol not known"),
        ("a\0b", "it is not a path"),
        ("", "it is not a path"),
    ],
)
def test_a_url_that_is_no_store_says_what_to_write(url: str, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        Store(url)
    assert said.strip() in str(caught.value)
    assert "Write a directory" in str(caught.value) or "for a directory" in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("protocol", ["s3", "gs"])
def test_a_password_in_a_bucket_s_url_is_refused_without_printing_it(protocol: str) -> None:
    with pytest.raises(OptionError, match="bucket's URL has no user and password") as caught:
        Store(f"{protocol}://key:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_not_reached_is_not_an_absent_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """``exists`` of most file systems is false after any error; and their errors may name the password."""

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("login as ci with hunter2! refused")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.info", refuse)
    with pytest.raises(StoreError, match=r"can't be listed: login as ci with \*\*\* refused") as caught:
        Store("memory://ci:hunter2%21@host/x").exists()
    assert "hunter2" not in str(caught.value)


def test_a_folder_that_can_t_be_looked_at_is_not_an_absent_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    store = Store("/denied/x")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", deny)
        with pytest.raises(StoreError, match=r"can't be listed: .*Permission denied"):
            store.exists()


def test_the_root_directory_is_not_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Store("/").files.root == "/"


def test_libraries_of_stores_do_not_log_to_the_terminal() -> None:
    Store("memory://x")
    for library in ("fsspec", "s3fs", "gcsfs"):
        assert logging.getLogger(library).handlers


def test_a_tar_elsewhere_is_not_read(store: Store) -> None:
    with pytest.raises(OptionError, match="Download it, and name the file"):
        import_records(store, "https://example.org/records.tar")


# Files that no store writes


def test_names_that_are_not_utf_8_are_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(store.write(GOOD)).parent
    (folder / os.fsdecode(b"\xff\xfe.json")).write_text("{")
    assert main(["baseline", "list", "--store", store.url]) == 1
    captured = capsys.readouterr()
    assert "good" in captured.out
    assert r"\udcff\udcfe.json" in captured.err
    assert main(["report", "--store", store.url]) == 0


def test_a_pipe_in_a_store_blocks_nothing(store: Store) -> None:
    path = Path(store.write(GOOD))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnreadableRecord, match="not a regular file"):
        store.read(store.find("good"))


def test_a_file_that_is_too_large_is_not_read(store: Store) -> None:
    path = Path(store.write(GOOD))
    os.truncate(path, LARGEST_BYTES + 1)
    tracemalloc.start()
    with pytest.raises(UnreadableRecord, match="more than any record"):
        store.read(store.find("good"))
    assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"gpuperf":1,"sha256":"","record":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"gpuperf":1,"record":{"a":' * 50_000,
        b'{"gpuperf":1,"sha256":"","record":[' + b"{}," * 600_000 + b"{}]}",
        b'{"gpuperf":1,"sha256":"","record":' + b"9" * 5000 + b"}",
    ],
    ids=["lists", "depth", "objects", "wide", "digits"],
)
def test_json_that_is_deep_or_wide_is_unreadable(content: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        parse_record(content, "here")


# Values


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    yield path
    for key, item in items:
        yield from leaves(item, (*path, key))


def changed(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    result = copy.deepcopy(body)
    parent: Any = result
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return result


ABSURD: list[Any] = [
    *(None, True, -1, 0, 10**18, 2**63, 10**40, 10**400, -(10**400)),
    *(1e308, -1e308, 5e-324, -0.0, [], {}, [[]], {"": None}),
    *("", "x" * 20_000, "\0", "\x1b[31m", "../../x", "é", "\u0661", "not a date", "0001-01-01T00:00:00+23:59"),
    *("9999-12-31T23:59:59.999999+00:00", "2026-01-01", "2026-13-45T99:99:99.000+00:00", "2026-01-01T00:00:00+99:00"),
]


def test_a_record_with_any_field_absurd_is_unreadable_or_usable() -> None:
    rich = replace(
        record(equal_runs(1.0, runs=1)),
        runs=tuple(
            replace(
                run,
                windows=tuple(
                    replace(
                        each,
                        server=replace(server_times(), stages={"prep": server_times()}),
                        findings=(Finding("client_busy", "client", 1.0, 0.5, ("a",), "d"),),
                        others_cpu_share=0.1,
                        errors={"timeout": 1},
                    )
                    for each in run.windows
                ),
            )
            for run in record(equal_runs(1.0, runs=1)).runs
        ),
        environment={"driver": "1"},
        settings={"runs": 3},
        under_test={"serving": {"model": "m"}},
    )
    body = json.loads(json.dumps(to_builtins(rich)))
    refused = used = 0
    for path in leaves(body):
        for value in ABSURD if path else ():
            content = sealed("record", changed(body, path, value)) if value not in (10**400, -(10**400)) else b""
            content = content or sealed("record", changed(body, path, "@@")).replace(b'"@@"', str(value).encode())
            try:
                parsed = parse_record(content, "here")
            except UnreadableRecord:
                refused += 1
            else:
                used += 1
                layout.file_name(parsed)
                record_content(parsed)
    assert refused > 1000
    assert used > 300


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: replace(run, windows=()),
        lambda run: replace(run, windows=tuple(replace(each, requests=0, throughput=0.0) for each in run.windows)),
        lambda run: replace(run, windows=tuple(replace(each, window_s=1e9, throughput=1e18) for each in run.windows)),
        lambda run: replace(run, windows=(window(p50_ms=1e6), *run.windows), start=StartTimes(-1.0)),
    ],
)
@pytest.mark.parametrize("status", ["complete", "incomplete"])
def test_commands_survive_records_that_are_odd(
    damage: Callable[[Any], Any], status: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for minute in range(3):
        store.write(record(equal_runs(1.0), minute=minute, name=f"s{minute}"))
    odd = record(equal_runs(1.0), minute=9, name="odd", status=status)
    store.write(replace(odd, runs=tuple(map(damage, odd.runs))))
    page = str(tmp_path / "page.html")
    for command in (
        ["baseline", "list"],
        ["baseline", "show", "odd"],
        ["report"],
        ["report", "--format", "markdown"],
        ["report", "--format", "html", "--output", page],
        ["report", "--format", "json"],
        ["report", "--format", "csv"],
        ["compare"],
        ["history", "--html", page],
        ["calibrate", "--from-store"],
    ):
        assert main([*command, "--store", store.url]) in (0, 1)
    capsys.readouterr()


# Tars


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> str:
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return str(path)


GOOD_MEMBER = (member(PATH, CONTENT), CONTENT)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"S"])
def test_links_and_special_files_in_a_tar_are_refused(kind: bytes, store: Store, tmp_path: Path) -> None:
    other = record(equal_runs(1.0), name="other", minute=1)
    special = (member(layout.record_path(KEY, layout.file_name(other)), b"", kind, "/etc/passwd"), b"")
    source = tar_of(tmp_path / "a.tar", special, GOOD_MEMBER)
    with pytest.raises(StoreError, match=r"is a link or another special file|can't be read as a tar"):
        import_records(store, source)
    assert not Path(store.url).exists()


def test_a_file_that_is_in_a_tar_twice_is_refused(store: Store, tmp_path: Path) -> None:
    source = tar_of(tmp_path / "a.tar", GOOD_MEMBER, (member(f"./{PATH}", CONTENT), CONTENT))
    with pytest.raises(StoreError, match="is in the tar twice"):
        import_records(store, source)


@pytest.mark.parametrize("prefix", ["/", "../../../", "x/../../"])
def test_no_name_in_a_tar_leads_out_of_the_store(prefix: str, store: Store, tmp_path: Path) -> None:
    import_records(store, tar_of(tmp_path / "a.tar", (member(prefix + PATH, CONTENT), CONTENT)))
    assert [path.name for path in tmp_path.rglob("*.json")] == [Path(PATH).name]
    assert Path(store.url, PATH).exists()


def header_of(size: int, kind: bytes) -> bytes:
    info = member("x", kind=kind)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_small_tar_of_a_large_file_takes_no_memory(kind: bytes, ending: str, store: Store, tmp_path: Path) -> None:
    path, size = tmp_path / f"a.{ending}", 3 << 30
    if ending == "tar":
        with path.open("wb") as file:
            file.write(header_of(size, kind))
            file.truncate(size + 2048)
    else:
        with gzip.open(path, "wb", compresslevel=1) as packed:
            packed.write(header_of(size, kind))
            for _ in range(64):
                packed.write(bytes(1 << 20))
    tracemalloc.start()
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"a\.tar"):
        import_records(store, str(path))
    assert time.monotonic() - begin < 20
    assert tracemalloc.get_traced_memory()[1] < 2 * LARGEST_BYTES
    tracemalloc.stop()


@pytest.mark.parametrize("number", [b"\xff" * 12, b"99999999999\0", b"\x80" + b"\xff" * 11, b"-1\0", b"\0" * 12])
def test_absurd_sizes_in_a_header_are_typed_errors(number: bytes, store: Store, tmp_path: Path) -> None:
    raw = bytearray(Path(tar_of(tmp_path / "a.tar", GOOD_MEMBER)).read_bytes())
    raw[124:136] = number.ljust(12, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    (tmp_path / "a.tar").write_bytes(raw)
    with pytest.raises(StoreError, match=r"a\.tar"):
        import_records(store, str(tmp_path / "a.tar"))


# Bit flips


def test_a_flipped_bit_changes_no_decision_unnoticed(store: Store) -> None:
    for minute in range(4):
        store.write(record(equal_runs(1 + minute * 0.001), minute=minute, name=f"s{minute}"))
    store.accept(store.find("s1"), "why")
    store.pin(store.find("s3"), "release")

    def decision() -> tuple[Any, ...]:
        try:
            baseline = select_baseline(Store(store.url), KEY)
        except StoreError:
            return ("named",)
        return tuple(member.id for member in baseline.records), tuple(member.id for member in baseline.pinned)

    right = decision()
    for path in [path for path in Path(store.url).rglob("*") if path.is_file()]:
        content = path.read_bytes()
        for at in range(0, len(content), max(len(content) // 12, 1)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
            unreadable = select_baseline(Store(store.url), KEY).unreadable
            assert decision() == right or unreadable
        path.write_bytes(content)


# Writing


def test_a_record_that_can_t_be_written_is_saved_elsewhere(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(rescue, "_folders", [])

    def full(*_: object) -> None:
        raise StoreError(f"The store {store.url} can't be written: {os.strerror(errno.ENOSPC)}")

    with monkeypatch.context() as patch:
        patch.setattr(store.files, "put", full)
        for minute in range(2):
            with pytest.raises(StoreError, match="No space left on device") as caught:
                store.write(record(name=f"s{minute}", minute=minute))
    (folder,) = tmp_path.glob("gpuperf-rescued-*")
    assert f"The record was saved in {folder}." in str(caught.value)
    command = str(caught.value).rpartition(": gpuperf ")[2].split()
    assert main(command) == 0
    assert sorted(file.id for file in store.newest(store.folder(KEY))) == ["s0", "s1"]


def test_a_store_that_can_t_be_listed_after_the_measurement_keeps_no_record_from_being_saved(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: str) -> list[str]:
        raise StoreError("The bucket went away.")

    monkeypatch.setattr(store.files, "names", gone)
    assert store.dated(GOOD) == GOOD


def test_a_full_disk_everywhere_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "_write", lambda *_: False)
    monkeypatch.setattr(rescue, "_folders", [])
    Path(store.url).write_text("not a directory")
    with pytest.raises(StoreError, match="could not be saved elsewhere either"):
        store.write(GOOD)


def test_temporary_files_of_killed_writers_are_deleted(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with atomic_write(tmp_path / "report.md") as temporary:
            temporary.write_text("half")
            os._exit(0)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".report.md.")
    foreign = left.with_name(left.name.replace(left.name.split(".")[-1][:8], "00000000"))
    foreign.write_text("of another machine")
    with atomic_write(tmp_path / "other.md") as temporary:
        temporary.write_text("other")
    assert left.exists()  # it is another file's
    with atomic_write(tmp_path / "report.md") as mine, atomic_write(tmp_path / "report.md") as also_mine:
        mine.write_text("mine")
        also_mine.write_text("newer")
    assert sorted(path.name for path in tmp_path.iterdir()) == [foreign.name, "other.md", "report.md"]
    os.utime(foreign, (0, 0))
    with atomic_write(tmp_path / "report.md") as temporary:
        temporary.write_text("newest")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.md", "report.md"]


def test_a_folder_that_another_process_deletes_meanwhile_loses_no_record(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def prune_meanwhile(descriptor: int) -> None:
        fsync(descriptor)
        shutil.rmtree(store.folder(KEY))

    monkeypatch.setattr(os, "fsync", prune_meanwhile)
    assert Path(store.write(GOOD)).exists()


def test_writers_at_once_lose_nothing(store: Store) -> None:
    children = []
    for writer in range(6):
        child = os.fork()
        if not child:
            try:
                for index in range(5):
                    store.write(store.dated(record(name=f"w{writer}x{index}", minute=index)))
                os._exit(0)
            except GpuperfError:
                os._exit(1)
        children.append(child)
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
    files = list(store.newest(store.folder(KEY)))
    assert len(files) == len({store.read(file).id for file in files}) == 30


def test_another_library_s_errors_are_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    class OddError(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise OddError

    store = Store(f"memory://odd-{uuid.uuid4().hex}")
    for name in ("ls", "cat_file", "pipe_file", "rm_file", "makedirs"):
        monkeypatch.setattr(type(store.files._fs), name, fail)
    for operation in (
        lambda: store.files.names("x"),
        lambda: store.files.put("x/y", b""),
        lambda: store.files.delete("x"),
    ):
        with pytest.raises(StoreError, match="OddError"):
            operation()
    with pytest.raises(OSError, match="OddError"):
        store.files.read("x")
