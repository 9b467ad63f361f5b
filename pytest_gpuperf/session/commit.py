"""Which commit is measured."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit_of(directory: Path) -> tuple[str, bool | None]:
    """The checked-out commit of a directory's repository, and whether files differ from it.

    An empty string and None where there is no repository, no commit yet, or no git.
    """
    head = _git(directory, "rev-parse", "HEAD")
    if not head:
        return "", None
    status = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return head, None if status is None else bool(status)


def _git(directory: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
