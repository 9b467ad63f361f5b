from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.cli.duet.submodules import add_submodules, check_large_files
from pytest_gpuperf.errors import GpuperfError
from tests.unit.store.remotes import git

LOCAL = ("-c", "protocol.file.allow=always")
AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=a@b")


def repository(path: Path, **files: str) -> Path:
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    return commit(path, **files)


def commit(path: Path, **files: str) -> Path:
    for name, text in files.items():
        (path / name).write_text(text)
    git(path, "add", "-A")
    git(path, *AUTHOR, "commit", "--quiet", "-m", "files")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout whose submodule has a submodule; the newest commit has newer versions of both."""
    inner = repository(tmp_path / "inner", code="inner 1")
    outer = repository(tmp_path / "outer", code="outer 1")
    git(outer, *LOCAL, "submodule", "--quiet", "add", str(inner), "inner")
    commit(outer)
    home = repository(tmp_path / "home", code="home 1")
    git(home, *LOCAL, "submodule", "--quiet", "add", str(outer), "libs/outer")
    commit(home)
    git(home, *LOCAL, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(home / "libs/outer/inner", code="inner 2")
    commit(home / "libs/outer", code="outer 2")
    return commit(home, code="home 2")


def worktree_texts(home: Path, ref: str, tree: Path) -> tuple[list[str], list[str]]:
    """Return what a worktree's code files contain, and the notes."""
    with ExitStack() as stack:
        stack.enter_context(worktrees.worktree(home, worktrees.commit_of(home, ref), tree))
        notes = add_submodules(home, tree, stack)
        paths = [tree / "code", tree / "libs/outer/code", tree / "libs/outer/inner/code"]
        return [path.read_text() for path in paths if path.exists()], notes


def test_submodules_have_the_commits_of_the_worktree(home: Path, tmp_path: Path) -> None:
    assert worktree_texts(home, "HEAD", tmp_path / "tree") == (["home 2", "outer 2", "inner 2"], [])
    assert worktree_texts(home, "HEAD~1", tmp_path / "tree") == (["home 1", "outer 1", "inner 1"], [])
    for path in (home, home / "libs/outer", home / "libs/outer/inner"):
        assert git(path, "worktree", "list").count("\n") == 0  # the helper strips the last line break
        assert git(path, "status", "--porcelain") == ""


def test_a_submodule_that_nobody_checked_out_is_noted(home: Path, tmp_path: Path) -> None:
    git(home, "submodule", "--quiet", "deinit", "--force", "libs/outer")
    (text, *rest), (note,) = worktree_texts(home, "HEAD", tmp_path / "tree")
    assert (text, rest) == ("home 2", [])
    assert "libs/outer is not checked out" in note


def test_a_commit_that_a_submodule_lacks_is_fetched_or_named(home: Path, tmp_path: Path) -> None:
    commit(tmp_path / "outer", code="outer 3")
    newest = git(tmp_path / "outer", "rev-parse", "HEAD")
    git(home, "update-index", "--cacheinfo", f"160000,{newest},libs/outer")
    git(home, *AUTHOR, "commit", "--quiet", "-m", "newer than the checkout of the submodule")
    texts, _ = worktree_texts(home, "HEAD", tmp_path / "tree")
    assert texts[1] == "outer 3"
    git(home, "update-index", "--cacheinfo", f"160000,{'1' * 40},libs/outer")
    git(home, *AUTHOR, "commit", "--quiet", "-m", "of nowhere")
    with pytest.raises(GpuperfError, match=r"(?s)lacks the commit 1111.*Fetch it first: git -C .*libs/outer fetch"):
        worktree_texts(home, "HEAD", tmp_path / "tree")


def test_pointers_in_place_of_large_files_are_refused(tmp_path: Path) -> None:
    home = repository(tmp_path / "home", model="version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    (home / ".gitattributes").write_text("model filter=lfs\n")
    commit(home)
    with worktrees.worktree(home, "HEAD", tmp_path / "tree") as tree:
        check_large_files(home, tree)  # the user's checkout has the pointer as well
        (home / "model").write_text("content")
        with pytest.raises(GpuperfError, match=r"pointer of Git LFS, such as model"):
            check_large_files(home, tree)
