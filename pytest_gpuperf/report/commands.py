"""Commands that a reader may want to run next, quoted for a shell."""

from __future__ import annotations

import shlex

from pytest_gpuperf.model import Record, ReportedTest
from pytest_gpuperf.report.inherited import accept_command
from pytest_gpuperf.safe_text import MASK, redacted

#: Settings that change a measurement, with their defaults.
_SETTINGS = (("runs", 3), ("alpha", 0.05), ("min_effect", 0.01))


def reproduce(test: ReportedTest) -> str:
    """Return the command that measures a test again with the same settings.

    For a record that pytest did not measure, return a shell comment that says how it was measured.
    """
    record = test.record
    method = record.key.get("method_version")
    if isinstance(method, str):
        return " ".join(f"# {record.test}: measured by {method.rpartition(' ')[0]}".split())
    arguments = ["pytest", "--gpuperf", record.node_id or record.test]
    if base := base_commit(record):
        arguments = ["gpuperf", "duet", f"--base={base}", "--", record.node_id or record.test]
    settings = {**record.settings, **(vars(record.rule) if record.rule else {})}
    for option, default in _SETTINGS:
        given = settings.get(option)
        if option == "runs" and (given == 1 or base):
            continue  # of pytest-benchmark, whose rounds are a single run (the option takes 2 or more), or a duet
        if isinstance(given, int | float) and given != default:
            arguments.append(f"--gpuperf-{option.replace('_', '-')}={given:g}")
    if test.store_option:
        arguments.append(f"--gpuperf-store={_store_of(test)}")
    return shlex.join(arguments)


def base_commit(record: Record) -> str:
    """Return the commit that ``gpuperf duet`` compared a record with; empty for another record."""
    commits = (str(facts.get("commit") or "") for facts in record.reference_under_test.values())
    return next(filter(None, commits), "")


def accept(test: ReportedTest) -> str:
    """Return the command that accepts the record of a test as its baseline."""
    arguments = ["gpuperf", "baseline", "accept", test.record.id]
    if test.store_option:
        arguments += ["--store", _store_of(test)]
    return f'{shlex.join(arguments)} --reason "..."'


def accept_inherited(test: ReportedTest) -> str:
    """Return the command that accepts the level of the main branch; empty unless the test has inherited it."""
    return accept_command(test.comparison, f" --store {shlex.quote(_store_of(test))}" if test.store_option else "")


def _store_of(test: ReportedTest) -> str:
    """Return the URL of the store without secrets, since reports are public."""
    (_, url) = shlex.split(test.store_option)
    return redacted(url).replace(f"{MASK}@", "")
