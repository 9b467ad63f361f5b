"""The two sides of ``gpuperf duet`` before they run: where their code is, and what their pytest gets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure.channel import BASE

#: Reports that both sides would write to the same place; only head writes them.
_REPORTS = ("--junitxml", "--junit-xml", "--report-log", "--html", "--resultlog")

#: How long an interpreter may take to import this package and say what it has.
_PYTHON_S = 60.0


@dataclass(frozen=True)
class SideCheckout:
    """One side's code and interpreter.

    Attributes:
        home: The user's own checkout.
        tree: The side's checkout, which may be ``home``.
        label: Display name of the commit.
        custom_python: Whether the user chose the interpreter.
    """

    name: str
    home: Path
    tree: Path
    label: str
    python: str
    custom_python: bool

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
            raise OptionError(
                f"The interpreter of {self.name}, {self.python}, has no pytest-gpuperf with gpuperf duet:\n"
                f"  {(done.stderr.strip().splitlines() or ['no output'])[-1]}\n"
                f"Install this version there, or choose another interpreter with --python-{self.name}."
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
        OptionError: A side has none of the files.
    """
    by_side: dict[str, list[str]] = {}
    notes = []
    for side, peer in ((head, base), (base, head)):
        kept, missing, paths = [], [], 0
        for argument in arguments:
            file = argument.partition("::")[0]
            in_peer = not argument.startswith("-") and (peer.directory / file).exists()
            in_side = not argument.startswith("-") and (side.directory / file).exists()
            paths += in_side
            if in_peer and not in_side and (file.endswith(".py") or (peer.directory / file).is_dir()):
                missing.append(argument)
            else:
                kept.append(argument.replace(str(side.home), str(side.tree)))
        if missing and not paths:
            raise OptionError(
                f"{side.name} has none of {', '.join(missing)}, so there is nothing to compare."
                + (f"\nTo have {side.name} take them from head: --overlay {missing[0]}" if side.name == BASE else "")
            )
        notes += [f"only at {peer.name}, so not compared: {argument}" for argument in missing]
        by_side[side.name] = kept
    reports = tuple(f"{name}=" for name in _REPORTS)
    by_side[BASE] = [argument for argument in by_side[BASE] if not argument.startswith(reports)]
    return by_side, notes
