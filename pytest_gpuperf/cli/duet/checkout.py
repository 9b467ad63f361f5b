"""The two sides of ``gpuperf duet`` before they run: where their code is, and what their pytest gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.errors import GpuperfError, OptionError

#: Reports that both sides would write to the same place; only head writes them, into the user's checkout.
_REPORTS = ("--gpuperf-report", "--junitxml", "--junit-xml", "--report-log", "--html", "--resultlog")

#: How long an interpreter may take to import this package and say what it has.
_PYTHON_S = 60.0


class NothingInCommon(GpuperfError):
    """Base has none of the tests."""


@dataclass(frozen=True)
class SideCheckout:
    """One side's code and interpreter.

    Attributes:
        home: The user's own checkout.
        tree: The side's checkout, which may be ``home``.
        label: Display name of the commit.
        custom_python: Whether the interpreter is another than this command's.
        variables: Environment variables of the interpreter's environment; None for those of this process.
    """

    name: str
    home: Path
    tree: Path
    label: str
    python: str
    custom_python: bool
    variables: Mapping[str, str] | None = None

    @property
    def directory(self) -> Path:
        """The directory that the side's pytest runs in: the counterpart of the working directory."""
        return self.at(Path.cwd())

    def at(self, path: Path) -> Path:
        """Return the counterpart of a path in the user's checkout."""
        return self.tree / path.resolve().relative_to(self.home)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the side's pytest.

        If both sides share one interpreter, modules must come from the side's own checkout. A project that is installed
        in editable mode is imported through a path in the user's checkout, so ``PYTHONPATH`` begins with the
        counterparts of such paths.
        """
        if self.variables is not None:
            return dict(self.variables)
        variables = {**worktrees.environment(), "PYTHONUNBUFFERED": "1"}
        if self.custom_python or self.tree == self.home:
            return variables
        script = "import json, sys; print(json.dumps(sys.path))"
        entries = [Path(entry).resolve() for entry in json.loads(self.output(variables, "-c", script)) if entry]
        prefix = Path(sys.prefix).resolve()
        first = [
            self.at(entry)
            for entry in entries
            if entry.is_relative_to(self.home)
            and "site-packages" not in entry.parts
            and not (entry.is_relative_to(prefix) and prefix != self.home)
        ]
        first += [self.tree / "src"] if (self.tree / "src").is_dir() else []
        inherited = [entry for entry in variables.get("PYTHONPATH", "").split(os.pathsep) if entry]
        kept = [entry for entry in inherited if not Path(entry).resolve().is_relative_to(self.home)]
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*map(str, first), *kept]))
        return variables

    def output(self, environment: dict[str, str], *arguments: str) -> str:
        """Run the side's interpreter; return what it prints.

        Raises:
            OptionError: It can't be run, or fails.
        """
        try:
            done = subprocess.run(
                [self.python, *arguments],
                cwd=self.home,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=_PYTHON_S,
            )
        except subprocess.TimeoutExpired as error:
            raise OptionError(
                f"The interpreter of {self.name}, {self.python}, gave no answer within {_PYTHON_S:g} s."
            ) from error
        except OSError as error:
            raise OptionError(f"The interpreter of {self.name}, {self.python}, can't be run: {error}") from error
        if done.returncode:
            hint = f"Install this version there, or choose another interpreter with --python-{self.name}."
            if self.variables is not None:
                hint = "Let the command of --install install pytest-gpuperf, too, with what it needs."
            raise OptionError(
                f"The interpreter of {self.name}, {self.python}, has no pytest-gpuperf with gpuperf duet:\n"
                f"  {(done.stderr.strip().splitlines() or ['no output'])[-1]}\n{hint}"
            )
        return done.stdout


def overlay(path: Path, head: SideCheckout, base: SideCheckout) -> None:
    """Copy a file or directory from head's checkout into base's.

    What head's commit lacks, because git ignores it, is copied from the user's checkout into both.

    Raises:
        OptionError: Head has no such file, or the path is outside of the checkout.
    """
    absolute = path if path.is_absolute() else Path.cwd() / path
    if not absolute.resolve().is_relative_to(head.home):
        raise OptionError(f"--overlay {path}: it is not inside {head.home}.")
    source, goal = head.at(absolute), base.at(absolute)
    if not source.exists() and absolute.exists() and head.tree != head.home:
        _copy(absolute, source)
    if not source.exists():
        raise OptionError(f"--overlay {path}: head has no such file or directory.")
    _copy(source, goal)


def _copy(source: Path, goal: Path) -> None:
    goal.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, goal, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, goal)


def pytest_arguments(
    arguments: Sequence[str], head: SideCheckout, base: SideCheckout
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the arguments of each side's pytest, and notes on files that only one side has.

    Raises:
        NothingInCommon: Base has none of the files.
        OptionError: Head has none of the files.
    """
    by_side: dict[str, list[str]] = {}
    notes = []
    for side, peer in ((head, base), (base, head)):
        kept, missing, paths = [], [], 0
        others, reports = _without_reports(arguments)
        for argument in others:
            file = argument.partition("::")[0]
            in_peer = not argument.startswith("-") and (peer.directory / file).exists()
            in_side = not argument.startswith("-") and (side.directory / file).exists()
            paths += in_side
            if in_peer and not in_side and (file.endswith(".py") or (peer.directory / file).is_dir()):
                missing.append(argument)
            else:
                kept.append(argument.replace(str(side.home), str(side.tree)))
        if missing and not paths:
            absent = f"{side.name} has none of {', '.join(missing)}, so there is nothing to compare"
            if side is base:
                raise NothingInCommon(f"{absent}.\nTo have {side.name} take them from head: --overlay {missing[0]}")
            raise OptionError(f"{absent}.")
        notes += [f"only at {peer.name}, so not compared: {argument}" for argument in missing]
        by_side[side.name] = kept + (reports if side is head else [])
    return by_side, notes


def _without_reports(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return pytest's arguments without those that name reports, and these with full paths."""
    others, reports = [], []
    rest = iter(arguments)
    for argument in rest:
        name, equals, path = argument.partition("=")
        if name in _REPORTS:
            reports.append(f"{name}={Path.cwd() / (path if equals else next(rest, ''))}")
        else:
            others.append(argument)
    return others, reports
