"""``gpuperf``: its subcommands and what they print.

Exit status: 0 done, 1 an error that the message explains, 2 a command line that can't be understood; ``sweep`` has 3
for unstable levels, too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf import __version__
from pytest_gpuperf.cli import sweep
from pytest_gpuperf.errors import GpuperfError

DEFAULT_STORE = ".gpuperf"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit status."""
    options = _parser().parse_args(arguments)
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

    baseline = commands.add_parser("baseline", help="stored sessions", description="Stored sessions and the baseline.")
    actions = baseline.add_subparsers(title="actions", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="sessions, newest first")
    show = actions.add_parser("show", help="one session's numbers")
    accept = actions.add_parser("accept", help="make a session the new baseline, though its gate failed")
    for action in (show, accept):
        action.add_argument("session", help="its id, or the beginning of it")
    accept.add_argument("--reason", required=True, help="why the change is meant; recorded with your name")
    listing.add_argument("--test", default="", help="only tests whose id contains this")
    listing.set_defaults(run=_baseline_list)
    show.set_defaults(run=_baseline_show)
    accept.set_defaults(run=_baseline_accept)
    for action in (listing, show, accept):
        action.add_argument(
            "--store", metavar="URL", help="a directory or an fsspec URL (default: .gpuperf here or above)"
        )
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


def _store_url(options: argparse.Namespace) -> str:
    if options.store:
        return str(options.store)
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / DEFAULT_STORE).is_dir():
            return str(directory / DEFAULT_STORE)
    raise GpuperfError(
        f"There is no {DEFAULT_STORE} in {here} or above it.\n"
        "Run `pytest --gpuperf` first, or name the store with --store."
    )


def _baseline_list(options: argparse.Namespace) -> int:
    from pytest_gpuperf.errors import UnreadableSession
    from pytest_gpuperf.model import Session
    from pytest_gpuperf.report.table import Table
    from pytest_gpuperf.store import Entry, Store

    store = Store(_store_url(options))
    found: list[tuple[Entry, Session]] = []
    unreadable: list[UnreadableSession] = []
    for folder in store.folders():
        for entry in store.entries(folder):
            try:
                found.append((entry, store.read(entry)))
            except UnreadableSession as error:
                unreadable.append(error)
    rows = []
    for entry, session in sorted(found, key=lambda pair: pair[1].created_utc, reverse=True):
        if options.test in session.test:
            state = "accepted" if entry.accepted else "cut short" if session.status != "complete" else session.gate
            when = session.created_utc[:16].replace("T", " ")
            rows.append(
                (session.id, when, session.commit[:8], state, str(session.key.get("device", "?")), session.test)
            )
    if rows:
        print("\n".join(Table(("session", "UTC", "commit", "gate", "device", "test"), tuple(rows)).as_text()))
    elif not unreadable:
        print(f"No sessions in {store.url}.")
    for problem in unreadable:
        print(f"gpuperf: unreadable: {problem}", file=sys.stderr)
    return 1 if unreadable else 0


def _baseline_show(options: argparse.Namespace) -> int:
    from pytest_gpuperf.model import curve_of
    from pytest_gpuperf.report.summary import curve_table
    from pytest_gpuperf.store import Store

    store = Store(_store_url(options))
    entry = store.find(options.session)
    session = store.read(entry)
    print(f"{session.test}\n  session {session.id} of {session.created_utc}, {session.status}, gate {session.gate}")
    print(f"  {store.describe(entry.path)}")
    for title, facts in (("key", session.key), ("environment", session.environment), *session.under_test.items()):
        print(f"  {title}: {', '.join(f'{name}={value}' for name, value in facts.items())}")
    for name in dict.fromkeys(run.sweep for run in session.runs):
        runs = [run for run in session.runs if run.sweep == name]
        points = list(dict.fromkeys(window.point for run in runs for window in run.windows))
        points.sort(key=lambda point: (point.batch_size, point.concurrency))
        print("\n".join([f"  {name}", *curve_table(curve_of(name, points, runs), ()).as_text("    ")]))
    return 0


def _baseline_accept(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import Store

    store = Store(_store_url(options))
    acceptance = store.accept(store.find(options.session), options.reason)
    print(f"{acceptance.session} is the new baseline of its test, accepted by {acceptance.author}: {acceptance.reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
