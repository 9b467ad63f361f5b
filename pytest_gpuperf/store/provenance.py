"""Author and time of a stored file."""

from __future__ import annotations

import getpass
import os
from datetime import datetime, timezone

from pytest_gpuperf.clock import wall_s


def user() -> str:
    """Return who runs this process: on CI whoever started the job, otherwise the user."""
    for variable in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if os.environ.get(variable):
            return os.environ[variable]
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        return f"uid {os.getuid()}"


def utc_now() -> str:
    """Return the time in the format of records."""
    return datetime.fromtimestamp(wall_s(), timezone.utc).isoformat(timespec="milliseconds")
