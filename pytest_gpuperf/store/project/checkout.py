"""The commit that is measured."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.store.git import Git, GitFailed
from pytest_gpuperf.store.project.location import checkout_top

#: Longest duration of a question to git, whose answer only explains.
_TIMEOUT_S = 20.0
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
#: Variables of CI systems: the commit, and the directory of the checkout that it belongs to (empty if not given).
_CI_VARIABLES = (
    ("GITHUB_SHA", "GITHUB_WORKSPACE"),
    ("CI_COMMIT_SHA", "CI_PROJECT_DIR"),
    ("BUILDKITE_COMMIT", "BUILDKITE_BUILD_CHECKOUT_PATH"),
    ("CIRCLE_SHA1", ""),
    ("BITBUCKET_COMMIT", "BITBUCKET_CLONE_DIR"),
    ("BUILD_SOURCEVERSION", "BUILD_SOURCESDIRECTORY"),
    ("GIT_COMMIT", "WORKSPACE"),
)
_OWNERSHIP = re.compile(r"dubious ownership|safe\.directory|unsafe repository")


@dataclass(frozen=True)
class Checkout:
    """Commit and state of a git checkout.

    Attributes:
        commit: Hash of the checked-out commit; empty where there is no repository, no commit yet, or no answer.
        dirty: Whether tracked files differ from it; None where that is unknown.
        problem: Why git does not say which commit is checked out, and what to do; empty if it does, and outside of git.
    """

    commit: str = ""
    dirty: bool | None = None
    problem: str = ""


def read_checkout(directory: Path) -> Checkout:
    """Return the commit that is checked out in a directory's repository.

    Where git can't tell, the commit that the CI system checked out counts, if the directory is part of that checkout.
    """
    # git must not write: another process may be working in the repository.
    git = Git(directory, {"GIT_OPTIONAL_LOCKS": "0"}, timeout_s=_TIMEOUT_S)
    top = checkout_top(directory)
    try:
        commit = git("rev-parse", "--verify", "HEAD").strip()
    except StoreError as error:
        stated = _stated_by_ci(directory, os.environ, certain=top is not None)
        return Checkout(stated, None, _problem(top, error, stated) if top is not None else "")
    try:
        return Checkout(commit, bool(git.raw("status", "--porcelain", "--untracked-files=no")))
    except StoreError:
        return Checkout(commit)


def _problem(top: Path, error: StoreError, stated: str) -> str:
    """Return why the commit of a checkout is unknown, in one line; empty if it has no commit yet."""
    text = error.output if isinstance(error, GitFailed) else str(error)
    if "Needed a single revision" in text:
        return ""
    remedy = ""
    if _OWNERSHIP.search(text):
        remedy = f" Another user owns it; trust it with: git config --global --add safe.directory {top}"
    cause = (text.strip().splitlines() or ["git failed"])[0].removeprefix("fatal: ")
    instead = f"the CI system says {stated[:8]}" if stated else "records have no commit"
    return f"git does not say which commit of {top} is checked out ({cause}), so {instead}.{remedy}"


def _stated_by_ci(directory: Path, environment: Mapping[str, str], *, certain: bool) -> str:
    """Return the commit that the CI system says it checked out; empty if that is another checkout or unknown.

    Args:
        certain: Whether the directory is in a checkout, which counts where the CI system does not name its own.
    """
    for variable, place in _CI_VARIABLES:
        commit = environment.get(variable, "").lower()
        checkout = environment.get(place, "") if place else ""
        if _HASH.fullmatch(commit):
            belongs = directory.resolve().is_relative_to(Path(checkout).resolve()) if checkout else certain
            return commit if belongs else ""
    return ""
