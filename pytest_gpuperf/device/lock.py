"""One measurement at a time on one device, across processes (pytest-xdist workers, two terminals, two CI jobs)."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

from pytest_gpuperf.errors import DeviceError

_POLL_S = 0.1


class DeviceLock:
    """An advisory lock (flock(2)) on a file named after the device; the kernel frees it when its holder dies.

    Args:
        device_id: the device's id. ``SLICE in GPU``: a part of another device, which others may use parts of
            meanwhile, and nobody as a whole.
        waiting: called once, with the holder's description, when somebody else has the device.
        directory: where lock files live; the system's temporary directory, so that all checkouts share it.
    """

    def __init__(
        self, device_id: str, waiting: Callable[[str], None] = lambda _: None, directory: Path | None = None
    ) -> None:
        part, _, whole = device_id.partition(" in ")
        place = directory or Path(tempfile.gettempdir())
        self.path, *shared = (place / f"gpuperf-{_name(one)}.lock" for one in (part, whole) if one)
        self._shared = shared
        self._waiting = waiting
        self._held: list[IO[str]] = []

    def __enter__(self) -> DeviceLock:
        with ExitStack() as undo:
            for path in self._shared:
                self._held.append(undo.enter_context(self._take(path, fcntl.LOCK_SH)))
            file = undo.enter_context(self._take(self.path, fcntl.LOCK_EX))
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()}")
            file.flush()
            self._held.append(file)
            undo.pop_all()
        return self

    def _take(self, path: Path, how: int) -> IO[str]:
        """The locked file."""
        file = open_shared(path)
        told = False
        with ExitStack() as undo:
            undo.callback(file.close)
            while not try_lock(file, how):
                if not told:
                    file.seek(0)
                    self._waiting(file.read().strip() or "another process")
                    told = True
                time.sleep(_POLL_S)
            undo.pop_all()
        return file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._held:
            self._held.pop().close()


def open_shared(path: Path) -> IO[str]:
    """A lock file, which all users of the machine share.

    Raises:
        DeviceError: somebody has put something else in its place.
    """
    while True:
        try:
            # Without O_CREAT: in a sticky directory the kernel refuses that on others' files (fs.protected_regular).
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
        os.fchmod(descriptor, 0o666)  # whatever the umask of the one who came first
        return os.fdopen(descriptor, "r+")


def _name(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", device)


def try_lock(file: IO[str], how: int) -> bool:
    """Take flock(2), or change how it is held, without waiting. When refused, a lock that was held is lost."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
