from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pytest_gpuperf.store.project import checkout
from pytest_gpuperf.store.project.checkout import Checkout, read_checkout

SHA = "0123456789abcdef0123456789abcdef01234567"


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=directory, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()


def repository(directory: Path) -> str:
    """Make a repository, and return its commit."""
    directory.mkdir()
    git(directory, "init", "-q")
    (directory / "file").write_text(ascii(directory.name))
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "first")
    return git(directory, "rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in checkout._CI_VARIABLES:
        for name in filter(None, names):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def failing_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that refuses, as it does in the checkout of another user."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "git"
    program.write_text("#!/bin/sh\necho \"fatal: detected dubious ownership in repository at '$PWD'\" >&2; exit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


def test_commit_and_changes(tmp_path: Path) -> None:
    commit = repository(tmp_path / "a")
    assert read_checkout(tmp_path / "a") == Checkout(commit, False)
    (tmp_path / "a" / "file").write_text("changed")
    (tmp_path / "a" / "new").touch()
    assert read_checkout(tmp_path / "a") == Checkout(commit, True)


def test_a_shallow_clone_has_its_commit(tmp_path: Path) -> None:
    repository(tmp_path / "a")
    git(tmp_path / "a", "commit", "-q", "--allow-empty", "-m", "second")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{tmp_path / 'a'}", "b")
    assert read_checkout(tmp_path / "b") == Checkout(git(tmp_path / "a", "rev-parse", "HEAD"), False)


@pytest.mark.parametrize(
    "variable", ["GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"]
)
def test_variables_of_a_git_hook_name_no_other_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    commit = repository(tmp_path / "inner")
    repository(tmp_path / "outer")
    monkeypatch.setenv(variable, str(tmp_path / "outer" / ".git"))
    assert read_checkout(tmp_path / "inner") == Checkout(commit, False)


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    commit = repository(place)
    git(place, "config", "core.quotePath", "false")
    (place / os.fsdecode(b"\xff")).touch()
    git(place, "add", "-A")
    assert read_checkout(place) == Checkout(commit, True)


@pytest.mark.usefixtures("failing_git")
def test_the_ci_system_tells_the_commit_of_its_own_checkout_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / ".git").mkdir(parents=True)
    (tmp_path / "a" / ".git" / "HEAD").touch()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("GITHUB_SHA", SHA)
    read = read_checkout(tmp_path / "a")
    assert (read.commit, read.dirty) == (SHA, None)
    assert f"so the CI system says {SHA[:8]}" in read.problem
    # Outside of a checkout nothing shows that it is the CI system's.
    assert read_checkout(tmp_path / "b") == Checkout()
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "b"))
    assert read_checkout(tmp_path / "b") == Checkout(SHA)
    assert read_checkout(tmp_path / "a").commit == ""
    monkeypatch.setenv("GITHUB_SHA", "main")
    assert read_checkout(tmp_path / "b") == Checkout()


@pytest.mark.usefixtures("failing_git")
def test_why_there_is_no_commit_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert read_checkout(tmp_path / "a").problem == ""
    (tmp_path / "a" / ".git").write_text("gitdir: elsewhere")
    problem = read_checkout(tmp_path / "a").problem
    assert "dubious ownership" in problem
    assert "records have no commit" in problem
    assert problem.endswith(f"git config --global --add safe.directory {tmp_path / 'a'}")


def test_no_git_program_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path / "a")
    monkeypatch.setenv("PATH", "")
    assert "git can't be run" in read_checkout(tmp_path / "a").problem
    assert read_checkout(tmp_path) == Checkout()


def test_a_repository_without_a_commit_is_no_problem(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert read_checkout(tmp_path) == Checkout()
