from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.store.project.merge_base import MergeBase, commits_before, read_merge_base
from tests.unit.store.remotes import clone_of, git, origin_in

AUTHOR = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose main branch went on after a branch had left it, and GitHub's merge of the two."""
    origin = origin_in(tmp_path_factory.mktemp("origin"))
    work = origin.parent / "work"
    git(work, "checkout", "--quiet", "-b", "feature")
    commit(work, "feature")
    git(work, "checkout", "--quiet", "main")
    commit(work, "main goes on")
    git(work, "checkout", "--quiet", "-b", "merged")
    git(work, *AUTHOR, "merge", "--quiet", "--no-ff", "-m", "merge", "feature")
    git(work, "push", "--quiet", str(origin), "main", "feature", "merged:refs/pull/7/merge")
    return origin


def commit(work: Path, name: str) -> str:
    git(work, *AUTHOR, "commit", "--quiet", "--allow-empty", "-m", name)
    return git(work, "rev-parse", "HEAD")


def test_the_merge_base_and_the_commits_before_it(origin: Path, tmp_path: Path) -> None:
    clone = clone_of(origin, tmp_path / "clone", "-b", "feature")
    commits = git(clone, "rev-list", "--first-parent", "HEAD~1").split()
    assert len(commits) == 2
    assert read_merge_base(clone, environment={}) == MergeBase(tuple(commits))
    assert read_merge_base(clone / "..", environment={}) == MergeBase()
    assert read_merge_base(clone, "none", environment={}) == MergeBase()
    assert read_merge_base(clone, "origin/main") == MergeBase(tuple(commits))
    variables = {"GITHUB_BASE_REF": "feature"}
    assert read_merge_base(clone, environment=variables) == MergeBase(), "HEAD is on the base branch"
    assert commits_before(clone, commits[0]) == tuple(commits)
    assert commits_before(tmp_path, commits[0]) == (commits[0],)


def test_the_main_branch_has_no_merge_base(origin: Path, tmp_path: Path) -> None:
    for options in ((), ("--depth=1",)):
        clone = clone_of(origin, tmp_path / f"clone{len(options)}", *options)
        assert read_merge_base(clone, environment={}) == MergeBase()
        git(clone, "checkout", "--quiet", "--detach")
        assert read_merge_base(clone, environment={}) == MergeBase()


def test_outside_of_git_and_in_a_new_repository_nothing_is_wrong(tmp_path: Path) -> None:
    assert read_merge_base(tmp_path, environment={"GITHUB_BASE_REF": "main"}) == MergeBase()
    git(tmp_path, "init", "--quiet", "-b", "main")
    assert read_merge_base(tmp_path, environment={"GITHUB_BASE_REF": "main"}) == MergeBase()


def test_a_shallow_clone_says_what_is_missing_unless_ci_names_the_commit(origin: Path, tmp_path: Path) -> None:
    clone = clone_of(origin, tmp_path / "clone", "--depth=1", "-b", "feature", "--no-single-branch")
    base = git(origin, "rev-parse", "main~1")
    problem = read_merge_base(clone, environment={"GITHUB_BASE_REF": "main"}).problem
    assert "HEAD and main have no commit in common in this shallow clone" in problem
    assert "fetch-depth: 0" in problem
    gitlab = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_MERGE_REQUEST_DIFF_BASE_SHA": base}
    assert read_merge_base(clone, environment=gitlab).commits == (base,)
    assert read_merge_base(clone, environment={}) == MergeBase(), "nothing says that this is a pull request"


@pytest.mark.parametrize("depth", ["--depth=1", "--depth=9"])
def test_github_s_merge_commit_names_its_base(origin: Path, tmp_path: Path, depth: str) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "init", "--quiet", str(clone))
    git(clone, "fetch", "--quiet", depth, origin.as_uri(), "refs/pull/7/merge")
    git(clone, "checkout", "--quiet", "FETCH_HEAD")
    variables = {"GITHUB_BASE_REF": "main", "GITHUB_REF": "refs/pull/7/merge"}
    commits = read_merge_base(clone, environment=variables).commits
    assert commits == tuple(git(origin, "rev-list", "--first-parent", "main").split()[: 1 if depth[-1] == "1" else 9])
    problem = read_merge_base(clone, environment={"GITHUB_BASE_REF": "main"}).problem
    assert "the clone has no branch main" in problem


@pytest.mark.parametrize("name", ["nowhere", "--all"])
def test_a_branch_that_git_does_not_know(origin: Path, tmp_path: Path, name: str) -> None:
    clone = clone_of(origin, tmp_path / "clone")
    with pytest.raises(OptionError, match=f"--gpuperf-merge-base {name}: .* has no commit {name}. Fetch it"):
        read_merge_base(clone, name)
    with pytest.raises(OptionError, match="is not inside a git checkout"):
        read_merge_base(tmp_path, name)
