"""Identity of the machine: what stays the same from record to record, unlike the host name of a container.

A container has a host name of its own, and the machine id of its image, if any. So what identifies its machine is the
kernel's boot id, which all containers on the machine share until it restarts. A restarted machine then counts as
another machine, which costs the gate some certainty and no false alarm.
"""

from __future__ import annotations

import hashlib
import platform
import re
from pathlib import Path

_CONTAINER_FILES = (".dockerenv", "run/.containerenv", "run/systemd/container")
_CONTAINER_GROUP = re.compile(r"docker|kubepods|containerd|libpod|lxc")
_ID = re.compile(r"[0-9a-f]{32}")


def machine_id(root: Path = Path("/")) -> str:
    """Return digits that identify the machine. They don't reveal its machine id, which is confidential.

    Args:
        root: Root of the file system with ``etc``, ``proc`` and ``run``.
    """
    name = "proc/sys/kernel/random/boot_id" if _in_container(root) else "etc/machine-id"
    known = _text(root / name).replace("-", "")
    identity = known if _ID.fullmatch(known) else platform.node()
    return hashlib.sha256(f"pytest-gpuperf {identity}".encode()).hexdigest()[:16]


def _in_container(root: Path) -> bool:
    if any((root / name).exists() for name in _CONTAINER_FILES):
        return True
    return _CONTAINER_GROUP.search(_text(root / "proc/1/cgroup")) is not None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
