"""The files of a started server, and those of servers whose owner was killed.

A token names all that belongs to a server: its scratch directory, its shared memory, and an owner file beside that
memory, which is locked while the owner or the server's supervisor lives. The kernel frees a lock with its last holder,
so an owner file that can be locked belongs to a server whose owner and supervisor are dead. The next start of a server,
in any process, removes what the file names.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from pytest_gpuperf.errors import TargetError
from pytest_gpuperf.targets.supervisor import OWNER, SHARED_MEMORY, remove_traces

#: Characters that a path may have: Triton's Python backend writes paths into a shell command without quotes, and
#: reads them as ASCII.
_SAFE = re.compile(r"/[A-Za-z0-9_./:,=+@~%-]*")
#: Directories that are used where TMPDIR has other characters.
_FALLBACKS = ("/tmp", "/var/tmp")
_OWNER_FILE = re.compile(rf"(gpuperf-[0-9a-f]{{12}}-){OWNER}")


class Scratch:
    """The files of one server.

    Args:
        kind: What is served, as a part of the directory's name.

    Attributes:
        path: Directory for the server's files; None if only its shared memory has to be removed.
        prefix: Name prefix of its shared memory; unique on this machine.
        lock: Descriptor of the locked owner file, for the server's supervisor.

    Raises:
        TargetError: The files can't be created.
    """

    def __init__(self, kind: str = "") -> None:
        sweep()
        folder = _directory() if kind else None
        with ExitStack() as undo:
            try:
                self.prefix, self.lock = _claim()
                self.path = folder / f"gpuperf-{kind}-{self.prefix.split('-')[1]}" if folder is not None else None
                # Runs also if this process ends without stopping the server, for example at the second Ctrl-C.
                self._finalize = weakref.finalize(self, _remove, self.path, self.prefix, self.lock, os.getpid())
                undo.callback(self.remove)
                if self.path is not None:
                    self.path.mkdir(mode=0o700)
                self.describe(())
            except OSError as error:
                raise TargetError(
                    f"The files of a server can't be created: {error}.\n"
                    f"Check the free space and the permissions of {SHARED_MEMORY} and {tempfile.gettempdir()}; TMPDIR "
                    "names another temporary directory."
                ) from error
            undo.pop_all()

    def describe(self, cleanup: Sequence[str]) -> None:
        """Write into the owner file what a later ``sweep`` has to remove, and which cleanup command it has to run."""
        content = json.dumps({"scratch": str(self.path or ""), "cleanup": list(cleanup)}).encode()
        os.pwrite(self.lock, content, 0)
        os.ftruncate(self.lock, len(content))

    def remove(self) -> None:
        """Remove the files. May be called twice."""
        self._finalize()


def sweep() -> None:
    """End and remove what interrupted processes of this user left: servers, shared memory and directories."""
    for owner in _owner_files():
        prefix = owner.name.removesuffix(OWNER)
        try:
            descriptor = os.open(owner, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # removed meanwhile, or of another user
            continue
        try:
            if os.fstat(descriptor).st_uid == os.getuid() and _locked(descriptor) and _is_at(descriptor, owner):
                _remove_leftover(prefix, os.pread(descriptor, 1 << 16, 0))
        finally:
            os.close(descriptor)


def _owner_files() -> Iterator[Path]:
    try:
        names = os.listdir(SHARED_MEMORY)  # noqa: PTH208 - a region for each request makes this a long list
    except OSError:
        return
    for name in names:
        if _OWNER_FILE.fullmatch(name):
            yield Path(SHARED_MEMORY, name)


def _remove_leftover(prefix: str, content: bytes) -> None:
    try:
        fields = json.loads(content)
        scratch, cleanup = str(fields["scratch"]), [str(word) for word in fields["cleanup"]]
    except (ValueError, TypeError, KeyError):  # killed before it was written
        scratch, cleanup = "", []
    if not re.fullmatch(rf"gpuperf-[a-z]+-{prefix.split('-')[1]}", Path(scratch).name):
        scratch = ""
    remove_traces(prefix, cleanup)
    _remove_files(Path(scratch) if scratch else None, prefix)


def _claim() -> tuple[str, int]:
    """Create and lock an owner file; return the prefix, and the file's descriptor."""
    while True:
        prefix = f"gpuperf-{uuid.uuid4().hex[:12]}-"
        owner = Path(SHARED_MEMORY, f"{prefix}{OWNER}")
        descriptor = os.open(owner, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # A sweep may have locked and removed the file between the two calls.
        if _locked(descriptor) and _is_at(descriptor, owner):
            return prefix, descriptor
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    return False


def _directory() -> Path:
    """Return the directory for scratch directories: the temporary directory, unless Triton can't use its path."""
    try:
        wanted = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise TargetError(f"There is no writable temporary directory: {error.strerror}.\nSet TMPDIR to one.") from error
    for folder in (wanted, *_FALLBACKS):
        if _SAFE.fullmatch(folder) and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    raise TargetError(
        f"Triton's Python backend can't use the temporary directory {wanted!r}: its path has blanks, quotes or other "
        f"characters of the shell, and neither of {' and '.join(_FALLBACKS)} is writable.\n"
        "Set TMPDIR to a directory whose path consists of letters, digits, and the characters . _ -"
    )


def _remove(path: Path | None, prefix: str, lock: int, owner_pid: int) -> None:
    if os.getpid() != owner_pid:  # a fork of the owner, which ends
        return
    _remove_files(path, prefix)
    os.close(lock)


def _remove_files(path: Path | None, prefix: str) -> None:
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():  # the server still writes; its supervisor, or a later sweep, removes the rest
            return
    Path(SHARED_MEMORY, f"{prefix}{OWNER}").unlink(missing_ok=True)
