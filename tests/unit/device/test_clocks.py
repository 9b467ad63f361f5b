"""Locked clocks are given back, whatever becomes of the process that wanted them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.nvml import MockNvml

UUID = "GPU-00000000-1111-2222-3333-444444444444"
LOCKED = f"lock {UUID} 1410 1410"
RESET = f"reset {UUID}"

_LOCK = """
import os, signal, sys, time
from pytest_gpuperf.device import FreeClocks, LockedClocks, find_device
from pytest_gpuperf.errors import GpuperfError

wanted, mhz = (*sys.argv[1:], *("0", "1410")[len(sys.argv) - 1 :])
try:
    device = find_device(wanted)
    clocks = LockedClocks(device, int(mhz)) if mhz != "free" else FreeClocks(device)
except GpuperfError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("locked", flush=True)
{ending}
"""
ENDINGS = {
    "closed": "clocks.close(); clocks.close()",
    "left to the interpreter": "",
    "an exception": "raise RuntimeError",
    "os._exit": "os._exit(0)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "told to end": "os.kill(os.getpid(), signal.SIGTERM)",
    "interrupted": "os.kill(os.getpid(), signal.SIGINT)",
    "a child that outlives it": "os.fork() or time.sleep(1.5); os._exit(0)",
    "closed beside a child": "child = os.fork() or time.sleep(60) or os._exit(0); clocks.close(); os.kill(child, 9)",
}


def start(mock: MockNvml, folder: Path, ending: str, *arguments: str, **settings: object) -> subprocess.Popen[str]:
    log = folder / "clocks"
    environment = {**os.environ, "TMPDIR": str(folder), **mock.environment(CLOCKS_FILE=log, **settings)}
    code = _LOCK.replace("{ending}", ending)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def log_of(folder: Path, lines: int, timeout_s: float = 10) -> list[str]:
    """What was done to the clocks, once it is so many lines."""
    end = time.monotonic() + timeout_s
    path = folder / "clocks"
    while time.monotonic() < end:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) >= lines:
            return found
        time.sleep(0.05)
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("how", ENDINGS)
def test_they_are_given_back(mock_nvml: MockNvml, tmp_path: Path, how: str) -> None:
    with start(mock_nvml, tmp_path, ENDINGS[how]) as process:
        process.communicate(timeout=30)
    assert log_of(tmp_path, 2) == [LOCKED, RESET]


def test_ctrl_c_of_the_terminal_does_not_end_them_early(mock_nvml: MockNvml, tmp_path: Path) -> None:
    # Its own group, so that the signal meets nobody else.
    ending = "signal.signal(signal.SIGINT, lambda *_: None); os.kill(0, signal.SIGINT); input()"
    with start(mock_nvml, tmp_path, ending) as process:
        assert log_of(tmp_path, 1) == [LOCKED]
        time.sleep(0.4)
        assert log_of(tmp_path, 1) == [LOCKED]
        process.communicate("\n", timeout=30)
    assert log_of(tmp_path, 2) == [LOCKED, RESET]


def test_of_two_that_want_them_the_last_one_gives_them_back(mock_nvml: MockNvml, tmp_path: Path) -> None:
    with start(mock_nvml, tmp_path, "input()") as one, start(mock_nvml, tmp_path, "input()") as other:
        assert log_of(tmp_path, 2) == [LOCKED, LOCKED]
        one.communicate("\n", timeout=30)
        time.sleep(0.3)
        assert log_of(tmp_path, 2) == [LOCKED, LOCKED]
        other.send_signal(signal.SIGKILL)
        other.communicate(timeout=30)
    assert log_of(tmp_path, 3) == [LOCKED, LOCKED, RESET]


def agreed(process: subprocess.Popen[str]) -> bool:
    """It has the clocks that it wants."""
    assert process.stdout is not None
    return process.stdout.readline() == "locked\n"


@pytest.mark.parametrize(
    ("first", "second", "policies"),
    [
        ("1410", "1200", ("locked 1410 MHz", "locked 1200 MHz")),
        ("1410", "free", ("locked 1410 MHz", "default")),
        ("free", "1410", ("default", "locked 1410 MHz")),
    ],
)
def test_while_one_measures_others_may_not_want_other_clocks(
    mock_nvml: MockNvml, tmp_path: Path, first: str, second: str, policies: tuple[str, str]
) -> None:
    with start(mock_nvml, tmp_path, "input()", "0", first) as one:
        assert agreed(one)
        with start(mock_nvml, tmp_path, "", "0", second) as refused:
            _, error = refused.communicate(timeout=30)
        assert error.startswith("DeviceError: GPU NVIDIA Mock 80GB can't be measured with the clock policy")
        assert f"with the clock policy {policies[1]!r}: process {one.pid}" in error
        assert f"measures there with {policies[0]!r}" in error
        with start(mock_nvml, tmp_path, ENDINGS["closed"], "0", first) as alike:
            assert agreed(alike)
        one.communicate("\n", timeout=30)
    # Who was refused has done nothing to them.
    done = [LOCKED, LOCKED, RESET] if first == "1410" else []
    assert log_of(tmp_path, len(done)) == done
    with start(mock_nvml, tmp_path, ENDINGS["closed"], "0", second) as afterwards:
        assert agreed(afterwards)


def test_other_clocks_may_follow_a_record_that_was_killed(mock_nvml: MockNvml, tmp_path: Path) -> None:
    with start(mock_nvml, tmp_path, "input()") as one:
        assert agreed(one)
        # Its keeper notices at its next poll.
        one.kill()
        one.wait()
    with start(mock_nvml, tmp_path, "", "0", "free") as other:
        assert agreed(other)
    assert log_of(tmp_path, 2) == [LOCKED, RESET]


def test_clocks_that_can_t_be_given_back_are_an_error(mock_nvml: MockNvml, tmp_path: Path) -> None:
    with start(mock_nvml, tmp_path, "clocks.close()", ERROR_nvmlDeviceResetGpuLockedClocks=15) as process:
        _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "DeviceError: The clocks of GPU NVIDIA Mock 80GB may still be locked: GPU is lost.\n" in error
    assert "nvidia-smi --reset-gpu-clocks" in error


def test_without_permission_it_says_what_it_takes(mock_nvml: MockNvml, tmp_path: Path) -> None:
    with start(mock_nvml, tmp_path, "", ERROR_nvmlDeviceSetGpuLockedClocks=4) as process:
        _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert error.startswith("NvmlError: --gpuperf-lock-clocks")
    assert "root" in error
    assert not (tmp_path / "clocks").exists()


def test_who_asked_first_and_in_vain_is_not_in_the_way_of_root(mock_nvml: MockNvml, tmp_path: Path) -> None:
    """As after a pytest without root: in a sticky directory the kernel refuses root to create another's file."""
    if os.geteuid():
        pytest.skip("only root can give a file away")
    tmp_path.chmod(0o1777)
    other = tmp_path / f"gpuperf-clocks-{UUID}.lock"
    other.touch()
    os.chown(other, 12345, 12345)
    with start(mock_nvml, tmp_path, ENDINGS["closed"]) as process:
        _, error = process.communicate(timeout=30)
    assert not error
    assert log_of(tmp_path, 2) == [LOCKED, RESET]


def test_the_cpu_has_none(mock_nvml: MockNvml, tmp_path: Path) -> None:
    with start(mock_nvml, tmp_path, "", "cpu") as process:
        _, error = process.communicate(timeout=30)
    assert error.startswith("DeviceError: --gpuperf-lock-clocks: there is no GPU under test")
