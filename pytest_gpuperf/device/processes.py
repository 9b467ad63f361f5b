"""Process trees, their memory, and which processes on a GPU belong to the measurement."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seven numbers of up to 20 digits.
_STATM_BYTES = 256
#: Inode of the machine's first PID namespace (PROC_PID_INIT_INO of the kernel).
_FIRST_NAMESPACE = "pid:[4026531836]"


def stats(proc: Path = Path("/proc")) -> dict[int, list[str]]:
    """Return the fields of every process's ``stat`` after its command, by process number: state, parent, ..."""
    table = {}
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                # The second field is the command in parentheses and may hold anything, even a part of a character.
                fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # the process has ended
            if len(fields) > 1 and fields[1].isdigit():
                table[int(folder.name)] = fields
    return table


def family(roots: Iterable[int], table: Mapping[int, Sequence[str]]) -> frozenset[int]:
    """Return the live processes among ``roots`` and their descendants.

    Args:
        table: Processes as returned by ``stats``.
    """
    children: dict[int, list[int]] = {}
    for pid, fields in table.items():
        children.setdefault(int(fields[1]), []).append(pid)
    members: set[int] = set()
    pending = list(roots)
    while pending:
        pid = pending.pop()
        if pid in table and pid not in members:
            members.add(pid)
            pending += children.get(pid, ())
    return frozenset(members)


def descendants(roots: Iterable[int], proc: Path = Path("/proc")) -> frozenset[int]:
    """Return the live processes among ``roots`` and their descendants."""
    return family(roots, stats(proc))


def resident_bytes(pids: Collection[int], proc: Path = Path("/proc")) -> int | None:
    """Return the resident memory of processes, counting shared memory for each; None if no process is alive."""
    total, seen = 0, False
    for pid in pids:
        try:
            # This runs ten times a second; without pathlib and buffers it takes a quarter of the time.
            descriptor = os.open(f"{proc}/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
            try:
                total += int(os.read(descriptor, _STATM_BYTES).split()[1]) * _PAGE
            finally:
                os.close(descriptor)
        except (OSError, IndexError, ValueError):
            continue  # the process has ended
        seen = True
    return total if seen else None


def describe(pids: Iterable[int], proc: Path = Path("/proc")) -> str:
    """Describe processes, for example ``1234 python, 1240 tritonserver``."""
    return ", ".join(f"{pid} {command}".strip() for pid in sorted(pids) for command in [_command(pid, proc)])


def _command(pid: int, proc: Path) -> str:
    try:
        return (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def numbers_are_ours(listed: Collection[int], ours: Collection[int], proc: Path = Path("/proc")) -> bool:
    """Return whether process numbers that the driver lists belong to this PID namespace.

    In a container they may be the machine's. There they count only if one of ``ours`` is among them.
    """
    try:
        first = str((proc / "self" / "ns" / "pid").readlink()) == _FIRST_NAMESPACE
    except OSError:
        first = False
    return first or not set(ours).isdisjoint(listed)
