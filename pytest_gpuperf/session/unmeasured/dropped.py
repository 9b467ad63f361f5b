"""Tests that the newest baseline has and that pytest did not collect. A gate that was removed would look green."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from posixpath import dirname

import pytest

from pytest_gpuperf.errors import UnreadableRecord
from pytest_gpuperf.model import Record
from pytest_gpuperf.session.context import Context
from pytest_gpuperf.session.ids.test_id import file_of
from pytest_gpuperf.store import Store
from pytest_gpuperf.store.layout import device_folder, test_folder

#: Most tests of the store whose newest record is read: a renamed folder of tests is noticed with a few of them.
_MOST_READ = 100
#: pytest's options with which it collects only a part of its files' tests.
_SELECTING = ("keyword", "markexpr", "lf", "deselect", "ignore", "ignore_glob", "pyargs", "stepwise")


def collects_everything(config: pytest.Config) -> bool:
    """Return whether the command line asks for all tests of files or directories."""
    options = vars(config.option)
    return not any("::" in argument for argument in config.args) and not any(map(options.get, _SELECTING))


def dropped_tests(context: Context, collected: Mapping[str, str], args: Collection[str]) -> list[str]:
    """Return the tests that were measured together with the baseline of a collected test, and were not collected.

    Only tests of the collected tests' files count, and of their directories where pytest was asked for directories.

    Args:
        collected: pytest's id of each test, from the top of the checkout, by its id in records.

    Raises:
        StoreError: The store can't be listed.
    """
    files = {file_of(node_id) for node_id in collected.values()}
    folders = set() if any(argument.endswith(".py") for argument in args) else {dirname(file) for file in files}
    store, key = context.store, context.key("", 1)
    current = {test_folder({**key, "test": test}) for test in collected}
    device = f"{store.files.root}/{device_folder(key)}"
    others = sorted(set(store.files.names(device)) - current)
    absent = []
    for folder in islice(others, _MOST_READ):
        record = _newest(context, store, f"{device}/{folder}")
        file = file_of(record.node_id or record.test) if record is not None else ""
        if record is not None and (file in files or dirname(file) in folders):
            absent.append(record)
    if not absent:
        return []
    known = [_newest(context, store, f"{device}/{folder}") for folder in sorted(current)]
    baselines = {record.invocation for record in known if record is not None}
    # Where all tests are new, as in a renamed file, the store's newest invocation is the baseline.
    newest = baselines or {max(absent, key=lambda record: record.created_utc).invocation}
    return sorted(record.test for record in absent if record.invocation in newest)


def _newest(context: Context, store: Store, folder: str) -> Record | None:
    """Return the newest record of a test that may be a baseline and is not of this invocation."""
    digests = [name for name in store.files.names(folder) if not name.startswith(".")]
    newest = (next(_baselines(context, store, f"{folder}/{digest}"), None) for digest in digests)
    return max(filter(None, newest), key=lambda record: record.created_utc, default=None)


def _baselines(context: Context, store: Store, folder: str) -> Iterator[Record]:
    for file in store.newest(folder):
        if not file.joins:
            continue
        try:
            record = store.read(file)
        except UnreadableRecord:
            continue  # the gate of its test names it
        if record.invocation != context.invocation:
            yield record
