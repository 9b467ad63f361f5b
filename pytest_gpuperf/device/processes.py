"""Process trees, what memory they have, and which processes on a GPU are ours."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seven numbers of up to 20 digits.
_STATM_BYTES = 256
#: Inode of the machine's own PID namespace (PROC_PID_INIT_INO of the kernel).
_FIRST_NAMESPACE = "pid:[4026531836]"


def stats(proc: Path = Path("/proc")) -> dict[int, list[str]]:
    """The fields of every process's ``stat`` behind its command, by process number: state, parent, ..."""
    found = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                # The second field is the command in parentheses and may hold anything, even a part of a character.
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # ended while we looked
            if len(fields) > 1 and fields[1].isdigit():
                found[int(folder.name)] = fields
    return found


def family(roots: Iterable[int], table: Mapping[int, Sequence[str]]) -> frozenset[int]:
    """The processes and all that descend from them, as far as they are alive.

    Args:
        table: as ``stats`` gives it.
    """
    children: dict[int, list[int]] = {}
    for pid, fields in table.items():
        children.setdefault(int(fields[1]), []).append(pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid in table and pid not in found:
            found.add(pid)
            todo += children.get(pid, ())
    return frozenset(found)


def descendants(roots: Iterable[int], proc: Path = Path("/proc")) -> frozenset[int]:
    """The processes and all that descend from them, as far as they are alive."""
    return family(roots, stats(proc))


def resident_bytes(pids: Collection[int], proc: Path = Path("/proc")) -> int | None:
    """Resident memory of the processes; what several of them share counts for each. None when none is alive."""
    total, seen = 0, False
    for pid in pids:
        try:
            # Ten times a second: without pathlib and buffers it takes a quarter of the time.
            descriptor = os.open(f"{proc}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
            try:
                total += int(os.read(descriptor, _STATM_BYTES).split()[1]) * _PAGE
            finally:
                os.close(descriptor)
        except (OSError, IndexError, ValueError):
            continue  # ended
        seen = True
    return total if seen else None


def describe(pids: Iterable[int], proc: Path = Path("/proc")) -> str:
    """``1234 python, 1240 tritonserver``."""
    return ", ".join(f"{pid} {command}".strip() for pid in sorted(pids) for command in [_command(pid, proc)])


def _command(pid: int, proc: Path) -> str:
    try:
        return (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def numbers_are_ours(listed: Collection[int], ours: Collection[int], proc: Path = Path("/proc")) -> bool:
    """Whether process numbers that the driver lists are those of this PID namespace.

    In a container they may be the machine's. There they are believed only where one that should be listed is.
    """
    try:
        first = str((proc / "self" / "ns" / "pid").readlink()) == _FIRST_NAMESPACE
    except OSError:
        first = False
    return first or not set(ours).isdisjoint(listed)
