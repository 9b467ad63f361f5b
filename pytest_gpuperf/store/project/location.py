"""Where the store is: one rule for pytest and for all commands.

The store is what an option names, else ``gpuperf_store`` of pytest's configuration file, else the nearest ``.gpuperf``
in the working directory or above it. A new one is created at the top of the git checkout; outside of git, in the
directory of pytest's configuration file.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from pytest_gpuperf.errors import StoreError
from pytest_gpuperf.store.project.configuration import configuration_above, configured
from pytest_gpuperf.user_path import user_path

DEFAULT_STORE = ".gpuperf"
#: The ini key that names the store.
INI_KEY = "gpuperf_store"


def checkout_top(directory: Path) -> Path | None:
    """Return the top of the git checkout that contains a directory; None outside of git.

    git itself is not asked: it may be missing, or refuse to read the checkout of another user.
    """
    real = directory.resolve()
    for folder in (real, *real.parents):
        entry = folder / ".git"
        if os.path.isfile(entry) or os.path.exists(entry / "HEAD"):  # noqa: PTH110, PTH113 - no error if unreadable
            return folder
    return None


def start_directory() -> Path:
    """Return the working directory.

    Raises:
        StoreError: It was deleted.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise StoreError("The working directory was deleted. Change to another one with cd.") from error


def expanded(text: str, base: Path) -> str:
    """Return a store's URL, or its absolute directory.

    Raises:
        OptionError: The path begins with ``~``, and there is no home directory.
    """
    if "://" in text:
        return text
    return os.path.normpath(base / user_path(text))


def default_store(start: Path, root: Path | None = None) -> Path:
    """Return the directory of the store where no option and no configuration names one. It may not exist yet.

    Args:
        start: Working directory of the user.
        root: pytest's root directory; for commands None, which means that of a pytest started there.
    """
    start = start.resolve()
    configuration = configuration_above(start) if root is None else None
    project = root.resolve() if root is not None else configuration.parent if configuration is not None else start
    top = checkout_top(project)
    if top is not None:
        begin = start if start.is_relative_to(top) else project
        searched = [folder for folder in (begin, *begin.parents) if folder.is_relative_to(top)]
    else:
        begin = start if start.is_relative_to(project) or project.is_relative_to(start) else project
        searched = list(_trusted_above(begin))
    nearest = next((folder for folder in searched if _is_folder(folder / DEFAULT_STORE)), top or project)
    return nearest / DEFAULT_STORE


def chosen_store(start: Path) -> str:
    """Return the store that a command without ``--store`` uses, whether or not it exists.

    Raises:
        OptionError: pytest's configuration file can't be read.
    """
    configuration = configuration_above(start.resolve())
    if configuration is not None and (text := configured(configuration, INI_KEY)):
        return expanded(text, configuration.parent)
    return str(default_store(start))


def option_for(url: str, start: Path) -> str:
    """Return the option with which commands in a directory use a store, as `` --store URL``; empty if they do anyway.

    Paths below the directory are relative to it: such a command also works in another clone.
    """
    if url == chosen_store(start):
        return ""
    if "://" not in url and Path(url).is_relative_to(start.resolve()):
        url = str(Path(url).relative_to(start.resolve()))
    return f" --store {shlex.quote(url)}"


def stores_below(start: Path) -> list[str]:
    """Return the stores in the subdirectories of a directory, at most two levels deep."""
    stores = sorted(path for depth in ("*/", "*/*/") for path in start.glob(depth + DEFAULT_STORE) if path.is_dir())
    return [str(path.relative_to(start)) for path in stores]


def _is_folder(path: Path) -> bool:
    """Return whether a path is a folder; no error where it can't be looked at."""
    return os.path.isdir(path)  # noqa: PTH112


def _trusted_above(directory: Path) -> Iterator[Path]:
    """Yield a directory and those above it, up to the home directory or one that every user may write into."""
    yield directory
    home = os.environ.get("HOME", "")
    for parent in directory.parents:
        if str(parent) == home or parent.stat().st_mode & stat.S_IWOTH:
            return
        yield parent
