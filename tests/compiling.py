"""Mocks of drivers, compiled against their vendors' headers."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def compiled(source: Path, target: Path, *, header: str, package: str, flags: Sequence[str] = ()) -> Path:
    """Compile a source into a shared library; skip the test with the reason where that is impossible.

    Args:
        target: Path of the library; its name becomes the SONAME.
        header: Header of the vendor, a file of ``package``.
        flags: Additional compiler flags.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip(f"no C compiler for the mock {target.name}")
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{header} is in the package {package}, which is not installed")
    include = next(file for file in files if file.name == header)
    usual = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-I{Path(str(include.locate())).parent}"]
    command = [compiler, *usual, *flags, f"-Wl,-soname,{target.name}", "-o", str(target), str(source), "-lm"]
    subprocess.run(command, check=True)
    return target
