"""``gpuperf baseline push | pull``: the store on a branch of a git remote."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpuperf.cli.stored_records import store_url
from pytest_gpuperf.report.figures import plural

if TYPE_CHECKING:
    from pytest_gpuperf.store import Synced

AddAction = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def register(add: AddAction) -> None:
    """Add both actions of ``gpuperf baseline``."""
    for name, run, text in (
        ("push", _push, "add the store's records to a branch of a git remote"),
        ("pull", _pull, "copy the records on a branch of a git remote into the store"),
    ):
        action = add(name, run, text)
        action.add_argument(
            "--branch", default="gpuperf-baselines", metavar="NAME", help="(default: gpuperf-baselines)"
        )
        action.add_argument(
            "--remote", default="origin", metavar="NAME", help="name or URL of the remote (default: origin)"
        )


def _push(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import Store, push

    store = Store(store_url(options))
    result = push(store, Path.cwd(), options.branch, options.remote)
    created = ", a new branch" if result.branch_missing else ""
    attempts = f" in {result.attempts} attempts, because others pushed too" if result.attempts > 1 else ""
    if result.attempts:
        print(f"Pushed {_written(result)} to {options.branch}{created}{attempts}{_unchanged(result)}.")
    else:
        print(f"{options.branch} already has all records of {store.url}.")
    return _print_unreadable(result)


def _pull(options: argparse.Namespace) -> int:
    from pytest_gpuperf.store import Store, pull

    store = Store(store_url(options, create=True))
    result = pull(store, Path.cwd(), options.branch, options.remote)
    if result.branch_missing:
        print(f"Nothing to pull: there is no branch {options.branch} yet. `gpuperf baseline push` creates it.")
        return 0
    print(f"Pulled {_written(result)} from {options.branch} into {store.url}{_unchanged(result)}.")
    return _print_unreadable(result)


def _written(result: Synced) -> str:
    notes = f" and {plural(result.notes, 'note')}" if result.notes else ""
    return f"{plural(result.records, 'record')}{notes}"


def _unchanged(result: Synced) -> str:
    known = f"; {result.known} were already there" if result.known else ""
    deleted = f"; deleted {plural(result.deleted, 'record')}, pruned on the other side" if result.deleted else ""
    return known + deleted


def _print_unreadable(result: Synced) -> int:
    for error in result.unreadable:
        print(f"gpuperf: left out: {error}", file=sys.stderr)
    return 1 if result.unreadable else 0
