"""``gpuperf baseline push | pull``: the store on a branch of a git remote."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpuperf.cli.stored_records import begun_store_url, store_url
from pytest_gpuperf.report.figures import plural

if TYPE_CHECKING:
    from pytest_gpuperf.store import Synced

Add = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def register(add: Add) -> None:
    """Add both actions of ``gpuperf baseline``."""
    for name, run, text in (
        ("push", _push, "put the store onto a branch of a git remote, beside what others pushed"),
        ("pull", _pull, "take over what is on a branch of a git remote"),
    ):
        action = add(name, run, text)
        action.add_argument("--branch", default="gpuperf-baselines", metavar="NAME", help="default: gpuperf-baselines")
        action.add_argument(
            "--remote", default="origin", metavar="NAME", help="a remote's name, or a URL (default: origin)"
        )


def _push(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import Store, push

    store = Store(store_url(options))
    done = push(store, Path.cwd(), options.branch, options.remote)
    began = ", which began it" if done.began else ""
    tries = f" (in {done.attempts} attempts, since others pushed, too)" if done.attempts > 1 else ""
    if done.attempts:
        print(f"Pushed {_written(done)} to {options.branch}{began}{tries}{_others(done)}.")
    else:
        print(f"{options.branch} has all of {store.url} already.")
    return _complain(done)


def _pull(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import Store, pull

    store = Store(begun_store_url(options))
    done = pull(store, Path.cwd(), options.branch, options.remote)
    if done.began:
        print(
            f"There is no branch {options.branch} yet, so there is nothing to pull. `gpuperf baseline push` begins it."
        )
        return 0
    print(f"Pulled {_written(done)} from {options.branch} into {store.url}{_others(done)}.")
    return _complain(done)


def _written(done: Synced) -> str:
    notes = f" and {plural(done.notes, 'note')}" if done.notes else ""
    return f"{plural(done.records, 'record')}{notes}"


def _others(done: Synced) -> str:
    known = f"; {done.known} were there already" if done.known else ""
    deleted = f"; deleted {plural(done.deleted, 'record')}, pruned on the other side" if done.deleted else ""
    return known + deleted


def _complain(done: Synced) -> int:
    for problem in done.unreadable:
        print(f"gpuperf: left out: {problem}", file=sys.stderr)
    return 1 if done.unreadable else 0
