"""Locked GPU clocks: run-to-run spread falls, and so the smallest regression that can be seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from pytest_gpuperf.device.device import Device
from pytest_gpuperf.device.lock import open_shared
from pytest_gpuperf.errors import DeviceError, NvmlError

_KEEPER = Path(__file__).with_name("clock_keeper.py")
#: It resets within a poll; a driver that has to be woken takes seconds.
_RESET_S = 5.0


def policy(mhz: int | None) -> str:
    """The key's ``clock_policy``: of clocks locked to so many MHz; to what the power limit allows when None."""
    return f"locked {mhz} MHz" if mhz else "locked tdp"


class LockedClocks:
    """The clocks of a GPU, locked until this is closed or this process is gone, however that ends.

    Args:
        device: a GPU, or a slice: then its whole GPU.
        mhz: None for the highest clock that the GPU can hold within its power limit.

    Raises:
        DeviceError: they can't be locked; says why, and what to do.
    """

    def __init__(self, device: Device, mhz: int | None) -> None:
        if device.kind != "gpu":
            raise DeviceError("--gpuperf-lock-clocks: there is no GPU under test. Leave it out, or choose a GPU.")
        pynvml = find_spec("pynvml")
        assert pynvml is not None
        assert pynvml.origin is not None
        uuid = device.parent or device.id
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", uuid)
        shared = Path(tempfile.gettempdir()) / f"gpuperf-clocks-{name}.lock"
        with open_shared(shared) as file:
            arguments = [os.getpid(), uuid, mhz or 0, file.fileno(), Path(pynvml.origin).parent]
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(file.fileno(),),
                text=True,
                start_new_session=True,  # the terminal's Ctrl-C is not for it
            )
        self._label = device.label
        with ExitStack() as undo:
            undo.callback(self.close)
            assert self._process.stdout is not None
            said = self._process.stdout.readline().strip()
            if said != "locked":
                raise _failure(device, said)
            undo.pop_all()

    def close(self) -> None:
        """Give the clocks back, and wait until that is done. May be called twice.

        Raises:
            DeviceError: they could not be given back.
        """
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        # A process that was forked meanwhile may hold the other end of its input open: then it is told by a signal.
        for tell in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(_RESET_S)
            except subprocess.TimeoutExpired:
                tell()
        status = self._process.wait()
        if status < 0:
            raise DeviceError(
                f"The clocks of {self._label} may still be locked: what keeps them was killed.\n"
                "Give them back with: nvidia-smi --reset-gpu-clocks"
            )


def _failure(device: Device, said: str) -> DeviceError:
    _, kind, words = (*said.split(" ", 2), "", "")[:3]
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
