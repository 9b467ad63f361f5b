"""Paths that users write."""

from __future__ import annotations

from pathlib import Path

from pytest_gpuperf.errors import OptionError


def user_path(text: str | Path) -> Path:
    """Return a path whose ``~`` is the home directory.

    Raises:
        OptionError: There is no home directory.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise OptionError(f"{text}: this user has no home directory. Write the path without ~, or set HOME.") from error
