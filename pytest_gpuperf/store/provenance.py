"""Author and time of a stored file."""

from __future__ import annotations

import getpass
import os
from datetime import datetime, timezone
from pathlib import Path

from pytest_gpuperf.clock import wall_s
from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.store.git import Git


def user() -> str:
    """Return who runs this process: on CI the user who started the job, otherwise git's user or the login name."""
    for variable in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if os.environ.get(variable):
            return os.environ[variable]
    if name := _git_user():
        return name
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        return f"uid {os.getuid()}"


def _git_user() -> str:
    """Return the name and address that commits of the working directory get; empty without them."""
    try:
        git = Git(Path.cwd(), timeout_s=10)
        name, email = (git("config", "--get", setting).strip() for setting in ("user.name", "user.email"))
    except (StoreError, OSError):
        return ""
    return f"{name} <{email}>" if name and email else ""


def utc_now() -> str:
    """Return the time in the format of records."""
    return datetime.fromtimestamp(wall_s(), timezone.utc).isoformat(timespec="milliseconds")
