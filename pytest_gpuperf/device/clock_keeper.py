"""Locks a GPU's clocks while its parent process lives, and always resets them.

A script for ``python -I -S``, standard library and pynvml only::

    clock_keeper.py PARENT_PID UUID MHZ SHARED_DESCRIPTOR GATE_DESCRIPTOR PYNVML_DIRECTORY

It locks the clocks, writes ``locked`` (or ``failed KIND MESSAGE``) to its standard output, and resets the clocks when
its standard input is closed, when its parent has died in any way, or on SIGTERM, SIGINT or SIGHUP. Several keepers of
one GPU share a lock on the file behind SHARED_DESCRIPTOR; the last keeper to end resets the clocks. The file behind
GATE_DESCRIPTOR is locked while a keeper joins or leaves. If the reset fails, it writes another ``failed`` and ends with
status 1.

This is a separate process, since no handler of the parent runs when the parent is killed.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
from typing import Any

_POLL_S = 0.1
#: NVML_CLOCK_LIMIT_ID_TDP: the clock that the GPU can hold within its power limit.
_TDP = 0xFFFFFF01


def main(arguments: list[str]) -> int:
    parent, uuid, mhz = int(arguments[0]), arguments[1], int(arguments[2]) or _TDP
    sys.path.insert(0, arguments[5])
    import pynvml

    stopping = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopping
        stopping = True

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    status = 0
    with os.fdopen(int(arguments[3])) as shared, os.fdopen(int(arguments[4])) as gate:
        try:
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            pynvml.nvmlDeviceSetGpuLockedClocks(handle, mhz, mhz)
        except pynvml.NVMLError as error:
            denied = error.value == pynvml.NVML_ERROR_NO_PERMISSION
            _say(f"failed {'no_permission' if denied else 'other'} {error}")
            return 1
        try:
            _say("locked")
            while not stopping and os.getppid() == parent:
                ready, _, _ = select.select([0], [], [], _POLL_S)
                if ready and not os.read(0, 1):
                    break
        finally:
            fcntl.flock(gate, fcntl.LOCK_EX)
            if _is_last(shared):
                try:
                    pynvml.nvmlDeviceResetGpuLockedClocks(handle)
                except pynvml.NVMLError as error:
                    _say(f"failed other {error}")
                    status = 1
    return status


def _say(text: str) -> None:
    # The parent may have died; the reset matters more.
    try:
        print(text, flush=True)  # noqa: T201
    except OSError:
        return


def _is_last(shared: Any) -> bool:
    """Return whether no other keeper shares this GPU. Of two that end at once, one is last: a refused lock is lost."""
    try:
        fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
