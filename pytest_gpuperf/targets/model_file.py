"""Checks of the files and names of models, before anything is started for them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pytest_gpuperf.errors import OptionError, TargetError

#: First line of a file that Git LFS has not replaced by its content yet, and the size that such a file stays below.
_LFS, _LFS_BYTES = b"version https://git-lfs.github.com/spec/", 1024
#: Names that Triton and its Python backend handle: a folder, a part of URLs, and words of a shell command.
PORTABLE_NAME = re.compile(r"[A-Za-z0-9_.-]+")
#: Longest name of a file on Linux.
_NAME_BYTES = 255


def check_model_file(path: Path, kind: str = "model") -> None:
    """Check that a file of a model exists, has content, and is not a pointer of Git LFS.

    Args:
        kind: What it is, completing "There is no ...".

    Raises:
        TargetError: It can't be read, is empty, or is a pointer of Git LFS.
    """
    try:
        if path.is_dir():
            raise TargetError(f"{path} is a directory; pass the file of the {kind}.")
        with path.open("rb") as file:
            beginning = file.read(_LFS_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TargetError(f"There is no {kind} at {path}{looked_for(path)}.") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise TargetError(f"The {kind} {str(path)!r} can't be read: {error}.") from error
    if not beginning:
        raise TargetError(f"The {kind} {path} is empty. Export, build or download it again.")
    if is_lfs_pointer(beginning):
        raise lfs_error(path)


def looked_for(path: Path) -> str:
    """Return where a relative path was looked for, as the end of a sentence; empty for an absolute path."""
    if path.is_absolute():
        return ""
    try:
        folder = str(Path.cwd())
    except FileNotFoundError:
        folder = "a working directory that was deleted"
    return f": the path is relative to the working directory, {folder}"


def is_lfs_pointer(beginning: bytes) -> bool:
    """Return whether a file with this beginning is a pointer of Git LFS."""
    return beginning.startswith(_LFS)


def lfs_error(path: Path) -> TargetError:
    """Return the error about a file that Git LFS has not fetched."""
    return TargetError(
        f"{path} is not the file itself but a pointer of Git LFS, which has not fetched it.\n"
        "Run `git lfs pull` (in GitHub Actions: actions/checkout with `lfs: true`)."
    )


def check_folder(folder: Path) -> None:
    """Check that no file in a model's folder is a pointer of Git LFS.

    Raises:
        TargetError: A file is a pointer; the message names it.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            file = Path(parent, name)
            if file.is_file() and file.stat().st_size < _LFS_BYTES and is_lfs_pointer(file.read_bytes()):
                raise lfs_error(file)


def check_name(name: str, setting: str) -> None:
    """Check the name of a model on a server.

    Raises:
        OptionError: No server can have a model of that name.
    """
    if not name:
        raise OptionError(f"{setting}='' is empty: give the name of a model.")
    if not name.isprintable() or not name.strip():
        raise OptionError(f"{setting}={name!r} has characters that can't be printed: no model has such a name.")


def check_folder_name(name: str, setting: str) -> None:
    """Check the name of a model in a repository, where it is a folder.

    Raises:
        OptionError: The name can't be that of a folder.
    """
    check_name(name, setting)
    if "/" in name or name in (".", "..") or len(name.encode()) > _NAME_BYTES:
        raise OptionError(
            f"{setting}={_shortened(name)} can't be the name of a model, which is a folder of the model repository: "
            f"write a name without slashes, of at most {_NAME_BYTES} characters."
        )


def check_portable_name(name: str, setting: str) -> None:
    """Check the name of a model that is written into a generated repository.

    Raises:
        OptionError: Triton can't serve a model of that name.
    """
    check_folder_name(name, setting)
    if not PORTABLE_NAME.fullmatch(name):
        raise OptionError(
            f"{setting}={_shortened(name)} can't be the name of a model in Triton: use letters (A to Z), digits, and "
            "the characters _ . -"
        )


def _shortened(name: str) -> str:
    return repr(name) if len(name) <= 60 else f"{name[:60]!r}... ({len(name)} characters)"
