"""Records that a command makes: judged against their baseline, stored, and announced."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_gpuperf.errors import OptionError

if TYPE_CHECKING:
    from pytest_gpuperf.model import Record
    from pytest_gpuperf.store import Store

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def commit_hash(text: str) -> str:
    """Return the hash that ``--commit`` names; empty when the option is.

    Raises:
        OptionError: The text is not a hash.
    """
    commit = text.lower()
    if commit and not _COMMIT.fullmatch(commit):
        raise OptionError(
            f"--commit {text}: write seven or more digits of the commit's hash (git rev-parse HEAD prints it)."
        )
    return commit


def judge_and_store(store: Store, record: Record, tests: int = 1) -> None:
    """Compare a record with its baseline, store it, and print the outcome.

    Args:
        tests: Number of tests that share the command's false-alarm rate.

    Raises:
        StoreError, UnreadableRecord: The baseline can't be read, or the record can't be written.
    """
    from pytest_gpuperf.analysis.guard import error_report
    from pytest_gpuperf.cli.judging import ABSENT, judge, rule_for
    from pytest_gpuperf.model import Comparison, Verdict
    from pytest_gpuperf.report.findings import finding_notes
    from pytest_gpuperf.report.summary import headline

    errors = error_report(record.runs)
    comparison = Comparison(Verdict.NO_BASELINE)
    if record.status == "complete":
        comparison = judge(store, record, rule_for(record, tests=tests, store=store)).comparison
        failed = comparison.verdict is Verdict.REGRESSED or errors is not None
        record = replace(record, gate="failed" if failed else "open" if comparison.verdict in ABSENT else "passed")
    print(f"{record.test}: {headline(record, comparison)}")
    path = store.write(record)
    if errors:
        print(f"  too many requests failed, so the record does not join the baseline:\n{errors}")
    for note in finding_notes([record]):
        print(f"  ! {note}")
    print(f"  record {record.id} stored as {store.describe(path)}")
