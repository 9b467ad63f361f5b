"""``gpuperf``: its subcommands and what they print.

Exit status: 0 done, 1 an error that the message explains, 2 a command line that can't be understood; ``sweep`` has 3
for unstable levels, too, and ``compare`` 1 for a regression.
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
        # The reader of our output has seen enough (`gpuperf baseline list | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What is behind ``--`` goes to pytest, wherever the options before it are: argparse can't do that by itself."""
    own = list(arguments)
    behind = own.index("--") if "--" in own else len(own)
    parser = _parser()
    options = parser.parse_args(own[:behind])
    if behind + 1 < len(own):
        if not hasattr(options, "arguments"):
            parser.error(f"this command takes nothing behind --: {' '.join(own[behind + 1 :])}")
        options.arguments = [*options.arguments, *own[behind + 1 :]]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpuperf", description="GPU inference performance tests: the tools around pytest --gpuperf."
    )
    parser.add_argument("--version", action="version", version=f"gpuperf {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    triton = commands.add_parser("triton", help="the bundled tritonserver", description="The bundled tritonserver.")
    actions = triton.add_subparsers(title="actions", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="unpack it into the cache directory; does nothing when it is there")
    install.add_argument(
        "--path",
        type=Path,
        metavar="WHEEL",
        help="the nvidia-pytriton wheel, or a directory that has it, instead of downloading it",
    )
    install.add_argument(
        "--cache", type=Path, metavar="DIR", help="install here instead of $GPUPERF_CACHE or ~/.cache/gpuperf"
    )
    install.set_defaults(run=_triton_install)
    where = actions.add_parser("path", help="print where it is installed")
    where.set_defaults(run=_triton_path)

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
    print(f"tritonserver {bundle.SERVER_VERSION} {'installed' if fresh else 'is installed already'}: {server.root}")
    return 0


def _triton_path(_: argparse.Namespace) -> int:
    from pytest_gpuperf.targets.triton import bundle

    print(bundle.require().root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
