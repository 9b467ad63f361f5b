"""Every write of a store, killed at every one of its steps.

A child process kills itself before its n-th change of the file system, before its n-th command of git, or with half of
a file written, for every n, until the write comes to its end. After each kill the store must hold what it held before,
or what it holds after; the next write must succeed, and remove what the killed one left.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.store import (
    ALL_NOTES,
    Calibration,
    Store,
    export_records,
    import_records,
    newest_calibration,
    pull,
    push,
    write_calibration,
)
from pytest_gpuperf.store.layout import ACCEPTED, PINS, PRUNED
from pytest_gpuperf.store.moving import move
from pytest_gpuperf.store.transfer.soundness import check
from tests.unit.factories import KEY, TEST, record
from tests.unit.store.remotes import clone_of, git, origin_in

#: Events of Python before it changes the file system or starts a program.
CHANGES = frozenset({"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"})
Write = Callable[[Path], object]


def store_in(place: Path) -> Store:
    return Store(str(place / "clone" / ".gpuperf"))


def write_record(place: Path) -> object:
    return store_in(place).write(record(name="new", minute=100))


def accept(place: Path) -> object:
    store = store_in(place)
    return store.accept(store.find("s0"), "a larger model")


def pin(place: Path) -> object:
    store = store_in(place)
    return store.pin(store.find("s1"), "release")


def unpin(place: Path) -> object:
    return store_in(place).unpin("s2")


def calibrate(place: Path) -> object:
    return write_calibration(store_in(place), Calibration("NVIDIA L4", {"p50": 0.01}, {"p50": 4.0}, 5, ()))


def prune(place: Path) -> object:
    store = store_in(place)
    folder = store.folder(KEY)
    return store.delete(folder, [file for file in store.newest(folder) if file.id in ("s3", "s4")], "old")


def take_over(place: Path) -> object:
    return import_records(store_in(place), str(place / "source.tar"), notes=ALL_NOTES)


def move_test(place: Path) -> object:
    return move(store_in(place), TEST, "tests/test_new.py::test_new")


def check_writable(place: Path) -> object:
    store_in(place).check_writable()
    return None


def export(place: Path) -> object:
    store = store_in(place)
    return export_records(
        store, [(store.folder(KEY), file) for file in store.newest(store.folder(KEY))], export_of(place)
    )


def export_of(place: Path) -> str:
    return str(place / "export.tar.gz")


def push_to_branch(place: Path) -> object:
    return push(store_in(place), place / "clone")


def pull_from_branch(place: Path) -> object:
    return pull(store_in(place), place / "clone", "filled")


@pytest.fixture
def place(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store, a tar to import, and, for those that need it, a remote whose branch ``filled`` has further records."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    place = tmp_path / "place"
    place.mkdir()
    if write in OF_GIT:
        clone_of(origin_in(place), place / "clone")
    store = store_in(place)
    for index in range(5):
        store.write(record(name=f"s{index}", minute=index, gate="failed" if index in (0, 3) else "passed"))
    store.accept(store.find("s3"), "why")
    store.pin(store.find("s2"), "release")
    source = Store(str(tmp_path / "source"))
    for index in range(2):
        source.write(record(name=f"t{index}", minute=50 + index, gate="failed"))
    source.accept(source.find("t0"), "why")
    files = [(source.folder(KEY), file) for file in source.newest(source.folder(KEY))]
    export_records(source, files, str(place / "source.tar"))
    if write in OF_GIT:
        push(source, place / "clone", "filled")
    return place


def visible(place: Path) -> dict[str, bytes]:
    """The files of the store that are not temporary, and of the branch that is pushed."""
    root = place / "clone" / ".gpuperf"
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
    if (place / "origin.git").exists() and git(place / "origin.git", "branch", "--list", "gpuperf-baselines"):
        listed = git(place / "origin.git", "ls-tree", "-r", "gpuperf-baselines").splitlines()
        files |= {f"branch: {line.partition(chr(9))[2]}": line.encode() for line in listed}
    return files


def state(place: Path) -> dict[str, Any]:
    """What a store says: two writes of the same note have different names and times."""
    store = store_in(place)
    files = [file for folder in store.folders() for file in store.newest(folder)]
    return {
        "records": [(file.id, file.accepted, file.pinned) for file in files],
        "contents": [store.read(file) for file in files],
        "calibration": newest_calibration(store, "NVIDIA L4"),
        "branch": sorted(path for path in visible(place) if path.startswith("branch: ") and PINS not in path),
        "export": Path(export_of(place)).exists(),
    }


def killed_at(step: int, write: Write, place: Path) -> bool:
    """Write in a child that kills itself at a step; return whether it came so far."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of this process hold no lock that matters
        child = os.fork()
    if not child:
        try:
            _count_down(step, place)
            write(place)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - nothing may leave the child
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def _count_down(step: int, place: Path) -> None:
    remaining = step
    fsync = os.fsync

    def count() -> bool:
        nonlocal remaining
        remaining -= 1
        return remaining < 0

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def changes(event: str, arguments: tuple[Any, ...]) -> None:
        written = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        inside = any(str(place.parent) in os.fsdecode(argument) for argument in arguments if isinstance(argument, str))
        if (((event in CHANGES or written) and inside) or event == "subprocess.Popen") and count():
            kill()

    def synchronised(fd: Any) -> None:
        if count():
            os.ftruncate(fd, os.fstat(fd).st_size // 2)
            kill()
        fsync(fd)
        if count():
            kill()

    os.fsync = synchronised
    sys.addaudithook(changes)


def copy_of(place: Path, copy: Path) -> None:
    shutil.copytree(place, copy)
    if (copy / "origin.git").exists():
        git(copy / "clone", "remote", "set-url", "origin", (copy / "origin.git").as_uri())


def steps(write: Write, place: Path) -> Iterator[Path]:
    """Yield a copy of the place after a kill at each step of a write."""
    for step in range(1000):
        copy = place.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        copy_of(place, copy)
        if not killed_at(step, write, copy):
            return
        yield copy
    raise AssertionError("the write has no end")


#: What is written, and the least number of its steps.
WRITES: dict[Write, int] = {
    write_record: 5,
    accept: 5,
    pin: 5,
    unpin: 5,
    calibrate: 5,
    prune: 5,
    take_over: 15,
    move_test: 30,
    check_writable: 5,
    export: 2,
    push_to_branch: 5,
    pull_from_branch: 15,
}


OF_GIT = (push_to_branch, pull_from_branch)


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write.__name__)
def test_a_killed_write_leaves_the_store_as_it_was_or_as_it_will_be(
    write: Write, place: Path, record_property: Callable[[str, object], None]
) -> None:
    before = visible(place)
    complete = place.with_name("complete")
    copy_of(place, complete)
    write(complete)
    after, states = visible(complete), (state(place), state(complete))
    changed = {path: content for path, content in after.items() if before.get(path) != content}
    kills = 0
    for copy in steps(write, place):
        kills += 1
        now = visible(copy)
        for path, content in now.items():  # nothing is half written, and nothing is changed
            if not path.startswith("branch: "):
                check(content, path, path, "")
            assert before.get(path, content) == content
        for path in before.keys() - now.keys():
            assert path not in after  # only what the write deletes may be gone
        assert len(now.keys() - before.keys()) <= len(changed)
        with suppress(GpuperfError):  # a record is accepted once, and unpinned once
            write(copy)
        assert state(copy) == states[1]
        write_record(copy)
        assert list((copy / "clone" / ".gpuperf" / ".tmp").iterdir()) == []
        assert not [item for item in copy.iterdir() if item.name.startswith(".")]
    assert kills >= WRITES[write]
    record_property("kills", kills)
    assert states[0] != states[1] or write in (check_writable, prune)
    assert all(path.endswith(ACCEPTED) or PRUNED not in path or write in (prune, move_test) for path in changed)
