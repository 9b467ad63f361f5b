"""Copies of records that can't be written into their store, so that no measurement is lost."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

#: Directories in which this process has saved copies.
_folders: list[Path] = []
_PLACES: tuple[Callable[[], str], ...] = (tempfile.gettempdir, lambda: str(Path.cwd()), lambda: str(Path.home()))


def save_elsewhere(path: str, content: bytes, url: str) -> str:
    """Save a record of a store that can't be written in another directory; return a sentence about it.

    Args:
        path: Path of the record inside the store. The directory is a store, too.
        url: The store.
    """
    for folder in list(_folders):
        if _write(folder, path, content):
            return _sentence(folder, url)
    for place in _PLACES:
        with suppress(OSError, RuntimeError):  # there may be no such place
            folder = Path(tempfile.mkdtemp(prefix="gpuperf-rescued-", dir=place()))
            if _write(folder, path, content):
                _folders.append(folder)
                return _sentence(folder, url)
            shutil.rmtree(folder, ignore_errors=True)
    return "The record could not be saved elsewhere either, so only the figures in this output remain."


def _write(folder: Path, path: str, content: bytes) -> bool:
    target = folder / path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    except OSError:
        with suppress(OSError):
            target.unlink()
        return False
    return True


def _sentence(folder: Path, url: str) -> str:
    command = f"gpuperf baseline import {shlex.quote(str(folder))} --store {shlex.quote(url)}"
    return f"The record was saved in {folder}. When the store can be written again, copy it there: {command}"
