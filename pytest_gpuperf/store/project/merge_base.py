"""The commit of the main branch that a change is based on, and the commits before it, asked from git."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.errors import OptionError, StoreError
from pytest_gpuperf.store.git import Git, GitFailed
from pytest_gpuperf.store.project.location import checkout_top

#: How the base of a change is determined: by CI's variables or the remote's default branch, or not at all.
AUTO, NONE = "auto", "none"
#: Commits of the main branch in which a record is searched: a main branch that is measured daily has some of them.
MOST_COMMITS = 200
_TIMEOUT_S = 20.0
#: Variables of CI systems with the branch that a pull request is to be merged into.
_BASE_BRANCHES = (
    "GITHUB_BASE_REF",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME",
    "BITBUCKET_PR_DESTINATION_BRANCH",
    "BUILDKITE_PULL_REQUEST_BASE_BRANCH",
    "SYSTEM_PULLREQUEST_TARGETBRANCH",
    "CHANGE_TARGET",
)
_MAIN_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
#: GitLab's variable with the merge base itself.
_GITLAB_BASE = "CI_MERGE_REQUEST_DIFF_BASE_SHA"
_GITHUB_MERGE = re.compile(r"refs/pull/\d+/merge")
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
DEEPEN = (
    "Fetch more of it: actions/checkout with fetch-depth: 0, GitLab with GIT_DEPTH: 0, elsewhere git fetch --unshallow."
)


@dataclass(frozen=True)
class MergeBase:
    """The newest commit that a change has in common with the main branch.

    Attributes:
        commits: Hash of the merge base, then of the main branch's commits before it, newest first. Empty if HEAD is on
            the main branch, if there is none, or outside of git.
        problem: Why the merge base of a pull request is unknown, and what to do; empty if it is known, or if nothing
            says that there is one.
    """

    commits: tuple[str, ...] = ()
    problem: str = ""

    @property
    def commit(self) -> str:
        """Hash of the merge base; empty without one."""
        return self.commits[0] if self.commits else ""


def read_merge_base(
    directory: Path, wanted: str = AUTO, environment: Mapping[str, str] | None = None, *, option: str = ""
) -> MergeBase:
    """Return the merge base of the checked-out commit.

    Args:
        wanted: ``auto``, ``none``, or a branch, tag or commit that the change will be merged into.
        environment: Variables of the CI system; those of this process when None.
        option: The option that names ``wanted``, for messages.

    Raises:
        OptionError: Git does not know the commit that was asked for.
    """
    if wanted == NONE:
        return MergeBase()
    git = _git(directory)
    top = checkout_top(directory)
    if wanted != AUTO:
        return _of_reference(git, wanted, top, directory, option)
    if top is None:
        return MergeBase()
    try:
        return _of_ci(git, os.environ if environment is None else environment)
    except StoreError:  # git is missing, or refuses to read the checkout: the header says so
        return MergeBase()


def commits_before(directory: Path, commit: str) -> tuple[str, ...]:
    """Return a commit and those of its main line before it, newest first; only itself where git does not know them."""
    try:
        return tuple(_git(directory)("rev-list", "--first-parent", "-n", str(MOST_COMMITS), commit, "--").split())
    except StoreError:
        return (commit,)


def _git(directory: Path) -> Git:
    # git must not write: another process may be working in the repository.
    return Git(directory, {"GIT_OPTIONAL_LOCKS": "0"}, timeout_s=_TIMEOUT_S)


def _of_reference(git: Git, reference: str, top: Path | None, directory: Path, option: str) -> MergeBase:
    where = option or f"--gpuperf-merge-base {reference}"
    if top is None:
        raise OptionError(f"{where}: {directory} is not inside a git checkout. Write none, or leave the option out.")
    try:
        head, base = _commit(git, "HEAD"), _commit(git, reference)
        if not base:
            raise OptionError(
                f"{where}: {top} has no commit {reference}. Fetch it, for example with git fetch origin, or write the "
                "name of a branch, auto or none."
            )
        return _common_commits(git, head, base) or MergeBase(problem=_no_common_commit(git, reference))
    except StoreError as error:
        raise OptionError(f"{where}: git can't read {top}: {error}") from error


def _of_ci(git: Git, environment: Mapping[str, str]) -> MergeBase:
    head = _commit(git, "HEAD")
    if not head:
        return MergeBase()
    branch = next(filter(None, (environment.get(name, "") for name in _BASE_BRANCHES)), "")
    branch = "" if branch == "false" else branch.removeprefix("refs/heads/")
    references = (f"origin/{branch}", branch) if branch else _MAIN_BRANCHES
    base = next(filter(None, (_commit(git, reference) for reference in references)), "")
    if base and (merge_base := _common_commits(git, head, base)) is not None:
        return merge_base
    if stated := _stated_by_ci(git, environment):
        return MergeBase(commits_before(git.directory, stated))
    if not branch:
        return MergeBase()
    if base:
        return MergeBase(problem=_no_common_commit(git, branch))
    return MergeBase(problem=f"the clone has no branch {branch}, into which this change is to be merged. {DEEPEN}")


def _common_commits(git: Git, head: str, base: str) -> MergeBase | None:
    """Return the merge base; None if the two commits have none, as far as the clone goes."""
    try:
        commit = git("merge-base", head, base).strip()
    except GitFailed:
        return None
    return MergeBase() if commit == head else MergeBase(commits_before(git.directory, commit))


def _no_common_commit(git: Git, reference: str) -> str:
    text = f"HEAD and {reference} have no commit in common"
    shallow = git("rev-parse", "--is-shallow-repository").strip() == "true"
    return f"{text} in this shallow clone. {DEEPEN}" if shallow else f"{text}."


def _stated_by_ci(git: Git, environment: Mapping[str, str]) -> str:
    """Return the merge base that a CI system names, for a clone too shallow for git to determine it; else empty."""
    if _HASH.fullmatch(stated := environment.get(_GITLAB_BASE, "")):
        return stated
    if not _GITHUB_MERGE.fullmatch(environment.get("GITHUB_REF", "")):
        return ""
    # GitHub's merge commit joins the pull request to the base branch, its first parent. A shallow clone lacks the
    # parents, but not their hashes.
    lines = git("cat-file", "-p", "HEAD").partition("\n\n")[0].splitlines()
    parents = [line.removeprefix("parent ") for line in lines if line.startswith("parent ")]
    return parents[0] if len(parents) == 2 else ""


def _commit(git: Git, reference: str) -> str:
    """Return the hash of a branch, tag or commit; empty if git does not know it."""
    if reference.startswith("-"):
        return ""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{reference}^{{commit}}").strip()
    except GitFailed:
        return ""
