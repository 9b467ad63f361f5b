"""Locked GPU clocks: run-to-run spread falls, and so the smallest regression that can be seen."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from pytest_gpuperf.device.device import Device
from pytest_gpuperf.device.lock import DeviceLock, open_shared, try_lock
from pytest_gpuperf.errors import DeviceError, NvmlError

_KEEPER = Path(__file__).with_name("clock_keeper.py")
#: It resets within a poll; a driver that has to be woken takes seconds.
_RESET_S = 5.0
#: A record that was killed has given its clocks back after this, unless the driver has to be woken.
_PATIENCE_S = 1.0
_POLL_S = 0.1


def policy(mhz: int | None) -> str:
    """The key's ``clock_policy``: of clocks locked to so many MHz; to what the power limit allows when None."""
    return f"locked {mhz} MHz" if mhz else "locked tdp"


class LockedClocks:
    """The clocks of a GPU, locked until this is closed or this process is gone, however that ends.

    Args:
        device: a GPU, or a slice: then its whole GPU.
        mhz: None for the highest clock that the GPU can hold within its power limit.

    Raises:
        DeviceError: they can't be locked, or others measure with other clocks; says why, and what to do.
    """

    def __init__(self, device: Device, mhz: int | None) -> None:
        if device.kind != "gpu":
            raise DeviceError("--gpuperf-lock-clocks: there is no GPU under test. Leave it out, or choose a GPU.")
        pynvml = find_spec("pynvml")
        assert pynvml is not None
        assert pynvml.origin is not None
        uuid = device.parent or device.id
        with _agreed(device, policy(mhz)) as shared, open_shared(_gate(device).path) as gate:
            descriptors = (shared.fileno(), gate.fileno())
            arguments = [os.getpid(), uuid, mhz or 0, *descriptors, Path(pynvml.origin).parent]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=descriptors,
                text=True,
                start_new_session=True,  # the terminal's Ctrl-C is not for it
            )
        self._label, self._locked = device.label, False
        with ExitStack() as undo:
            undo.callback(self.close)
            assert self._process.stdout is not None
            said = self._process.stdout.readline().strip()
            if said != "locked":
                raise _failure(device, said)
            self._locked = True
            undo.pop_all()

    def close(self) -> None:
        """Give the clocks back, and wait until that is done. May be called twice.

        Raises:
            DeviceError: they could not be given back.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if stdout.closed:
            return
        stdin.close()
        # A process that was forked meanwhile may hold the other end of its input open: then it is told by a signal.
        for tell in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(_RESET_S)
            except subprocess.TimeoutExpired:
                tell()
        status = self._process.wait()
        with stdout:
            _, why = _words(stdout.read().strip() if status else "")
        if status < 0 or (status and self._locked):
            raise DeviceError(
                f"The clocks of {self._label} may still be locked: {why or 'what keeps them died'}.\n"
                "Give them back with: nvidia-smi --reset-gpu-clocks"
            )


class FreeClocks:
    """The clocks of a GPU as they are: no other record locks them until this is closed or this process is gone.

    Args:
        device: a GPU, or a slice: then its whole GPU.

    Raises:
        DeviceError: another record has locked them.
    """

    def __init__(self, device: Device) -> None:
        self._shared = _agreed(device, str(device.key["clock_policy"]))

    def close(self) -> None:
        """Others may lock them. May be called twice."""
        self._shared.close()


def _gate(device: Device) -> DeviceLock:
    """Held by whoever joins or leaves those that share the GPU's clocks, since flock(2) is not changed in one step."""
    return DeviceLock(f"clocks-{device.parent or device.id}")


def _agreed(device: Device, wanted: str) -> IO[str]:
    """A file that says which clock policy all have that measure on a GPU, each in its turn; closing it leaves them.

    Each holds it locked to be shared. It says who began as well.

    Raises:
        DeviceError: others measure there with another policy.
    """
    gate, end_s = _gate(device), time.monotonic() + _PATIENCE_S
    with ExitStack() as undo:
        shared = undo.enter_context(open_shared(gate.path.with_name(f"{gate.path.stem}-policy.lock")))
        while True:
            with gate:
                if try_lock(shared, fcntl.LOCK_EX):
                    os.ftruncate(shared.fileno(), 0)
                    os.pwrite(shared.fileno(), f"{wanted}, process {os.getpid()}".encode(), 0)
                found, _, first = os.pread(shared.fileno(), 1000, 0).decode(errors="replace").partition(", ")
                if found == wanted:
                    fcntl.flock(shared, fcntl.LOCK_SH)
                    undo.pop_all()
                    return shared
            if time.monotonic() > end_s:
                raise DeviceError(
                    f"The clock policy of {device.label} is to be {wanted!r}, and {first}, or one that came after it, "
                    f"measures there with {found!r}.\n"
                    "Wait until that has ended, or give both the same --gpuperf-lock-clocks."
                )
            time.sleep(_POLL_S)


def _failure(device: Device, said: str) -> DeviceError:
    kind, words = _words(said)
    if kind == "no_permission":
        return NvmlError(
            kind,
            f"--gpuperf-lock-clocks: the clocks of {device.label} can't be locked: {words}.\n"
            "That takes root (or CAP_SYS_ADMIN in a container): run pytest with it, or leave the option out.",
        )
    return DeviceError(
        f"--gpuperf-lock-clocks: the clocks of {device.label} can't be locked: {words or 'no reason was given'}.\n"
        "Locked clocks take a Volta or newer; leave the option out."
    )


def _words(said: str) -> tuple[str, str]:
    """Kind and message of a keeper's ``failed KIND MESSAGE``."""
    _, kind, words = (*said.split(" ", 2), "", "")[:3]
    return kind, words
