"""Locks that allow one measurement at a time on a device, across pytest-xdist workers, terminals and CI jobs."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import DeviceError

_POLL_S = 0.1


@dataclass(frozen=True, order=True)
class LockId:
    """Identity of a lock.

    Attributes:
        device: Id of the device.
        parent: Id of the device that it is a slice of; empty for other devices. While a slice is locked, others may
            lock other slices of the parent, but not the parent.
    """

    device: str
    parent: str = ""


class DeviceLock:
    """An advisory lock (flock(2)) on a file named after the device; the kernel frees it when its holder dies.

    Args:
        waiting: Called once with the holder's description when another process holds the lock.
        directory: Directory of the lock files; by default the system's temporary directory, which all checkouts share.
    """

    def __init__(
        self, lock_id: LockId, waiting: Callable[[str], None] = lambda _: None, directory: Path | None = None
    ) -> None:
        folder = directory or Path(tempfile.gettempdir())
        names = (re.sub(r"[^A-Za-z0-9.-]+", "-", device) for device in (lock_id.device, lock_id.parent) if device)
        self.path, *self._shared = (folder / f"gpuperf-{name}.lock" for name in names)
        self._waiting = waiting
        self._held: list[IO[str]] = []

    def __enter__(self) -> DeviceLock:
        with ExitStack() as undo:
            for path in self._shared:
                self._held.append(undo.enter_context(self._acquire(path, fcntl.LOCK_SH)))
            file = undo.enter_context(self._acquire(self.path, fcntl.LOCK_EX))
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()}")
            file.flush()
            self._held.append(file)
            undo.pop_all()
        return self

    def _acquire(self, path: Path, mode: int) -> IO[str]:
        """Open and lock a file, waiting for it."""
        file = open_shared(path)
        notified = False
        with ExitStack() as undo:
            undo.callback(file.close)
            while not try_lock(file, mode):
                if not notified:
                    file.seek(0)
                    self._waiting(file.read().strip() or "another process")
                    notified = True
                time.sleep(_POLL_S)
            undo.pop_all()
        return file

    def __exit__(self, *_: object) -> None:
        while self._held:
            self._held.pop().close()


def open_shared(path: Path) -> IO[str]:
    """Open a lock file, which all users of the machine share.

    Raises:
        DeviceError: The path is not a regular file that can be opened.
    """
    while True:
        try:
            # Without O_CREAT, which the kernel refuses for others' files in a sticky directory (fs.protected_regular).
            return os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW), "r+")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DeviceError(
                f"The lock of the device can't be opened: {error}.\nRemove {path}, or set TMPDIR to another directory."
            ) from error
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        os.fchmod(descriptor, 0o666)  # whatever the umask of this process
        return os.fdopen(descriptor, "r+")


def try_lock(file: IO[str], mode: int) -> bool:
    """Acquire a flock(2), or change its mode, without waiting. If that fails, a lock held before is lost."""
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
