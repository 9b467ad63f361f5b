"""Environments of their own for the sides of ``gpuperf duet --install``: a new one, or one that is kept for later."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest_gpuperf
from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.cli.duet.checkout import SideCheckout
from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import GpuperfError, OptionError
from pytest_gpuperf.targets.process import SupervisedProcess

#: Most environments that a directory keeps; the one that was used longest ago is deleted first.
_MOST_KEPT = 4
_POLL_S = 0.1
_GRACE_S = 5.0
_SHOWN_LINES = 25
_COMPLETE, _LOCK = "complete", "lock"


class InstallationFailed(GpuperfError):
    """The environment of a side can't be made."""


def kept_place(directory: Path, commit: str, command: str, stack: ExitStack) -> Path:
    """Return the directory that keeps a commit's environment; no other duet uses it until the stack is closed.

    Raises:
        OptionError: Another duet uses it, or the directory can't be written.
    """
    parts = (commit, command, sys.version, sys.executable)
    place = directory.resolve() / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    try:
        place.mkdir(parents=True, exist_ok=True)
        if not _is_locked(place, stack):
            raise OptionError(f"Another gpuperf duet uses the environment {place}. Wait until it has ended.")
        kept = [path.parent for path in directory.resolve().glob(f"*/{_COMPLETE}") if path.parent != place]
        kept.sort(key=lambda path: (path / _COMPLETE).stat().st_mtime, reverse=True)
        for old in kept[_MOST_KEPT - 1 :]:
            with ExitStack() as deleting:
                if _is_locked(old, deleting):
                    shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OptionError(f"--environments {directory}: environments can't be kept there: {error}") from error
    return place


def _is_locked(place: Path, stack: ExitStack) -> bool:
    """Lock a directory until the stack is closed, unless another process has locked it."""
    file = stack.enter_context((place / _LOCK).open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def installed(
    checkout: SideCheckout,
    command: str,
    place: Path,
    *,
    scratch: Path,
    deadline_s: float,
    say: Callable[[str], None],
) -> SideCheckout:
    """Return a side with an environment in which the command has installed its commit.

    The environment has no packages but those that the command installs. It measures with this command's own version of
    pytest-gpuperf, whichever version the commit asks for, so that two load generators are not compared.

    Args:
        place: Directory of the environment.

    Raises:
        InstallationFailed: The environment can't be made, or the command fails.
    """
    environment, complete = place / "environment", place / _COMPLETE
    again = complete.exists()
    began_s = time.monotonic()
    if not again:
        shutil.rmtree(environment, ignore_errors=True)
        step = _Step(checkout, scratch, deadline_s, worktrees.environment())
        step.run("python -m venv", [sys.executable, "-m", "venv", str(environment)])
    say(f"installing {checkout.name} in {'its kept' if again else 'a new'} environment: {command}")
    variables = _variables(checkout, environment)
    _Step(checkout, scratch, deadline_s, variables).run(f"--install {command!r}", ["/bin/sh", "-c", command])
    if not place.is_relative_to(scratch):
        with atomic_write(complete) as beside:
            beside.write_text(checkout.label)
    say(f"installed {checkout.name} in {time.monotonic() - began_s:.0f} s")
    measuring = [str(path) for path in [_measuring_code(checkout, scratch)] if path is not None]
    variables["PYTHONPATH"] = os.pathsep.join([*measuring, *filter(None, [variables["PYTHONPATH"]])])
    return replace(checkout, python=str(environment / "bin" / "python"), custom_python=True, variables=variables)


class _Step:
    """Runs a program of the installation in a side's checkout, and ends it with this process."""

    def __init__(self, checkout: SideCheckout, scratch: Path, deadline_s: float, variables: dict[str, str]) -> None:
        self._checkout, self._scratch = checkout, scratch
        self._deadline_s, self._variables = deadline_s, variables

    def run(self, what: str, command: list[str]) -> None:
        """Run the program to its end.

        Raises:
            InstallationFailed: It fails, or does not end in time.
        """
        name, directory = self._checkout.name, self._checkout.directory
        process = SupervisedProcess(
            command,
            env=self._variables,
            log=self._scratch / f"{name}-install.log",
            grace_s=_GRACE_S,
            scratch=self._scratch,
            directory=directory,
        )
        end_s = time.monotonic() + self._deadline_s
        try:
            while process.exit_status is None and time.monotonic() < end_s:
                time.sleep(_POLL_S)
            ending = process.ending if process.exit_status is not None else ""
            if ending and not process.exit_status:
                return
        finally:
            process.stop()
        how = ending or f"did not end within {self._deadline_s:g} s (--deadline allows more)"
        log = process.log_tail(lines=_SHOWN_LINES)
        raise InstallationFailed(
            f"{name}, {self._checkout.label}, can't be installed: {what} {how}."
            + (f"\nIts output ends with:\n{log}" if log else "")
        )


def _variables(checkout: SideCheckout, environment: Path) -> dict[str, str]:
    """Return the environment variables of an activated environment of a side."""
    variables = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **worktrees.environment(), "PYTHONUNBUFFERED": "1"}
    variables.pop("PYTHONHOME", None)
    variables["VIRTUAL_ENV"] = variables["UV_PROJECT_ENVIRONMENT"] = str(environment)
    variables["PATH"] = os.pathsep.join([str(environment / "bin"), variables.get("PATH", os.defpath)])
    inherited = [Path(entry) for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]
    entries = [checkout.at(entry) if entry.resolve().is_relative_to(checkout.home) else entry for entry in inherited]
    variables["PYTHONPATH"] = os.pathsep.join(map(str, entries))
    return variables


def _measuring_code(checkout: SideCheckout, scratch: Path) -> Path | None:
    """Return a directory for ``PYTHONPATH`` that has this package and nothing else.

    None if this package is part of the checkout, or is not installed, so that pytest would not load it from there.
    """
    package = Path(pytest_gpuperf.__file__).resolve().parent
    try:
        metadata = distribution("pytest-gpuperf")
    except PackageNotFoundError:
        return None
    if package.is_relative_to(checkout.home):
        return None
    directory = scratch / "measuring"
    described = directory / f"pytest_gpuperf-{metadata.version}.dist-info"
    if not directory.exists():
        described.mkdir(parents=True)
        (directory / package.name).symlink_to(package)
        for name in ("METADATA", "entry_points.txt"):
            (described / name).write_text(metadata.read_text(name) or "", encoding="utf-8")
    return directory
