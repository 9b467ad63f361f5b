"""``gpuperf triton``: the bundled tritonserver."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_gpuperf.targets.triton import bundle


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions."""
    parser.description = "Install the bundled tritonserver, or print where it is."
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="install the bundled tritonserver, unless it is installed already")
    wheel = "nvidia-pytriton wheel, or directory that contains it (default: download it)"
    install.add_argument("--path", type=Path, metavar="WHEEL", help=wheel)
    cache = "where to install it (default: $GPUPERF_CACHE, else ~/.cache/gpuperf)"
    install.add_argument("--cache", type=Path, metavar="DIR", help=cache)
    install.set_defaults(run=_install)
    actions.add_parser("path", help="print the directory of the bundled tritonserver").set_defaults(run=_print_path)


def _install(options: argparse.Namespace) -> int:
    server, fresh = bundle.install(options.path, options.cache)
    print(f"tritonserver {bundle.SERVER_VERSION} {'installed' if fresh else 'is already installed'}: {server.root}")
    return 0


def _print_path(_: argparse.Namespace) -> int:
    print(bundle.require().root)
    return 0
