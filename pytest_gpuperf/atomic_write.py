"""Files that are replaced atomically."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from pytest_gpuperf.clock import wall_s

_TEMPORARY = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-[0-9a-f]{8}")
#: Age from which a temporary file of another machine is abandoned; no file takes so long to write.
_ABANDONED_S = 86_400.0


@contextmanager
def atomic_write(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path for the new content of ``path``, and replace ``path`` with it unless an error was raised.

    Readers see the old content until then; concurrent writers have temporary paths of their own. The temporary files of
    writers that were killed are deleted.

    Args:
        folder: Folder of the temporary file, on the same file system; that of ``path`` by default.

    Raises:
        OSError: ``path`` can't be replaced.
    """
    folder = folder or path.parent
    beginning = f".{path.name[:100]}."
    _delete_abandoned(folder, "." if folder != path.parent else beginning)
    temporary = folder / f"{beginning}{writer()}-{uuid.uuid4().hex[:8]}"
    try:
        yield temporary
        try:
            temporary.replace(path)
        except FileNotFoundError:  # another process has just deleted the folder, which was empty
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _delete_abandoned(folder: Path, beginning: str) -> None:
    """Delete the temporary files whose writer has ended."""
    with suppress(OSError), os.scandir(folder) as items:
        for item in items:
            match = _TEMPORARY.fullmatch(item.name) if item.name.startswith(beginning) else None
            with suppress(OSError):
                if match and _is_abandoned(item, match["machine"], int(match["pid"])):
                    Path(item.path).unlink()


def _is_abandoned(item: os.DirEntry[str], machine: str, pid: int) -> bool:
    ended = has_ended(f"{machine}-{pid}")
    return wall_s() - item.stat(follow_symlinks=False).st_mtime > _ABANDONED_S if ended is None else ended


def writer() -> str:
    """Return digits of this process, which are unique among all machines."""
    return f"{_machine()}-{os.getpid()}"


def has_ended(writer: str) -> bool | None:
    """Return whether the process that ``writer`` describes has ended; None if it is of another machine."""
    machine, _, pid = writer.partition("-")
    if machine != _machine() or not pid.isdecimal():
        return None
    try:
        os.kill(int(pid), 0)
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError, OverflowError):
        return True
    except OSError:  # it belongs to another user
        return False
    return stat.rpartition(")")[2].split()[:1] == ["Z"]  # its parent has not yet asked for its exit status


@cache
def _machine() -> str:
    """Return digits of the machine, or container, inside which process ids are unique."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{socket.gethostname()} {namespace}".encode()).hexdigest()[:8]
