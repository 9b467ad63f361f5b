"""The commit that is measured."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkout:
    """Commit and state of a git checkout.

    Attributes:
        commit: Hash of the checked-out commit; empty where there is no repository, no commit yet, or no git.
        dirty: Whether tracked files differ from it; None where that is unknown.
    """

    commit: str = ""
    dirty: bool | None = None


def read_checkout(directory: Path) -> Checkout:
    """Return the commit that is checked out in a directory's repository."""
    commit = _git(directory, "rev-parse", "HEAD")
    if not commit:
        return Checkout()
    status = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return Checkout(commit, None if status is None else bool(status))


def _git(directory: Path, *arguments: str) -> str | None:
    """Return git's output; None if it failed."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
