"""What git leaves out of the worktree of a commit: submodules, and the content of large files."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.store.git import Git, GitFailed

_POINTER = b"version https://git-lfs.github.com/spec/"


def add_submodules(home: Path, tree: Path, stack: ExitStack) -> list[str]:
    """Check out the submodules of a worktree, and those inside them, until the stack is closed.

    Their commits are those of the worktree, and come from the submodules of the user's checkout.

    Args:
        home: The user's checkout, or one of its submodules.
        tree: Its worktree.

    Returns:
        Notes on submodules that the user's checkout lacks as well.

    Raises:
        GpuperfError: A commit of a submodule is neither in the user's checkout nor at its remote.
    """
    notes = []
    for path, commit in _submodules(tree):
        source, goal = home / path, tree / path
        if not (source / ".git").exists():
            notes.append(f"the submodule {path} is not checked out in {home}, so it is not measured with either")
            continue
        _fetch(source, commit)
        stack.enter_context(worktrees.worktree(source, commit, goal))
        notes += add_submodules(source, goal, stack)
    return notes


def _submodules(tree: Path) -> list[tuple[str, str]]:
    """Return path and commit of each submodule."""
    lines = Git(tree).raw("ls-files", "--stage", "-z").split(b"\0")
    entries = [os.fsdecode(line).partition("\t") for line in lines if line.startswith(b"160000 ")]
    return [(path, facts.split()[1]) for facts, _, path in entries]


def _fetch(source: Path, commit: str) -> None:
    """Get a commit of a submodule, if its repository lacks it."""
    git = Git(source)
    try:
        git("cat-file", "-e", f"{commit}^{{commit}}")
    except GitFailed:
        try:
            git("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "origin", commit)
        except GitFailed as error:
            raise GpuperfError(
                f"The submodule {source} lacks the commit {commit}, and it can't be fetched:\n{error}\n"
                f"Fetch it first: git -C {source} fetch origin {commit}"
            ) from error


def check_large_files(home: Path, tree: Path) -> None:
    """Check that a worktree has the content of files in Git LFS, if the user's checkout has.

    Raises:
        GpuperfError: It has pointers instead.
    """
    listed = Git(tree).raw("ls-files", "-z", "--", ":(attr:filter=lfs)").split(b"\0")
    files = [os.fsdecode(path) for path in filter(None, listed)]
    pointers = [file for file in files if _is_pointer(tree / file)]
    if any((home / file).is_file() and not _is_pointer(home / file) for file in pointers):
        raise GpuperfError(
            f"{len(pointers)} of the commit's files have no content but a pointer of Git LFS, such as {pointers[0]}.\n"
            "Run `git lfs install --local` and `git lfs fetch origin COMMIT` in the checkout first."
        )


def _is_pointer(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False
