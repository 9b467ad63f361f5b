"""Locked GPU clocks, which reduce the spread between runs and so the smallest detectable regression."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from pytest_gpuperf.clock import time
from pytest_gpuperf.device.device import Device
from pytest_gpuperf.device.lock import DeviceLock, LockId, open_shared, try_lock
from pytest_gpuperf.errors import DeviceError, NvmlError

_KEEPER = Path(__file__).with_name("clock_keeper.py")
#: The keeper resets within a poll; a driver that must be loaded takes seconds.
_RESET_S = 5.0
#: How long locking may take: it loads the driver, too.
_LOCK_S = 30.0
#: A killed invocation has reset its clocks after this time, unless the driver must be loaded.
_PATIENCE_S = 1.0
_POLL_S = 0.1


def policy(mhz: int | None) -> str:
    """Return the key's ``clock_policy`` for locked clocks; None stands for the highest clock within the power limit."""
    return f"locked {mhz} MHz" if mhz else "locked tdp"


class LockedClocks:
    """Locks the clocks of a GPU until this object is closed or this process has ended in any way.

    Args:
        device: A GPU, or a slice, which stands for its whole GPU.
        mhz: Clock in MHz; None for the highest clock within the power limit.

    Raises:
        DeviceError: The clocks can't be locked, or another process measures with other clocks.
    """

    def __init__(self, device: Device, mhz: int | None) -> None:
        if device.kind != "gpu":
            raise DeviceError(
                "--gpuperf-lock-clocks: there is no GPU under test. Leave the option out, or choose a GPU."
            )
        pynvml = find_spec("pynvml")
        assert pynvml is not None
        assert pynvml.origin is not None
        uuid = device.parent or device.id
        with _join_policy(device, policy(mhz)) as shared, open_shared(_gate(device).path) as gate:
            descriptors = (shared.fileno(), gate.fileno())
            arguments = [os.getpid(), uuid, mhz or 0, *descriptors, Path(pynvml.origin).parent]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=descriptors,
                text=True,
                start_new_session=True,  # so that Ctrl-C in the terminal does not end it
            )
        self._label, self._locked = device.label, False
        with ExitStack() as undo:
            undo.callback(self.close)
            assert self._process.stdout is not None
            if not select.select([self._process.stdout], (), (), _LOCK_S)[0]:
                raise DeviceError(
                    f"The clocks of {device.label} were not locked within {_LOCK_S:g} s: does the driver hang?"
                )
            reply = self._process.stdout.readline().strip()
            if reply != "locked":
                raise _failure(device, reply)
            self._locked = True
            undo.pop_all()

    def close(self) -> None:
        """Reset the clocks, and wait for it. May be called twice.

        Raises:
            DeviceError: The clocks could not be reset.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if stdout.closed:
            return
        stdin.close()
        # A process forked in the meantime may hold the other end of its input open; a signal ends the keeper then.
        for send_signal in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(_RESET_S)
            except subprocess.TimeoutExpired:
                send_signal()
        try:
            status = self._process.wait(_RESET_S)
        except subprocess.TimeoutExpired:
            status = -signal.SIGKILL  # it hangs in the driver
        with stdout:
            _, why = _parse_failure(stdout.read().strip() if status else "")
        if status < 0 or (status and self._locked):
            raise DeviceError(
                f"The clocks of {self._label} may still be locked: {why or 'the process that locked them died'}.\n"
                "Reset them with: nvidia-smi --reset-gpu-clocks"
            )


class FreeClocks:
    """Keeps other processes from locking the clocks of a GPU until this object is closed or this process has ended.

    Args:
        device: A GPU, or a slice, which stands for its whole GPU.

    Raises:
        DeviceError: Another process has locked the clocks.
    """

    def __init__(self, device: Device) -> None:
        self._shared = _join_policy(device, str(device.key["clock_policy"]))

    def close(self) -> None:
        """Allow others to lock the clocks. May be called twice."""
        self._shared.close()


def _gate(device: Device) -> DeviceLock:
    """Return the lock held while a process joins or leaves, since flock(2) does not change its mode atomically."""
    return DeviceLock(LockId(f"clocks-{device.parent or device.id}"))


def _join_policy(device: Device, policy: str) -> IO[str]:
    """Open the file with the clock policy of all processes that measure on a GPU; closing it leaves them.

    Each process holds a shared lock on the file. The file also names the process that wrote it.
    """
    gate, end_s = _gate(device), time.monotonic() + _PATIENCE_S
    with ExitStack() as undo:
        shared = undo.enter_context(open_shared(gate.path.with_name(f"{gate.path.stem}-policy.lock")))
        while True:
            with gate:
                if try_lock(shared, fcntl.LOCK_EX):
                    os.ftruncate(shared.fileno(), 0)
                    os.pwrite(shared.fileno(), json.dumps({"policy": policy, "pid": os.getpid()}).encode(), 0)
                current, pid = _read_policy(shared)
                if current == policy:
                    fcntl.flock(shared, fcntl.LOCK_SH)
                    undo.pop_all()
                    return shared
            if time.monotonic() > end_s:
                raise DeviceError(
                    f"{device.label} can't be measured with the clock policy {policy!r}: process {pid}, or one that "
                    f"joined it, measures there with {current!r}.\n"
                    "Wait until it has ended, or use the same --gpuperf-lock-clocks for both."
                )
            time.sleep(_POLL_S)


def _read_policy(shared: IO[str]) -> tuple[str, int]:
    """Return a file's clock policy and the process that wrote it; an empty policy if the file is damaged."""
    try:
        data = json.loads(os.pread(shared.fileno(), 1000, 0))
        return str(data["policy"]), int(data["pid"])
    except (ValueError, KeyError, TypeError):
        return "", 0


def _failure(device: Device, reply: str) -> DeviceError:
    kind, message = _parse_failure(reply)
    if kind == "no_permission":
        return NvmlError(
            kind,
            f"--gpuperf-lock-clocks: the clocks of {device.label} can't be locked: {message}.\n"
            "It requires root (or CAP_SYS_ADMIN in a container). Run pytest as root, or leave the option out.",
        )
    return DeviceError(
        f"--gpuperf-lock-clocks: the clocks of {device.label} can't be locked: {message or 'no reason was given'}.\n"
        "Locked clocks require Volta or later. Leave the option out."
    )


def _parse_failure(reply: str) -> tuple[str, str]:
    """Return kind and message of a keeper's ``failed KIND MESSAGE``."""
    _, kind, message = (*reply.split(" ", 2), "", "")[:3]
    return kind, message
