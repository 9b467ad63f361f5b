"""``gpuperf triton``: the bundled tritonserver."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import OptionError, TargetError
from pytest_gpuperf.model import HTTP, Address
from pytest_gpuperf.targets.kserve import Servers, open_client
from pytest_gpuperf.targets.model_file import looked_for
from pytest_gpuperf.targets.process import SupervisedProcess
from pytest_gpuperf.targets.scratch import Scratch
from pytest_gpuperf.targets.triton import bundle
from pytest_gpuperf.targets.triton.launchers import Launch, LocalLauncher
from pytest_gpuperf.targets.triton.ports import HOST, check_free

_POLL_S = 0.05
#: Time between SIGINT and SIGKILL, with a little more than the server gives its models.
_EXIT_S, _GRACE_S = 30, 33.0
#: Services of the server, and Triton's ports for them.
_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}
#: Flags of tritonserver that this command sets from its options.
_SET = frozenset(f"--{name}-{setting}" for name in _PORTS for setting in ("port", "address"))


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's actions."""
    parser.description = "Install the bundled tritonserver, run it, or print where it is."
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="install the bundled tritonserver, unless it is installed already")
    wheel = "nvidia-pytriton wheel, or directory that contains it (default: download it)"
    install.add_argument("--path", type=Path, metavar="WHEEL", help=wheel)
    cache = "where to install it (default: $GPUPERF_CACHE, else ~/.cache/gpuperf)"
    install.add_argument("--cache", type=Path, metavar="DIR", help=cache)
    install.set_defaults(run=_install)
    actions.add_parser("path", help="print the directory of the bundled tritonserver").set_defaults(run=_print_path)
    _register_run(actions.add_parser("run", help="run the bundled tritonserver until Ctrl-C"))


def _register_run(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the bundled tritonserver until Ctrl-C, with the libraries and the Python backend that this Python needs."
    )
    parser.add_argument("--model-repository", type=Path, required=True, metavar="DIR", help="models to serve")
    parser.add_argument("--host", default=HOST, metavar="ADDRESS", help=f"(default: {HOST}; 0.0.0.0 for all)")
    for name, default in _PORTS.items():
        parser.add_argument(f"--{name}-port", type=_port, default=default, metavar="PORT", help=f"(default: {default})")
    parser.add_argument("arguments", nargs="*", metavar="-- FLAGS", help="further flags of tritonserver")
    parser.set_defaults(run=_run)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 65_536):
        raise argparse.ArgumentTypeError(f"{text!r}: write a port, 1 to 65535")
    return int(text)


def _install(options: argparse.Namespace) -> int:
    server, fresh = bundle.install(options.path, options.cache)
    print(f"tritonserver {bundle.SERVER_VERSION} {'installed' if fresh else 'is already installed'}: {server.root}")
    return 0


def _print_path(_: argparse.Namespace) -> int:
    print(bundle.require().root)
    return 0


def _run(options: argparse.Namespace) -> int:
    for flag in options.arguments:
        if flag.partition("=")[0] in _SET:
            name = "--host" if "address" in flag else flag.partition("=")[0]
            raise OptionError(f"{flag} stands after --, but this command sets it: write {name} before --.")
    launcher = LocalLauncher(bundle.require().binary)
    repository: Path = options.model_repository
    if not repository.is_dir():
        raise OptionError(f"--model-repository {repository} is not a directory{looked_for(repository)}.")
    for name in _PORTS:
        check_free(options.host, getattr(options, f"{name}_port"), f"choose another port with --{name}-port")
    scratch = Scratch("triton")
    try:
        return _serve(options, launcher, repository, scratch)
    finally:
        scratch.remove()


def _serve(options: argparse.Namespace, launcher: LocalLauncher, repository: Path, scratch: Scratch) -> int:
    """Run the server until a signal ends it; return its exit status."""
    assert scratch.path is not None
    link = scratch.path / "repository"  # the Python backend can't use a path with blanks
    link.symlink_to(repository.resolve())
    arguments = [
        f"--model-repository={link}",
        f"--backend-config=python,shm-region-prefix-name={scratch.prefix}",
        *(f"--{name}-port={getattr(options, f'{name}_port')}" for name in _PORTS),
        *(f"--{name}-address={options.host}" for name in _PORTS),
        f"--exit-timeout-secs={_EXIT_S}",
        *options.arguments,
    ]
    launch = Launch(scratch.prefix.rstrip("-"), arguments, scratch.path, (repository,), None, False, None)
    command = launcher.command(launch)
    received: list[int] = []
    note = _note(received)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, note)
    process = SupervisedProcess(command.arguments, env=command.env, log=None, grace_s=_GRACE_S, scratch=scratch)
    try:
        if _ready(options, process, received):
            host = _reachable(options.host)
            print(
                f"gpuperf: tritonserver {bundle.SERVER_VERSION} is ready; Ctrl-C ends it.\n"
                f"gpuperf:   HTTP    http://{host}:{options.http_port}\n"
                f"gpuperf:   gRPC    {host}:{options.grpc_port}\n"
                f"gpuperf:   metrics http://{host}:{options.metrics_port}/metrics",
                file=sys.stderr,
                flush=True,
            )
        while process.exit_status is None and not received:
            time.sleep(_POLL_S)
        ended = process.exit_status
    finally:
        process.stop()
    if ended:
        raise TargetError(f"tritonserver {process.ending}; its output above says why.")
    return 0 if not received or received[0] == signal.SIGINT else 128 + received[0]


def _ready(options: argparse.Namespace, process: SupervisedProcess, received: list[int]) -> bool:
    """Wait until the server is ready; return False if it has ended or is to end."""
    client = open_client(Servers((Address(_reachable(options.host), options.http_port),), HTTP))
    try:
        while process.exit_status is None and not received:
            if client.ready() and process.exit_status is None:
                return True
            time.sleep(_POLL_S)
    finally:
        client.close()
    return False


def _reachable(host: str) -> str:
    return HOST if host == "0.0.0.0" else host


def _note(received: list[int]) -> Callable[[int, FrameType | None], None]:
    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:  # a second signal: end at once, the supervisor ends the server
            os._exit(128 + number)

    return note
