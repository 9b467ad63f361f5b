"""Runs one command and makes sure that nothing of it outlives whoever asked for it.

A script for ``python -I -S``, standard library only::

    supervisor.py PARENT_PID GRACE_S SHM_PREFIX SCRATCH CPUS AFTERWARDS -- COMMAND...

It ends the command (SIGINT, after GRACE_S SIGKILL, to its whole process group) when its standard input is closed, when
its parent is gone however that died, or on SIGTERM. It then removes shared memory whose name begins with SHM_PREFIX,
and, if the parent is gone, the directory SCRATCH. Its exit status is the command's.

CPUS, as ``0,2``, are the cores that it and the command may run on; all when empty. AFTERWARDS is a command as a JSON
array; it is run when the first one has ended, whatever ended that, and may do nothing (``[]``).

A process in between, rather than PR_SET_PDEATHSIG from pytest itself: that signal follows the *thread* that forked,
needs ``preexec_fn``, which is unsafe in a process with threads, and would not reach the grandchildren.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1
#: A container is removed in well under a second, unless its daemon is in trouble; nobody should wait for that.
_AFTERWARDS_S = 10.0


def main(arguments: list[str]) -> int:
    parent, grace_s, shm_prefix, scratch = int(arguments[0]), float(arguments[1]), arguments[2], arguments[3]
    cpus, afterwards, command = arguments[4], json.loads(arguments[5]), arguments[7:]
    told_to_stop = False
    if cpus:
        os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])  # what is started here inherits it

    def stop(_number: int, _frame: object) -> None:
        nonlocal told_to_stop
        told_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    libc = ctypes.CDLL(None)
    supervisor = os.getpid()

    def die_with_supervisor() -> None:
        # Safe here: this process has one thread. It covers the supervisor's own violent end.
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)

    # Its own session, so that the whole group can be signalled without touching anybody else's.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_supervisor,  # noqa: PLW1509
    )
    while child.poll() is None and not told_to_stop and os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], _POLL_S)
        if ready and not os.read(0, 1):
            break
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + grace_s
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S / 5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # whatever of the group is left, the command itself included
    status = child.wait()
    if afterwards:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                afterwards, stdin=subprocess.DEVNULL, capture_output=True, timeout=_AFTERWARDS_S, check=False
            )
    if shm_prefix:
        for region in Path("/dev/shm").glob(f"{shm_prefix}*"):
            region.unlink(missing_ok=True)
    if scratch and os.getppid() != parent:
        shutil.rmtree(scratch, ignore_errors=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
