"""Models that git ignores: the worktree of a commit does not have them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.store.git import Git

_MODEL_ENDINGS = (".onnx", ".plan", ".engine", ".trt", ".pt", ".pth", ".safetensors", ".npy", ".npz", "config.pbtxt")
_NO_MODELS = frozenset({"site-packages", "node_modules", "__pycache__", ".gpuperf", ".git", ".tox", ".nox"})
#: Most files of an ignored folder whose names are read.
_MOST_FILES = 2000


def ignored_models(home: Path, tree: Path) -> list[str]:
    """Return a line for each file or folder of a checkout that git ignores, that is or contains a model, and that a
    worktree lacks.
    """
    git = Git(home)
    try:
        listed = git.raw("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
        paths = [os.fsdecode(path).rstrip("/") for path in filter(None, listed.split(b"\0"))]
        absent = [path for path in paths if not (tree / path).exists()]
        models = [path for path in absent if any(map(_is_model, islice(_files(home / path), _MOST_FILES)))]
        return [f"git ignores {path} ({_rule(git, path)})" for path in models]
    except GpuperfError:
        return []  # it only explains


def _files(path: Path) -> Iterator[str]:
    if path.is_file():
        yield path.name
    elif not (path / "pyvenv.cfg").exists() and path.name not in _NO_MODELS:
        for _, folders, files in os.walk(path):
            folders[:] = [folder for folder in folders if folder not in _NO_MODELS]
            yield from files


def _is_model(name: str) -> bool:
    return name.endswith(_MODEL_ENDINGS)


def _rule(git: Git, path: str) -> str:
    """Return the file and line that make git ignore a path."""
    source, line, _ = git("check-ignore", "--verbose", "--", path).split(":", 2)
    return f"{source}, line {line}"
