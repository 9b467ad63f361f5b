"""``gpuperf duet``: the command."""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from pytest_gpuperf.analysis.duet.looks import FIRST_LOOK, MOST_BLOCKS
from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.cli.duet.checkout import NothingInCommon, SideCheckout, overlay, pytest_arguments
from pytest_gpuperf.cli.duet.conductor import DuetConductor, DuetPlan, statuses
from pytest_gpuperf.cli.duet.ignored import ignored_models
from pytest_gpuperf.cli.duet.installation import installed, kept_place
from pytest_gpuperf.cli.duet.reports import DuetReports
from pytest_gpuperf.cli.duet.side_process import SideEnded, SideProcess
from pytest_gpuperf.cli.duet.submodules import add_submodules, check_large_files
from pytest_gpuperf.cli.shared_options import integer, number
from pytest_gpuperf.errors import GpuperfError, OptionError
from pytest_gpuperf.measure.channel import BASE, HEAD, PROTOCOL, VARIABLE
from pytest_gpuperf.publish.formats import format_of
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.safe_text import unfiltered
from pytest_gpuperf.store.project.location import start_directory
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.user_path import user_path

#: Time for a pytest to stop its servers after it was asked to end.
_GRACE_S = 25.0
#: Longest path of a unix socket, with a margin.
_SOCKET_PATH = 100
_PASSED, _FAILED, _NO_VERDICT, _STOPPED = 0, 1, 3, 130
#: Exit statuses of a pytest that ran its tests, and of one that had none to run.
_RAN, _NO_TESTS = (0, 1), 5
#: pytest's option with which a test that is not compared fails.
_REQUIRED = "--gpuperf-require-baseline"
_ONLY_NEW = "base has none of head's tests, so there is nothing to compare them with yet"


def _report(path: str) -> str:
    try:
        format_of(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error
    return path


_seconds = number(lambda seconds: 0 < seconds < math.inf, "a number of seconds above 0")


def _blocks(text: str) -> int:
    blocks = integer()(text)
    if blocks < FIRST_LOOK:
        raise argparse.ArgumentTypeError(f"{text!r}: one block shows no spread; write {FIRST_LOOK} or more")
    return blocks


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Measure the tests of two commits against each other in alternating windows, and fail if head is slower than "
        "base. Needs no stored baseline."
    )
    parser.epilog = (
        "Arguments after -- go to pytest on both sides, for example: gpuperf duet --base main -- tests/perf -k resnet"
    )
    add = parser.add_argument
    add("--base", required=True, metavar="REF", help="commit to compare with")
    add("--head", metavar="REF", help="commit to judge (default: the working tree with its uncommitted changes)")
    for side in (BASE, HEAD):
        text = f"interpreter of an environment for {side}, with pytest-gpuperf (default: this interpreter)"
        add(f"--python-{side}", metavar="EXE", help=text)
    text = (
        "shell command that installs a commit in a new environment of its own, such as 'pip install -e .'; it runs in "
        "the directory of the commit that this command runs in (not for the working tree: it uses this interpreter)"
    )
    add("--install", metavar="COMMAND", help=text)
    text = "keep the environments of --install in this directory, and use them again for the same commit"
    add("--environments", metavar="DIR", help=text)
    text = "file or directory to copy from head to base, for tests that base doesn't have; may be repeated"
    add("--overlay", action="append", default=[], metavar="PATH", help=text)
    text = f"most fresh starts of both sides; it ends as soon as it is decided (default: {MOST_BLOCKS})"
    add("--blocks", type=_blocks, default=MOST_BLOCKS, metavar="N", help=text)
    text = "pairs of windows at each load point in each block (default: as the spreads of starts and windows suggest)"
    add("--alternations", type=integer(), metavar="N", help=text)
    add("--window-s", type=_seconds, default=0.3, metavar="S", help="length of a window in seconds (default: 0.3)")
    text = "longest time in seconds for a step of a side, such as starting a server (default: 900)"
    add("--deadline", type=_seconds, default=900.0, metavar="S", help=text)
    text = "write a report as the file's ending says: .md, .html, .json or .csv; may be repeated"
    add("--report", action="append", default=[], type=_report, metavar="FILE", help=text)
    add("--title", metavar="TEXT", help="text beside the verdict of a report (default: the names of both sides)")
    add("arguments", nargs="*", metavar="-- PYTEST ARGUMENTS", help="arguments for both pytests")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    if options.environments and not options.install:
        raise OptionError("--environments keeps the environments that --install makes: add --install COMMAND.")
    home = worktrees.toplevel(start_directory())
    reports = DuetReports(
        options.report, options.title or f"{options.head or 'the working tree'} against {options.base}"
    )
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        return _compared(options, home, reports)
    except KeyboardInterrupt:
        print("gpuperf duet: interrupted; both sides were ended.", file=sys.stderr)
        return _STOPPED
    except NothingInCommon as error:
        _say(f"NOTHING WAS COMPARED: {error}")
        reports.write(notes=[str(error)])
        return _NO_VERDICT if _REQUIRED in options.arguments else _PASSED
    except OptionError as error:
        reports.write(error=str(error))
        raise
    except GpuperfError as error:
        print(f"gpuperf duet: {error}", file=sys.stderr)
        print("gpuperf duet: there is no verdict.", file=sys.stderr)
        reports.write(error=str(error))
        return _NO_VERDICT
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _compared(options: argparse.Namespace, home: Path, reports: DuetReports) -> int:
    """Make both sides ready, and run them; return the command's exit status."""
    commits = {BASE: worktrees.commit_of(home, options.base)}
    if options.head is not None:
        commits[HEAD] = worktrees.commit_of(home, options.head)
    with ExitStack() as stack:
        scratch = Path(tempfile.mkdtemp(prefix="gpuperf-duet-")).resolve()
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        sides, notes = [], []
        for name in (HEAD, BASE):
            commit, python = commits.get(name), getattr(options, f"python_{name}")
            install = options.install if commit and not python else None
            place, tree = scratch / name, home
            if commit:
                if install and options.environments:
                    place = kept_place(user_path(options.environments), commit, install, stack)
                tree = stack.enter_context(worktrees.worktree(home, commit, place / "checkout"))
                check_large_files(home, tree)
                notes += [f"{name}: {note}" for note in add_submodules(home, tree, stack)]
            label = _label(getattr(options, name), commit) if commit else "the working tree as it is"
            side = SideCheckout(name, home, tree, label, python or sys.executable, bool(python))
            if not side.directory.is_dir():
                where = f"{name}, {label}, has no directory {side.directory.relative_to(side.tree)}"
                if name == HEAD:
                    raise OptionError(f"{where}, in which gpuperf duet was started.")
                raise NothingInCommon(f"{where}, so there is nothing to compare head with yet.")
            if install:
                side = installed(side, install, place, scratch=scratch, deadline_s=options.deadline, say=_say)
            sides.append(side)
        return _run(options, sides, scratch, notes, reports)


def _label(ref: str, commit: str) -> str:
    return commit[:8] if commit.startswith(ref) else f"{ref} ({commit[:8]})"


def _run(
    options: argparse.Namespace,
    checkouts: Sequence[SideCheckout],
    scratch: Path,
    notes: list[str],
    reports: DuetReports,
) -> int:
    """Run the pytests of head and base; return the command's exit status."""
    head, base = checkouts
    _say(f"head is {head.label}, base is {base.label}")
    for path in options.overlay:
        overlay(Path(path), head, base)
    arguments, missing = pytest_arguments(options.arguments, head, base)
    notes += missing
    arguments[HEAD] += reports.arguments
    for checkout in (head, base):
        if checkout.tree != checkout.home:
            notes += [
                f"{line}, so {checkout.name} does not have it. Copy it into both with --overlay PATH, or fetch it with "
                "--install COMMAND"
                for line in ignored_models(checkout.home, checkout.tree)
            ]
    for note in notes:
        _say(note)
    plan = DuetPlan(
        options.blocks, options.alternations, options.window_s, options.deadline, reports.title, tuple(notes)
    )
    with ExitStack() as stack:
        directory = scratch
        if len(str(directory / "turns")) > _SOCKET_PATH:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpuperf-", dir="/tmp")))
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(str(directory / "turns"))
        listener.listen(2)
        sides = [
            _start(checkout, arguments[checkout.name], directory / "turns", scratch, stack) for checkout in (head, base)
        ]
        required = _REQUIRED in options.arguments
        return _drive(sides[0], sides[1], listener, plan, must_compare=required)


def _drive(head: SideProcess, base: SideProcess, listener: socket.socket, plan: DuetPlan, *, must_compare: bool) -> int:
    """Let both sides run; return the command's exit status.

    Raises:
        SideEnded: A side died, hangs, or can't be measured.
    """
    conductor = DuetConductor(head, base, listener, plan, _say)
    output = _OutputFollower(head)
    try:
        conductor.run(output.print_new)
        status = statuses((head, base), plan.deadline_s, output.print_new)
    except SideEnded as error:
        output.print_new()
        peer = base.name if error.side == head.name else head.name
        raise SideEnded(error.side, f"{error}\n{peer} was ended as well.") from error
    output.print_new()
    return _exit_status(conductor, head, base, status, must_compare=must_compare)


def _exit_status(
    conductor: DuetConductor, head: SideProcess, base: SideProcess, status: dict[str, int], *, must_compare: bool
) -> int:
    """Print the outcome; return the command's exit status."""
    for note in dict.fromkeys(conductor.notes):
        _say(note)
    for test, (outcome, text) in base.results.items():
        _say(f"{outcome} at base: {test}: {text}")
    ran = _RAN if conductor.common else (*_RAN, _NO_TESTS)
    broken = [side for side in (head, base) if status[side.name] not in ran]
    for side in broken:
        _say(f"{side.name}: pytest ended with status {status[side.name]}. Its output ends with:")
        print(side.process.log_tail(lines=25))
    if not conductor.compared:
        only_new = conductor.only_new and not broken
        _say(f"NOTHING WAS COMPARED: {_ONLY_NEW if only_new else 'no test measured on both sides'}")
        return _PASSED if only_new and not must_compare else _NO_VERDICT
    if status[HEAD] == _FAILED:
        return _FAILED
    if broken:
        return _NO_VERDICT
    _say(f"{plural(len(conductor.compared), 'test')} compared, no regression")
    return _PASSED


def _start(
    checkout: SideCheckout, arguments: Sequence[str], path: Path, scratch: Path, stack: ExitStack
) -> SideProcess:
    """Start a side's pytest, which is stopped with the stack."""
    environment = checkout.environment()
    script = "from pytest_gpuperf.measure.channel import PROTOCOL; print(PROTOCOL)"
    protocol = checkout.output(environment, "-c", script).strip()
    if protocol != str(PROTOCOL):
        raise OptionError(
            f"{checkout.name} has another version of pytest-gpuperf than this command.\n"
            "Install the same version on both sides."
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
    return SideProcess(checkout.name, process, checkout.tree, checkout.home)


class _OutputFollower:
    """Prints the output of a side's pytest as it appears."""

    def __init__(self, side: SideProcess) -> None:
        self._side, self._printed = side, 0

    def print_new(self) -> None:
        text = self._side.process.log_text(last_bytes=None)
        if len(text) > self._printed:
            output = unfiltered(sys.stdout)  # pytest's colours stay
            output.write(text[self._printed :])
            output.flush()
            self._printed = len(text)


def _say(text: str) -> None:
    print(f"gpuperf duet: {text}", flush=True)
