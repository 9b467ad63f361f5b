from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_gpuperf.device import DeviceLock, LockId
from pytest_gpuperf.errors import DeviceError

_HOLD = """
import sys
from pathlib import Path
from pytest_gpuperf.device import DeviceLock, LockId

with DeviceLock(LockId(*sys.argv[2:]), directory=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(device: str, directory: Path, parent: str = "") -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock until its input ends."""
    command = [sys.executable, "-c", _HOLD, str(directory), device, parent]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_another_process_waits_until_the_holder_is_through(tmp_path: Path) -> None:
    told: list[str] = []
    with holder("GPU-1", tmp_path) as process:
        assert process.stdin is not None
        timer = threading.Timer(0.5, process.stdin.close)
        timer.start()
        begin = time.monotonic()
        with DeviceLock(LockId("GPU-1"), told.append, tmp_path):
            assert 0.4 < time.monotonic() - begin < 10
        timer.join()
        assert told == [f"process {process.pid}"]


def test_a_killed_holder_frees_it(tmp_path: Path) -> None:
    with holder("GPU-1", tmp_path) as process:
        process.kill()
        process.wait()
        told: list[str] = []
        begin = time.monotonic()
        with DeviceLock(LockId("GPU-1"), told.append, tmp_path):
            assert time.monotonic() - begin < 2
        assert not told


def test_a_waiting_process_gets_it_when_the_holder_is_killed(tmp_path: Path) -> None:
    with holder("GPU-1", tmp_path) as process:
        timer = threading.Timer(0.3, process.kill)
        timer.start()
        with DeviceLock(LockId("GPU-1"), directory=tmp_path):
            assert process.wait(5) < 0
        timer.join()


def test_another_device_is_another_lock(tmp_path: Path) -> None:
    with holder("GPU-1", tmp_path), DeviceLock(LockId("GPU-2"), lambda _: pytest.fail("waited"), tmp_path):
        pass


def test_nobody_waits_for_a_free_device(tmp_path: Path) -> None:
    for _ in range(3):
        with DeviceLock(LockId("cpu"), lambda _: pytest.fail("waited"), tmp_path) as lock:
            assert lock.path.read_text() == f"process {os.getpid()}"


def test_it_holds_against_this_process_too(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with DeviceLock(LockId("cpu"), lambda _: order.append("waits"), tmp_path):
            order.append("second")

    with DeviceLock(LockId("cpu"), directory=tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join(5)
    assert order == ["waits", "first", "second"]


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), DeviceLock(LockId("cpu"), directory=tmp_path):
        raise ValueError("inside")
    with DeviceLock(LockId("cpu"), lambda _: pytest.fail("waited"), tmp_path):
        pass


def test_ctrl_c_while_waiting_leaves_no_open_file(tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would hold the directory open
    with (
        DeviceLock(LockId("cpu"), directory=tmp_path),
        pytest.raises(KeyboardInterrupt),
        DeviceLock(LockId("cpu"), interrupt, tmp_path),
    ):
        pass
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_everybody_on_the_machine_may_use_the_file(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        with DeviceLock(LockId("cpu"), directory=tmp_path) as lock:
            assert stat.S_IMODE(lock.path.stat().st_mode) == 0o666
    finally:
        os.umask(mask)


def test_the_file_is_named_after_the_device(tmp_path: Path) -> None:
    path = DeviceLock(LockId("../GPU 0/a:b"), directory=tmp_path).path
    assert path.parent == tmp_path
    assert DeviceLock(LockId("cpu")).path.name == "gpuperf-cpu.lock"


def test_a_link_in_its_place_is_refused_and_what_it_points_to_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    lock = DeviceLock(LockId("gpu"), directory=tmp_path)
    lock.path.symlink_to(precious)
    with pytest.raises(DeviceError, match=r"Remove .*gpuperf-gpu\.lock"), lock:
        pass
    assert precious.read_text() == "keep"


def test_parts_of_a_device_are_used_side_by_side_but_never_beside_the_whole(tmp_path: Path) -> None:
    told: list[str] = []
    with holder("MIG-1", tmp_path, "GPU-1"):
        with DeviceLock(LockId("MIG-2", "GPU-1"), lambda _: pytest.fail("waited"), tmp_path):
            pass
        with pytest.raises(InterruptedError), DeviceLock(LockId("GPU-1"), interrupted(told), tmp_path):
            pytest.fail("the whole was given away beside a part")
        with pytest.raises(InterruptedError), DeviceLock(LockId("MIG-1", "GPU-1"), interrupted(told), tmp_path):
            pytest.fail("a part was given away twice")
    part = DeviceLock(LockId("MIG-1", "GPU-1"), interrupted(told), tmp_path)
    with holder("GPU-1", tmp_path), pytest.raises(InterruptedError), part:
        pytest.fail("a part was given away beside the whole")
    assert len(told) == 3
    with DeviceLock(LockId("GPU-1"), lambda _: pytest.fail("waited"), tmp_path):
        pass


def interrupted(told: list[str]) -> Callable[[str], None]:
    """Gives up as soon as it has to wait."""

    def give_up(holder: str) -> None:
        told.append(holder)
        raise InterruptedError

    return give_up
