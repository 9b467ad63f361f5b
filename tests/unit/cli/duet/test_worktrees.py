from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.errors import GpuperfError, OptionError


def git(directory: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=directory, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "inner").mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    (path / "file").write_text("one")
    git(path, "add", "-A")
    git(path, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "one")
    return path


def test_a_commit_is_checked_out_and_gone_afterwards(home: Path, tmp_path: Path) -> None:
    (home / "file").write_text("changed, not committed")
    hook = home / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    with worktrees.worktree(home, worktrees.commit_of(home, "main"), tmp_path / "tree") as tree:
        assert (tree / "file").read_text() == "one"
        assert not (tree / "hooked").exists()
        (tree / "left").write_text("by a test")
    assert not (tmp_path / "tree").exists()
    assert git(home, "worktree", "list").count("\n") == 1
    assert (home / "file").read_text() == "changed, not committed"


def test_a_worktree_is_removed_after_an_error(home: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), worktrees.worktree(home, "main", tmp_path / "tree"):
        raise KeyboardInterrupt
    assert git(home, "worktree", "list").count("\n") == 1


def test_worktrees_of_a_killed_duet_are_pruned(home: Path, tmp_path: Path) -> None:
    git(home, "worktree", "add", "--detach", "--quiet", str(tmp_path / "old"))
    for file in (tmp_path / "old").iterdir():
        file.unlink()
    (tmp_path / "old").rmdir()
    with worktrees.worktree(home, "main", tmp_path / "tree"):
        assert git(home, "worktree", "list").count("\n") == 2
    assert git(home, "worktree", "list").count("\n") == 1


def test_the_top_of_a_checkout(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path))  # as inside a hook of another repository
    assert worktrees.toplevel(home / "inner") == home.resolve()
    with pytest.raises(GpuperfError, match="is not inside a git repository"):
        worktrees.toplevel(tmp_path)


@pytest.mark.parametrize("ref", ["nowhere", "--help", "main:file", ""])
def test_an_unknown_ref_is_refused(home: Path, ref: str) -> None:
    with pytest.raises(OptionError, match="is not a commit, branch or tag"):
        worktrees.commit_of(home, ref)
