"""The ``gpuperf`` command.

Exit status: 0 success, 1 an error that the message explains, 2 a command line that can't be used. ``compare`` also
exits with 1 after a regression, and ``sweep`` with 3 if a level is unstable.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from typing import Any

from pytest_gpuperf import __version__
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.safe_text import SafeStream

#: Commands as ``gpuperf --help`` lists them: module with ``register``, and help.
_COMMANDS = {
    "triton": ("triton", "install or run the bundled tritonserver"),
    "sweep": ("sweep.command", "measure a served model, with perf_client's options, output and CSV"),
    "duet": ("duet.command", "compare two commits: run the tests of both, alternating window by window"),
    "baseline": ("baseline", "list, accept, pin, delete and copy stored records"),
    "compare": ("compare", "compare the newest record of each test with its baseline"),
    "history": ("history", "plot a metric over all records, and mark changes of its level"),
    "report": ("report", "report stored records as tables, Markdown, HTML, JSON or CSV"),
    "import": ("imports.command", "store perf_analyzer's profile exports, or pytest-benchmark's files, as records"),
    "calibrate": ("calibrate", "measure false alarms and detectable effects on this machine (A/A)"),
    "comment": ("pull_request.command", "post a report as a comment on a GitHub pull request"),
    "cost": ("cost", "print $ per million inferences, and the cheapest fleet for a load and a latency budget"),
    "doctor": ("doctor", "check whether this machine is fit to measure, and say how to make it so"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    _open_closed_streams()
    with redirect_stdout(SafeStream(sys.stdout)), redirect_stderr(SafeStream(sys.stderr)):
        try:
            status = _run(sys.argv[1:] if arguments is None else arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of the output has closed it (`gpuperf baseline list | head`).
            _discard(sys.stdout)
            return 0
        except OSError as error:
            return _failed(str(error))
    return status


def _run(arguments: Sequence[str]) -> int:
    try:
        options = _parsed(arguments)
        return int(options.run(options))
    except GpuperfError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        return 130
    except MemoryError:
        return _failed("The memory of this process is used up. Raise its limit (ulimit -v).")
    except ImportError as error:  # also where a library's file can't be mapped into memory
        return _failed(f"A library can't be loaded: {error}")


def _failed(message: str) -> int:
    """Print why the command failed; return its exit status."""
    try:
        print(f"gpuperf: {message}", file=sys.stderr, flush=True)
        sys.stdout.flush()
    except OSError:  # nobody reads it, or there is no space for it
        _discard(sys.stdout, sys.stderr)
    return 1


def _open_closed_streams() -> None:
    """Open the standard streams that the caller has closed (``>&-``): files would get their numbers, and output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _discard(*streams: Any) -> None:
    """Let streams write nowhere, so that the interpreter does not fail at its end."""
    with suppress(OSError, ValueError):
        for stream in streams:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments up to ``--``, and append the rest to ``options.arguments``, which go to pytest
    or tritonserver.

    argparse alone would take options that follow ``--`` for its own.
    """
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _parser(arguments)
    options = parser.parse_args(arguments[:end])
    for_pytest = arguments[end + 1 :]
    if for_pytest:
        if not hasattr(options, "arguments"):
            parser.error(f"this command takes no arguments after --: {' '.join(for_pytest)}")
        options.arguments = [*options.arguments, *for_pytest]
    return options


class _Parser(argparse.ArgumentParser):
    """Reports an unknown argument with the usage of its own command, and with the option that was probably meant.

    argparse would report it with the usage of the main parser.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments; an unknown argument is an error."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [name for name in self._option_string_actions if name.startswith("--")]
            close = get_close_matches(unknown[0].partition("=")[0], names, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed, unknown


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="gpuperf", description="Tools for GPU inference performance tests with pytest --gpuperf.")
    parser.add_argument("--version", action="version", version=f"gpuperf {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # Only the chosen command is imported: some need numpy and scipy, which take half a second.
    chosen = next((argument for argument in arguments if not argument.startswith("-")), "")
    for name, (module, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == chosen:
            importlib.import_module(f"pytest_gpuperf.cli.{module}").register(command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
