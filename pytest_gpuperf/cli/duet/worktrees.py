"""Commits of a git repository as directories of their own, which are gone afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_gpuperf.errors import GpuperfError, OptionError
from pytest_gpuperf.store.git import MISLEADING, Git


def environment() -> dict[str, str]:
    """Ours, for processes that have to find the repository of their own directory."""
    return {name: value for name, value in os.environ.items() if name not in MISLEADING}


def toplevel(directory: Path) -> Path:
    """The checkout that a directory is in.

    Raises:
        GpuperfError: it is in none.
    """
    try:
        return Path(_git(directory, "rev-parse", "--show-toplevel")).resolve()
    except GpuperfError as error:
        raise GpuperfError(
            f"{directory} is not inside a git repository, so there are no two commits to compare.\n{error}"
        ) from error


def commit_of(home: Path, ref: str) -> str:
    """The hash of what a name stands for.

    Raises:
        OptionError: git doesn't know it.
    """
    try:
        return _git(home, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except GpuperfError as error:
        raise OptionError(
            f"{ref!r} is no commit, branch or tag of {home}.\n"
            "In CI, fetch it first: git fetch --depth=1 origin main, and then --base FETCH_HEAD."
        ) from error


@contextmanager
def worktree(home: Path, commit: str, path: Path) -> Iterator[Path]:
    """A commit, checked out at ``path``.

    Raises:
        GpuperfError: git can't.
    """
    # Of runs that were killed: their directories are gone, and git still lists them.
    _git(home, "worktree", "prune")
    try:
        # Without hooks: somebody's post-checkout may install, build or ask.
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
