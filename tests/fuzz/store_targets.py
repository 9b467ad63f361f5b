"""Targets of the store: what ``gpuperf baseline import`` and ``pull`` read from others.

A mutation of a file rarely has the right checksum, so most targets mutate what the checksum covers and seal it again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_gpuperf.errors import GpuperfError, UnreadableRecord
from pytest_gpuperf.model.codec import to_builtins
from pytest_gpuperf.store import ALL_NOTES, Calibration, Store, export_records, import_records, layout
from pytest_gpuperf.store.notes import Acceptance, Note, Pin, Pruning, note_content, parse_note
from pytest_gpuperf.store.record_format.record_file import parse_record, record_content
from pytest_gpuperf.store.record_format.sealed_file import sealed
from tests.unit.factories import KEY, equal_runs, record, server_times

_UTC = "2026-01-01T00:00:00.000+00:00"
_SMALL = record(equal_runs(runs=1), requests=10, environment={"driver": "570", "clock": 1.5})
_RICH = replace(
    _SMALL,
    runs=tuple(
        replace(run, windows=tuple(replace(window, server=server_times(), errors={"x": 1}) for window in run.windows))
        for run in _SMALL.runs
    ),
)
_NOTES: tuple[Note, ...] = (
    Acceptance("s0", "ada", "why", _UTC, "after"),
    Pin("s0", True, "ada", "why", _UTC),
    Pruning(("s0",), "ada", "old", _UTC, ("s0",)),
    Calibration("NVIDIA L4", {"p50": 0.01}, {"p50": 4.0}, 5, ("test",), "ada"),
)
WORDS = tuple(
    b'-1|1e308|1e999|NaN|null|true|[]|{}|""|"\\u0000"|"\\ud800"|9999999999999999999|'
    b'"9999-12-31T23:59:59.999+00:00"|"0001-01-01T00:00:00.000+00:00"|[[[[|{"a":'.split(b"|")
)


def record_file(data: bytes) -> None:
    """A record file of any bytes is a record or an ``UnreadableRecord``."""
    try:
        parse_record(data, "here")
    except UnreadableRecord:
        return


def sealed_record(data: bytes) -> None:
    """A record with any content and the right checksum is unreadable, or can be named and written again."""
    try:
        body = json.loads(data)
        content = sealed("record", body)
    except (ValueError, RecursionError):
        return
    try:
        parsed = parse_record(content, "here")
    except UnreadableRecord:
        return
    assert layout.parse_path(layout.file_name(parsed)).id == parsed.id
    assert parse_record(record_content(parsed), "here") == parsed


def sealed_note(data: bytes) -> None:
    """A note with any content and the right checksum is unreadable, or the same when it is written again."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    for note in _NOTES:
        label = type(note).__name__.lower()
        try:
            parsed = parse_note(sealed(label, body), type(note), "here", "")
        except (UnreadableRecord, ValueError, RecursionError):
            continue
        assert parse_note(note_content(parsed), type(note), "here", "") == parsed


def tar_import() -> Callable[[bytes], None]:
    """Return a function that imports a tar of any bytes: it is refused, or the store is sound."""
    place = Path(tempfile.mkdtemp(prefix="gpuperf-fuzz-"))
    source, count = place / "a.tar", 0

    def run(data: bytes) -> None:
        nonlocal count
        count += 1
        source.write_bytes(data)
        store = Store(f"memory://fuzz-{count}")
        try:
            import_records(store, str(source), notes=ALL_NOTES)
        except GpuperfError:
            return
        finally:
            files: Any = store.files._fs
            written = [*files.find(store.files.root)] if files.exists(store.files.root) else []
            if written:
                files.rm(store.files.root, recursive=True)
        assert all(path.startswith(store.files.root) for path in written)

    return run


def record_files() -> list[bytes]:
    """Return record files."""
    return [record_content(_SMALL), record_content(_RICH)]


def record_bodies() -> list[bytes]:
    """Return what the checksum of records covers."""
    return [json.dumps(to_builtins(each)).encode() for each in (_SMALL, _RICH)]


def note_bodies() -> list[bytes]:
    """Return what the checksum of notes covers."""
    return [json.dumps(to_builtins(note)).encode() for note in _NOTES]


def tars() -> list[bytes]:
    """Return tars, compressed and not, of a store with a record and its notes."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"{folder}/store")
        store.write(replace(_SMALL, gate="failed", id="s0"))
        store.accept(store.find("s0"), "why", "ada")
        store.pin(store.find("s0"), "why", "ada")
        files = [(store.folder(KEY), file) for file in store.newest(store.folder(KEY))]
        names = ("a.tar", "a.tar.gz")
        for name in names:
            export_records(store, files, f"{folder}/{name}")
        return [Path(folder, name).read_bytes() for name in names]
