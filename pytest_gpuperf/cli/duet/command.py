"""``gpuperf duet``: the suite of two commits against each other, window by window, with no stored baseline."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_gpuperf.errors import OptionError

if TYPE_CHECKING:
    from pytest_gpuperf.cli.duet.conductor import DuetConductor, DuetPlan, DuetSide

HEAD, BASE = "head", "base"
#: A pytest that is told to end stops its servers first.
_GRACE_S = 25.0
#: Longest path of a unix socket, with some to spare.
_SOCKET_PATH = 100
_PASSED, _FAILED, _STOPPED = 0, 1, 130
#: Exit statuses of pytest that say how the tests went, and not that they could not be run.
_RAN = (0, 1)
#: Reports that both sides would write to the same place; head's is the one that is wanted.
_REPORTS = ("--junitxml", "--junit-xml", "--report-log", "--html", "--resultlog")


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "duet",
        help="compare two commits: run the suite of both, alternating window by window",
        description="Measures the suite of two commits against each other in alternating windows and fails where head "
        "is slower than base. Needs no stored baseline.",
        epilog="Everything behind -- goes to pytest on both sides, for example: "
        "gpuperf duet --base main -- tests/perf -k resnet",
    )
    parser.add_argument("--base", required=True, metavar="REF", help="the commit to compare with")
    parser.add_argument(
        "--head", metavar="REF", help="the commit to judge (default: the working tree as it is, changes included)"
    )
    for side in (BASE, HEAD):
        parser.add_argument(
            f"--python-{side}",
            metavar="EXE",
            help=f"the interpreter of {side}'s own environment, with pytest-gpuperf (default: this one)",
        )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="PATH",
        help="a file or directory that base takes from head, for tests that base does not have; may be repeated",
    )
    parser.add_argument("--blocks", type=_count, default=5, metavar="N", help="fresh starts of both sides (default: 5)")
    parser.add_argument(
        "--alternations",
        type=_count,
        default=24,
        metavar="N",
        help="pairs of windows at each load point in each block (default: 24)",
    )
    parser.add_argument(
        "--window-s", type=_seconds, default=0.3, metavar="S", help="length of a window in seconds (default: 0.3)"
    )
    parser.add_argument(
        "--deadline",
        type=_seconds,
        default=900.0,
        metavar="S",
        help="end when a side takes longer than this over one step, such as starting a server (default: 900)",
    )
    parser.add_argument("arguments", nargs="*", metavar="-- PYTEST ARGUMENTS", help="for both pytests")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


@dataclass(frozen=True)
class Checkout:
    """One side before it runs.

    Attributes:
        home: the user's own checkout.
        tree: this side's directory, which may be the same.
        label: how people call it.
        python: the interpreter; ``given`` when the user chose it.
    """

    name: str
    home: Path
    tree: Path
    label: str
    python: str
    given: bool

    @property
    def directory(self) -> Path:
        """Where its pytest runs: the place of ours."""
        return self.at(Path.cwd())

    def at(self, path: Path) -> Path:
        """The counterpart of a path in the user's own checkout."""
        return self.tree / path.resolve().relative_to(self.home)

    def environment(self) -> dict[str, str]:
        """Without the user's own environment, which is no other for both sides, modules come from this side's tree.

        A project that is installed in editable mode is found through a path in its checkout; the same paths of this
        side's tree go before it.
        """
        from pytest_gpuperf.cli.duet import worktrees

        found = {**worktrees.environment(), "PYTHONUNBUFFERED": "1"}
        if self.given or self.tree == self.home:
            return found
        script = "import json, sys; print(json.dumps(sys.path))"
        entries = [Path(entry).resolve() for entry in json.loads(_output(self, found, "-c", script)) if entry]
        prefix = Path(sys.prefix).resolve()
        own = [
            self.at(entry)
            for entry in entries
            if entry.is_relative_to(self.home)
            and "site-packages" not in entry.parts
            and not (entry.is_relative_to(prefix) and prefix != self.home)
        ]
        own += [self.tree / "src"] if (self.tree / "src").is_dir() else []
        inherited = [entry for entry in found.get("PYTHONPATH", "").split(os.pathsep) if entry]
        kept = [entry for entry in inherited if not Path(entry).resolve().is_relative_to(self.home)]
        found["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*map(str, own), *kept]))
        return found


def _output(checkout: Checkout, environment: dict[str, str], *arguments: str) -> str:
    """What the side's interpreter prints."""
    try:
        done = subprocess.run(
            [checkout.python, *arguments],
            cwd=checkout.home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise OptionError(f"The interpreter of {checkout.name}, {checkout.python}, can't be run: {error}") from error
    if done.returncode:
        raise OptionError(
            f"The interpreter of {checkout.name}, {checkout.python}, has no pytest-gpuperf that knows gpuperf duet:\n"
            f"  {(done.stderr.strip().splitlines() or ['no output'])[-1]}\n"
            f"Install this version there, or choose another with --python-{checkout.name}."
        )
    return done.stdout


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from pytest_gpuperf.cli.duet import worktrees

    home = worktrees.toplevel(Path.cwd())
    commits = {BASE: worktrees.commit_of(home, options.base)}
    if options.head is not None:
        commits[HEAD] = worktrees.commit_of(home, options.head)
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        with ExitStack() as stack:
            scratch = Path(tempfile.mkdtemp(prefix="gpuperf-duet-")).resolve()
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            checkouts = []
            for name in (HEAD, BASE):
                commit = commits.get(name)
                tree = stack.enter_context(worktrees.worktree(home, commit, scratch / name)) if commit else home
                given = getattr(options, f"python_{name}")
                label = f"{getattr(options, name)} ({commit[:8]})" if commit else "the working tree as it is"
                python = given or sys.executable
                checkouts.append(Checkout(name, home, tree, label, python, bool(given)))
            return _run(options, checkouts[0], checkouts[1], scratch)
    except KeyboardInterrupt:
        print("gpuperf duet: interrupted; both sides were ended.", file=sys.stderr)
        return _STOPPED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, head: Checkout, base: Checkout, scratch: Path) -> int:
    from pytest_gpuperf.cli.duet.conductor import DuetPlan

    _say(f"head is {head.label}, base is {base.label}")
    for path in options.overlay:
        _lay_over(Path(path), head, base)
    arguments, notes = _arguments(options.arguments, head, base)
    for checkout in (head, base):
        if (checkout.tree / ".gitmodules").exists() and checkout.tree != checkout.home:
            notes.append(f"submodules are not checked out in the worktree of {checkout.name}")
    plan = DuetPlan(options.blocks, options.alternations, options.window_s, options.deadline)
    with ExitStack() as stack:
        place = scratch
        if len(str(place / "turns")) > _SOCKET_PATH:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpuperf-", dir="/tmp")))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(place / "turns"))
        listener.listen(2)
        sides = [
            _start(checkout, arguments[checkout.name], place / "turns", scratch, stack) for checkout in (head, base)
        ]
        return _drive(sides[0], sides[1], listener, plan, notes)


def _drive(head: DuetSide, base: DuetSide, listener: socket.socket, plan: DuetPlan, notes: list[str]) -> int:
    """Let both run and say how it went."""
    from pytest_gpuperf.cli.duet.conductor import DuetConductor, SideEnded, statuses

    conductor = DuetConductor(head, base, listener, plan, _say)
    shown = _Follow(head)
    try:
        conductor.run(shown.more)
        status = statuses((head, base), plan.deadline_s, shown.more)
    except SideEnded as error:
        shown.more()
        print(f"gpuperf duet: {error}", file=sys.stderr)
        other = base.name if str(error).startswith(head.name) else head.name
        print(f"gpuperf duet: {other} was ended as well, and nothing was decided.", file=sys.stderr)
        return _FAILED
    shown.more()
    return _conclude(conductor, head, base, status, notes)


def _conclude(
    conductor: DuetConductor, head: DuetSide, base: DuetSide, status: dict[str, int], notes: list[str]
) -> int:
    for note in dict.fromkeys([*notes, *conductor.notes]):
        _say(note)
    for test, (outcome, text) in base.results.items():
        _say(f"{outcome} at base: {test}: {text}")
    broken = [side for side in (head, base) if status[side.name] not in _RAN and conductor.common]
    for side in broken:
        _say(f"{side.name}: pytest ended with status {status[side.name]}. Its output ends with:")
        print(side.process.log_tail(lines=25))
    if not conductor.compared:
        _say("NOTHING WAS COMPARED: no test measured on both sides")
        return _FAILED
    if broken or status[HEAD] != _PASSED:
        return _FAILED
    count = len(conductor.compared)
    _say(f"{count} test{'s' if count != 1 else ''} compared, no regression")
    return _PASSED


def _start(checkout: Checkout, arguments: Sequence[str], path: Path, scratch: Path, stack: ExitStack) -> DuetSide:
    """Start the pytest of a side; it ends with the stack, or with us."""
    from pytest_gpuperf.cli.duet.conductor import DuetSide
    from pytest_gpuperf.measure.channel import PROTOCOL, VARIABLE
    from pytest_gpuperf.targets.process import SupervisedProcess

    environment = checkout.environment()
    script = "from pytest_gpuperf.measure.channel import PROTOCOL; print(PROTOCOL)"
    spoken = _output(checkout, environment, "-c", script).strip()
    if spoken != str(PROTOCOL):
        raise OptionError(
            f"{checkout.name} has another version of pytest-gpuperf than this command.\nInstall the same in both."
        )
    colour = ["--color=yes"] if sys.stdout.isatty() and checkout.name == HEAD else []
    process = SupervisedProcess(
        [checkout.python, "-m", "pytest", "--gpuperf", *colour, *arguments],
        env={**environment, VARIABLE: f"{checkout.name}:{path}"},
        log=scratch / f"{checkout.name}.log",
        grace_s=_GRACE_S,
        scratch=scratch,
        directory=checkout.directory,
    )
    stack.callback(process.stop)
    return DuetSide(checkout.name, process, checkout.tree, checkout.home)


def _lay_over(path: Path, head: Checkout, base: Checkout) -> None:
    """Copy from head's tree into base's.

    Raises:
        OptionError: it isn't there.
    """
    absolute = path if path.is_absolute() else Path.cwd() / path
    if not absolute.resolve().is_relative_to(head.home):
        raise OptionError(f"--overlay {path}: it is not inside {head.home}.")
    source, goal = head.at(absolute), base.at(absolute)
    if not source.exists():
        raise OptionError(f"--overlay {path}: head has no such file or directory.")
    goal.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, goal, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, goal)


def _arguments(arguments: Sequence[str], head: Checkout, base: Checkout) -> tuple[dict[str, list[str]], list[str]]:
    """The arguments of both pytests, and what people should know of them.

    Raises:
        OptionError: one side would be left with nothing to run.
    """
    found: dict[str, list[str]] = {}
    notes = []
    for side, other in ((head, base), (base, head)):
        own, missing, paths = [], [], 0
        for argument in arguments:
            file = argument.partition("::")[0]
            there = not argument.startswith("-") and (other.directory / file).exists()
            here = not argument.startswith("-") and (side.directory / file).exists()
            paths += here
            if there and not here and (file.endswith(".py") or (other.directory / file).is_dir()):
                missing.append(argument)
            else:
                own.append(argument.replace(str(side.home), str(side.tree)))
        if missing and not paths:
            raise OptionError(
                f"{side.name} has none of {', '.join(missing)}, so there is nothing to compare."
                + (f"\nTo have {side.name} take them from head: --overlay {missing[0]}" if side.name == BASE else "")
            )
        notes += [f"only at {other.name}, so not compared: {one}" for one in missing]
        found[side.name] = own
    found[BASE] = [one for one in found[BASE] if not one.startswith(tuple(f"{name}=" for name in _REPORTS))]
    return found, notes


class _Follow:
    """Prints what head's pytest prints, as it comes."""

    def __init__(self, head: DuetSide) -> None:
        self._side, self._shown = head, 0

    def more(self) -> None:
        text = self._side.process.log_text()
        if len(text) > self._shown:
            sys.stdout.write(text[self._shown :])
            sys.stdout.flush()
            self._shown = len(text)


def _say(text: str) -> None:
    print(f"gpuperf duet: {text}", flush=True)
