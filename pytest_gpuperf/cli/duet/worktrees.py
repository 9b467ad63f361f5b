"""Temporary checkouts of commits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_gpuperf.errors import GpuperfError, OptionError
from pytest_gpuperf.store.git import MISLEADING, Git


def environment() -> dict[str, str]:
    """Return this process's environment without the variables that name another git repository."""
    return {name: value for name, value in os.environ.items() if name not in MISLEADING}


def toplevel(directory: Path) -> Path:
    """Return the checkout that contains a directory.

    Raises:
        GpuperfError: No checkout contains it.
    """
    try:
        return Path(os.fsdecode(Git(directory).raw("rev-parse", "--show-toplevel").rstrip(b"\n"))).resolve()
    except GpuperfError as error:
        raise GpuperfError(
            f"{directory} is not inside a git repository, so there are no two commits to compare.\n{error}"
        ) from error


def commit_of(home: Path, ref: str) -> str:
    """Return the hash of the commit that a ref names.

    Raises:
        OptionError: git doesn't know the ref.
    """
    try:
        return _git(home, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except GpuperfError as error:
        raise OptionError(
            f"{ref!r} is not a commit, branch or tag of {home}.\n"
            "In CI, fetch it first: git fetch --depth=1 origin main, then use --base FETCH_HEAD."
        ) from error


@contextmanager
def worktree(home: Path, commit: str, path: Path) -> Iterator[Path]:
    """Check a commit out at ``path``, and remove it in the end.

    Raises:
        GpuperfError: git fails.
    """
    # After a duet that was killed, git still lists worktrees whose directories are gone.
    shutil.rmtree(path, ignore_errors=True)
    _git(home, "worktree", "prune")
    try:
        # Without hooks: a post-checkout hook may install, build or ask.
        _git(home, "-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(path), commit)
        yield path.resolve()
    finally:
        try:
            _git(home, "worktree", "remove", "--force", str(path))
        except GpuperfError:
            shutil.rmtree(path, ignore_errors=True)
            _git(home, "worktree", "prune")


def _git(directory: Path, *arguments: str) -> str:
    return Git(directory)(*arguments).strip()
