"""Mocks of drivers, compiled against their vendors' headers."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def compiled(source: Path, target: Path, *, header: str, package: str, flags: Sequence[str] = ()) -> Path:
    """The shared library made of a source; skips, saying why, where that can't be done.

    Args:
        target: its place; its name is its SONAME.
        header: the vendor's, which ``package`` carries.
        flags: of the compiler, beside the usual ones.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip(f"no C compiler for the mock {target.name}")
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{header} is in the package {package}, which is not installed")
    found = next(file for file in files if file.name == header)
    own = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{Path(str(found.locate())).parent}"]
    command = [compiler, *own, *flags, f"-Wl,-soname,{target.name}", "-o", str(target), str(source), "-lm"]
    subprocess.run(command, check=True)
    return target
