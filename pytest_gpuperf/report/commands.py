"""What a reader may want to run next, as a shell takes it."""

from __future__ import annotations

import shlex

from pytest_gpuperf.model import ReportedTest
from pytest_gpuperf.report import escape

#: What measures otherwise than the defaults do.
_SETTINGS = (("runs", 3), ("alpha", 0.05), ("min_effect", 0.01))


def store_option(url: str) -> str:
    """What makes the command line tool look in a store, as `` --store URL``."""
    return f" --store {shlex.quote(url)}"


def reproduce(one: ReportedTest) -> str:
    """The command that measures a test again as it was measured."""
    record = one.record
    arguments = ["pytest", "--gpuperf", record.test]
    for option, default in _SETTINGS:
        given = record.settings.get(option)
        if isinstance(given, int | float) and given != default:
            arguments.append(f"--gpuperf-{option.replace('_', '-')}={given:g}")
    if one.store_option:
        arguments.append(f"--gpuperf-store={_store_of(one)}")
    return shlex.join(arguments)


def accept(one: ReportedTest) -> str:
    """The command that makes its record the baseline."""
    arguments = ["gpuperf", "baseline", "accept", one.record.id]
    if one.store_option:
        arguments += ["--store", _store_of(one)]
    return f'{shlex.join(arguments)} --reason "..."'


def _store_of(one: ReportedTest) -> str:
    """The store's URL without what opens it: reports are read by many."""
    (_, url) = shlex.split(one.store_option)
    return escape.without_credentials(url)
