"""Run a command and make sure that none of its processes outlives the process that requested it.

A script for ``python -I -S``, standard library only::

    supervisor.py PARENT_PID GRACE_S SHM_PREFIX SCRATCH CPUS CLEANUP -- COMMAND...

The supervisor ends the command (SIGINT, then SIGKILL to its process group after GRACE_S seconds) when its standard
input is closed, when its parent has died in any way, or on SIGTERM, SIGINT or SIGHUP. It then removes shared memory
whose name begins with SHM_PREFIX, and kills the processes that have SHM_PREFIX as the variable GPUPERF_SERVER in their
environment, which children of the command inherit. If the parent has died, or with SHM_PREFIX has requested the end, it
also removes the directory SCRATCH. Its exit status is the command's; on a signal it ends by that signal.

CPUS, such as ``0,2``, are the cores that the supervisor and the command may use; all when empty. CLEANUP is a command
as a JSON array, ``[]`` for none; it runs after the first command has ended, for whatever reason.

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
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Environment variable that marks the processes of a server.
MARK = "GPUPERF_SERVER"
SHARED_MEMORY = "/dev/shm"
#: Name after SHM_PREFIX of the file that is locked while the owner lives; see ``scratch``.
OWNER = "owner"
#: A container is removed in well under a second, unless its daemon hangs.
CLEANUP_S = 10.0
_POLL_S = 0.1
_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    parent, grace_s, shm_prefix, scratch = int(arguments[0]), float(arguments[1]), arguments[2], arguments[3]
    cpus, cleanup, command = arguments[4], json.loads(arguments[5]), arguments[7:]
    received = 0
    if cpus:
        os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])  # inherited by the command

    def stop(number: int, _frame: object) -> None:
        nonlocal received
        received = number

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    libc = ctypes.CDLL(None)
    supervisor = os.getpid()

    def die_with_supervisor() -> None:
        # Safe here, since this process has a single thread. Covers the case that the supervisor is killed.
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)

    # A new session, so that the command's process group can be signalled without reaching other processes.
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_supervisor,  # noqa: PLW1509
    )
    requested = False
    while child.poll() is None and not received and os.getppid() == parent:
        ready, _, _ = select.select([0], [], [], _POLL_S)
        if ready and not os.read(0, 1):
            requested = True
            break
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + grace_s
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_S / 5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # the processes of the group that are left, the command included
    status = child.wait()
    remove_traces(shm_prefix, cleanup)
    if scratch and ((requested and shm_prefix) or os.getppid() != parent):
        shutil.rmtree(scratch, ignore_errors=True)
        Path(SHARED_MEMORY, f"{shm_prefix}{OWNER}").unlink(missing_ok=True)
    if received:
        signal.signal(received, signal.SIG_DFL)
        os.kill(supervisor, received)
    return status if status >= 0 else 128 - status


def remove_traces(shm_prefix: str, cleanup: Sequence[str]) -> None:
    """Kill the processes that a server left, run its cleanup command, and remove its shared memory."""
    if shm_prefix:
        for pid in marked_processes(shm_prefix):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    if cleanup:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(cleanup, stdin=subprocess.DEVNULL, capture_output=True, timeout=CLEANUP_S, check=False)
    if shm_prefix:
        for region in Path(SHARED_MEMORY).glob(f"{shm_prefix}*"):
            if region.name != f"{shm_prefix}{OWNER}":
                region.unlink(missing_ok=True)


def marked_processes(shm_prefix: str) -> Iterator[int]:
    """Yield the other processes of this user that descend from the server with this prefix."""
    mark = f"{MARK}={shm_prefix}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
