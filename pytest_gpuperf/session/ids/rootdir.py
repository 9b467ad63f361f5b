"""Whether the value of one of our options has moved pytest's root directory.

pytest looks for its root directory before it loads plugins. The value of an option that it does not know yet, written
as ``--gpuperf-store DIR``, then counts as a path of tests as soon as DIR exists.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_gpuperf.store.project.configuration import configuration_above


@dataclass(frozen=True)
class RootDirectory:
    """pytest's root directory.

    Attributes:
        path: The directory that pytest would use without the values of our options.
        warning: Which value pytest took for a path of tests, and what to write instead; empty if it took none.
    """

    path: Path
    warning: str = ""


def root_directory(config: pytest.Config) -> RootDirectory:
    """Return pytest's root directory.

    Raises:
        pytest.UsageError: Because of an option's value, pytest has read another configuration file.
    """
    start = config.invocation_params.dir
    chosen = config.getoption("rootdir", None) or config.getoption("inifilename", None)
    tests = [str(path) for path in config.getoption("file_or_dir", None) or ()]
    misread = _misread(start, config, tests)
    if chosen or not misread:
        return RootDirectory(config.rootpath)
    path, configuration = _without_options(start, tests)
    option, value = misread
    remedy = f"Write {option}={shlex.quote(value)}"
    if configuration != config.inipath:
        raise pytest.UsageError(
            f"{option} {value}: pytest took {value} for a path of tests when it looked for its configuration file, "
            f"and read {config.inipath or 'none'} instead of {configuration or 'none'}.\n{remedy}"
        )
    if path == config.rootpath:
        return RootDirectory(path)
    return RootDirectory(
        path,
        f"pytest took {value} for a path of tests, so its rootdir is {config.rootpath} instead of {path}. Records keep "
        f"the ids that tests have in {path}. {remedy}",
    )


def _misread(start: Path, config: pytest.Config, tests: list[str]) -> tuple[str, str] | None:
    """Return the first of our options whose value is a separate argument and exists as a path, with the value."""
    arguments = [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]
    for option, value in pairwise(arguments):
        separate = option.startswith("--gpuperf-") and "=" not in option and not value.startswith("-")
        if separate and value not in tests and (start / value).exists():
            return option, value
    return None


def _without_options(start: Path, tests: list[str]) -> tuple[Path, Path | None]:
    """Return the root directory and the configuration file that paths of tests lead to, by pytest's rule."""
    paths = [path for test in tests if (path := start / test.partition("::")[0]).exists()]
    folders = [Path(os.path.normpath(path if path.is_dir() else path.parent)) for path in paths]
    ancestor = Path(os.path.commonpath(folders)) if folders else start
    if (configuration := configuration_above(ancestor)) is not None:
        return configuration.parent, configuration
    for folder in (ancestor, *ancestor.parents):
        if (folder / "setup.py").is_file():
            return folder, None
    for configuration in filter(None, map(configuration_above, folders)):
        return configuration.parent, configuration
    common = Path(os.path.commonpath([start, ancestor]))
    return (ancestor if common == Path(common.anchor) else common), None
