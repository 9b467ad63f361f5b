"""The ``gpuperf`` command.

Exit status: 0 success, 1 an error that the message explains, 2 a command line that can't be used. ``compare`` also
exits with 1 after a regression, and ``sweep`` with 3 if a level is unstable.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf import __version__
from pytest_gpuperf.cli import (
    baseline,
    calibrate,
    compare,
    cost,
    doctor,
    history,
    report,
)
from pytest_gpuperf.cli.duet import command as duet
from pytest_gpuperf.cli.imports import command as imports
from pytest_gpuperf.cli.pull_request import command as comment
from pytest_gpuperf.cli.sweep import command as sweep
from pytest_gpuperf.errors import GpuperfError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parsed(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(options.run(options))
    except GpuperfError as error:
        print(f"gpuperf: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has closed it (`gpuperf baseline list | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments up to ``--``, and append the rest to ``options.arguments``, which go to pytest.

    argparse alone would take options that follow ``--`` for its own.
    """
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _parser()
    options = parser.parse_args(arguments[:end])
    for_pytest = arguments[end + 1 :]
    if for_pytest:
        if not hasattr(options, "arguments"):
            parser.error(f"this command takes no arguments after --: {' '.join(for_pytest)}")
        options.arguments = [*options.arguments, *for_pytest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpuperf", description="Tools for GPU inference performance tests with pytest --gpuperf."
    )
    parser.add_argument("--version", action="version", version=f"gpuperf {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    triton = commands.add_parser(
        "triton",
        help="install the bundled tritonserver",
        description="Install the bundled tritonserver, or print where it is.",
    )
    actions = triton.add_subparsers(title="actions", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="unpack it into the cache directory, unless it is there already")
    install.add_argument(
        "--path",
        type=Path,
        metavar="WHEEL",
        help="nvidia-pytriton wheel, or directory that contains it (default: download it)",
    )
    install.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="where to install it (default: $GPUPERF_CACHE, else ~/.cache/gpuperf)",
    )
    install.set_defaults(run=_triton_install)
    path = actions.add_parser("path", help="print where it is installed")
    path.set_defaults(run=_triton_path)

    sweep.register(commands)
    duet.register(commands)
    baseline.register(commands)
    compare.register(commands)
    history.register(commands)
    report.register(commands)
    imports.register(commands)
    calibrate.register(commands)
    comment.register(commands)
    cost.register(commands)
    doctor.register(commands)
    return parser


def _triton_install(options: argparse.Namespace) -> int:
    from pytest_gpuperf.targets.triton import bundle

    server, fresh = bundle.install(options.path, options.cache)
    print(f"tritonserver {bundle.SERVER_VERSION} {'installed' if fresh else 'is already installed'}: {server.root}")
    return 0


def _triton_path(_: argparse.Namespace) -> int:
    from pytest_gpuperf.targets.triton import bundle

    print(bundle.require().root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
