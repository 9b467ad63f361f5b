"""Records that a command makes: judged against their baseline, stored, and announced."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any

from pytest_gpuperf.analysis.guard import unusable_report
from pytest_gpuperf.cli.judging import judge, rule_for
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Comparison, PlainMapping, Record, Run, Verdict
from pytest_gpuperf.publish.comparison import with_verdict
from pytest_gpuperf.report.findings import finding_notes
from pytest_gpuperf.report.notes import key_differences
from pytest_gpuperf.report.summary import headline
from pytest_gpuperf.store import Store
from pytest_gpuperf.store.provenance import utc_now


def commit_hash(text: str) -> str:
    """Return the hash that ``--commit`` names; empty when the option is.

    Raises:
        OptionError: The text is not a hash.
    """
    commit = text.lower()
    if commit and not re.fullmatch(r"[0-9a-f]{7,64}", commit):
        raise OptionError(
            f"--commit {text}: write seven or more digits of the commit's hash (git rev-parse HEAD prints it)."
        )
    return commit


def new_key(device: PlainMapping, test: str, method: str) -> PlainMapping:
    """Return the key of a record that no pytest test measured."""
    return {**device, "test": test, "version": 1, "method_version": method}


def new_record(key: PlainMapping, runs: Sequence[Run], **fields: Any) -> Record:
    """Return a record of this moment, which is not judged yet.

    Args:
        fields: Further fields of ``Record``, and values that replace the usual ones.
    """
    usual: dict[str, Any] = {
        "id": uuid.uuid4().hex[:12],
        "invocation": uuid.uuid4().hex,
        "test": key["test"],
        "created_utc": utc_now(),
        "status": "complete",
        "gate": "open",
    }
    return Record(**{**usual, "key": key, "runs": tuple(runs), **fields})


def judge_and_store(store: Store, record: Record, tests: int = 1) -> None:
    """Compare a record with its baseline, store it, and print the outcome.

    Args:
        tests: Number of tests that share the command's false-alarm rate.

    Raises:
        StoreError, UnreadableRecord: The baseline can't be read, or the record can't be written.
    """
    record = store.dated(record)
    unusable = unusable_report(record.runs)
    comparison = Comparison(Verdict.NO_BASELINE)
    if record.status == "complete":
        comparison = judge(store, record, rule_for(record, tests=tests, store=store)).comparison
        record = with_verdict(record, comparison, usable=not unusable)
    print(f"{record.test}: {headline(record, comparison)}")
    path = store.write(record)
    if comparison.differing:
        print(f"  the newest record of this test has a different key: {key_differences(comparison)}")
    if unusable:
        print(f"  the record does not join the baseline: {unusable}")
    for note in finding_notes([record]):
        print(f"  ! {note}")
    print(f"  record {record.id} stored as {store.describe(path)}")
