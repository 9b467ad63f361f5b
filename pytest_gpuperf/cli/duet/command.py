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

from pytest_gpuperf.cli.duet import worktrees
from pytest_gpuperf.cli.duet.checkout import SideCheckout, overlay, pytest_arguments
from pytest_gpuperf.cli.duet.conductor import DuetConductor, DuetPlan, SideEnded, SideProcess, statuses
from pytest_gpuperf.cli.duet.ignored import ignored_models
from pytest_gpuperf.cli.shared_options import integer, number
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.measure.channel import BASE, HEAD, PROTOCOL, VARIABLE
from pytest_gpuperf.report.figures import plural
from pytest_gpuperf.safe_text import unfiltered
from pytest_gpuperf.store.project.location import start_directory
from pytest_gpuperf.targets.process import SupervisedProcess

#: Time for a pytest to stop its servers after it was asked to end.
_GRACE_S = 25.0
#: Longest path of a unix socket, with a margin.
_SOCKET_PATH = 100
_PASSED, _FAILED, _STOPPED = 0, 1, 130
#: Exit statuses of a pytest that ran its tests.
_RAN = (0, 1)
_seconds = number(lambda seconds: 0 < seconds < math.inf, "a number of seconds above 0")


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
    text = "file or directory to copy from head to base, for tests that base doesn't have; may be repeated"
    add("--overlay", action="append", default=[], metavar="PATH", help=text)
    add("--blocks", type=integer(), default=5, metavar="N", help="fresh starts of both sides (default: 5)")
    text = "pairs of windows at each load point in each block (default: 24)"
    add("--alternations", type=integer(), default=24, metavar="N", help=text)
    add("--window-s", type=_seconds, default=0.3, metavar="S", help="length of a window in seconds (default: 0.3)")
    text = "longest time in seconds for a step of a side, such as starting a server (default: 900)"
    add("--deadline", type=_seconds, default=900.0, metavar="S", help=text)
    add("arguments", nargs="*", metavar="-- PYTEST ARGUMENTS", help="arguments for both pytests")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    home = worktrees.toplevel(start_directory())
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
                python = getattr(options, f"python_{name}")
                label = f"{getattr(options, name)} ({commit[:8]})" if commit else "the working tree as it is"
                checkouts.append(SideCheckout(name, home, tree, label, python or sys.executable, bool(python)))
            return _run(options, checkouts[0], checkouts[1], scratch)
    except KeyboardInterrupt:
        print("gpuperf duet: interrupted; both sides were ended.", file=sys.stderr)
        return _STOPPED
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, head: SideCheckout, base: SideCheckout, scratch: Path) -> int:
    _say(f"head is {head.label}, base is {base.label}")
    for path in options.overlay:
        overlay(Path(path), head, base)
    arguments, notes = pytest_arguments(options.arguments, head, base)
    for checkout in (head, base):
        if (checkout.tree / ".gitmodules").exists() and checkout.tree != checkout.home:
            notes.append(f"submodules are not checked out in the worktree of {checkout.name}")
    for checkout in (head, base):
        if checkout.tree != checkout.home and not options.overlay:
            notes += [
                f"{line}, so {checkout.name} does not have it. Copy it into both with: --overlay PATH"
                for line in ignored_models(checkout.home)
            ]
    for note in notes:
        _say(note)
    plan = DuetPlan(options.blocks, options.alternations, options.window_s, options.deadline)
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
        return _drive(sides[0], sides[1], listener, plan, notes)


def _drive(head: SideProcess, base: SideProcess, listener: socket.socket, plan: DuetPlan, notes: list[str]) -> int:
    """Let both sides run; return the command's exit status."""
    conductor = DuetConductor(head, base, listener, plan, _say)
    output = _OutputFollower(head)
    try:
        conductor.run(output.print_new)
        status = statuses((head, base), plan.deadline_s, output.print_new)
    except SideEnded as error:
        output.print_new()
        print(f"gpuperf duet: {error}", file=sys.stderr)
        peer = base.name if error.side == head.name else head.name
        print(f"gpuperf duet: {peer} was ended as well; there is no verdict.", file=sys.stderr)
        return _FAILED
    output.print_new()
    return _exit_status(conductor, head, base, status, notes)


def _exit_status(
    conductor: DuetConductor, head: SideProcess, base: SideProcess, status: dict[str, int], notes: list[str]
) -> int:
    """Print the outcome; return the command's exit status."""
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
