"""``gpuperf calibrate``: how runs and records differ on this machine while nothing changes."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpuperf.cli.stored_records import add_store, store_url
from pytest_gpuperf.errors import GpuperfError

if TYPE_CHECKING:
    from pytest_gpuperf.analysis.calibration import CalibrationResult, Proportion, SeriesSpread
    from pytest_gpuperf.model import Record
    from pytest_gpuperf.store import Store

#: A pytest that is told to end stops its servers first.
_GRACE_S = 25.0
_POLL_S = 0.05
_PASSED, _FAILED = 0, 1


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "calibrate",
        usage="gpuperf calibrate SUITE... [--records N] [--store URL] [--prior-only] [-- PYTEST ARGUMENTS]\n"
        "       gpuperf calibrate --from-store [--store URL] [--prior-only]",
        help="measure how runs and records differ while nothing changes",
        description="Runs a suite again and again with nothing changed (A/A), prints how often the gate raises a false "
        "alarm and which effects it can find, and stores the spread that later gates start from. The records "
        "themselves do not enter the store.",
        epilog="Everything behind -- goes to pytest, for example: gpuperf calibrate tests/perf -- -k resnet",
    )
    parser.add_argument("arguments", nargs="*", metavar="SUITE", help="files, directories or tests, as for pytest")
    parser.add_argument("--records", type=_count, metavar="N", help="records to measure, from 2 (default: 5)")
    parser.add_argument(
        "--from-store",
        action="store_true",
        help="measure nothing; take the records of the store's baselines, which may be of many days",
    )
    parser.add_argument("--prior-only", action="store_true", help="print only the prior that is stored, no tables")
    add_store(parser)
    parser.set_defaults(run=run, usage=parser.error)


def _count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 2:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number from 2 on")
    return number


@dataclass
class _Gathered:
    """Records of each key, newest first, and what went wrong."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    failed: bool = False


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from pytest_gpuperf.store import Store

    if options.from_store and (options.arguments or options.records):
        options.usage("--from-store measures nothing, so it takes no suite and no --records")
    if not options.from_store and not options.arguments:
        options.usage("name the suite to measure, for example: gpuperf calibrate tests/perf")
    store = Store(store_url(options) if options.from_store else store_url(options, create=True))
    gathered = _from_store(store) if options.from_store else _measured(options.arguments, options.records or 5)
    enough = {key: records for key, records in gathered.records.items() if len(records) > 1}
    for key in gathered.records.keys() - enough.keys():
        _say(f"left out, only one record: {gathered.records[key][0].test}")
    if not enough:
        raise GpuperfError(
            "There are no two records of the same test and key, so nothing can be calibrated.\n"
            + (
                "Measure some: gpuperf calibrate SUITE"
                if options.from_store
                else "Does the suite have tests with the gpuperf fixture, and do they pass?"
            )
        )
    by_device: dict[str, list[list[Record]]] = {}
    for records in enough.values():
        by_device.setdefault(str(records[0].key.get("device", "")), []).append(records)
    for device, tests in by_device.items():
        _conclude(store, device, tests, options)
    return _FAILED if gathered.failed else _PASSED


# Where the records come from


def _from_store(store: Store) -> _Gathered:
    """The baselines of all keys."""
    from pytest_gpuperf.cli.stored_records import RecordReader
    from pytest_gpuperf.store import BaselineSpec, select_baseline

    gathered, records = _Gathered(), RecordReader(store)
    for folder in records.folders():
        for head in records.in_folder(folder, 1):
            found = select_baseline(store, head.record.key, BaselineSpec("rolling")).records
            if found:
                gathered.records[folder] = list(found)
    gathered.failed = bool(records.print_unreadable())
    _say("records that failed their gate are not in a baseline, so more of them may have been false alarms")
    return gathered


def _measured(arguments: Sequence[str], count: int) -> _Gathered:
    """New records, each in a store of its own, so that none is compared with another."""
    from pytest_gpuperf.cli.stored_records import RecordReader
    from pytest_gpuperf.store import Store, key_digest

    gathered = _Gathered()
    with tempfile.TemporaryDirectory(prefix="gpuperf-calibrate-") as scratch:
        for index in range(count):
            url, log = str(Path(scratch, f"store-{index}")), Path(scratch, f"{index}.log")
            started = time.monotonic()
            status = measure(arguments, url, log)
            _say(f"record {index + 1} of {count} took {time.monotonic() - started:.0f} s")
            if status != _PASSED:
                gathered.failed = True
                _say(f"pytest ended with status {status} though there was no baseline to fail against. It ends with:")
                print("\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-25:]))
            if status not in (_PASSED, _FAILED):
                raise GpuperfError("The suite can't be run, so nothing is calibrated. See its output above.")
            stored = [one.record for one in RecordReader(Store(url)).all()]
            good = [record for record in stored if record.may_be_baseline and not record.reference]
            for record in good:
                gathered.records.setdefault(key_digest(record.key), []).insert(0, record)
            if not good and not index:
                raise GpuperfError(
                    "The first record measured nothing that can be used, so nothing is calibrated.\n"
                    "Does the suite have tests with the gpuperf fixture, and do they pass?"
                )
    return gathered


def measure(arguments: Sequence[str], store: str, log: Path) -> int:
    """One ``pytest --gpuperf``; its exit status.

    Args:
        store: where its records go.
        log: where its output goes.
    """
    from pytest_gpuperf.targets.process import SupervisedProcess

    own = ["--gpuperf", "--gpuperf-store", store]
    for setting in ("gpuperf_require_baseline=false", "gpuperf_baseline=both"):  # there is no baseline to ask for
        own += ["-o", setting]
    process = SupervisedProcess(
        [sys.executable, "-m", "pytest", *arguments, *own], env=dict(os.environ), log=log, grace_s=_GRACE_S
    )
    try:
        while process.exit_status is None:
            time.sleep(_POLL_S)
        return process.exit_status
    finally:
        process.stop()


# What they say


def _conclude(store: Store, device: str, tests: Sequence[Sequence[Record]], options: argparse.Namespace) -> None:
    """Print what the records of a device say, and store its prior."""
    from pytest_gpuperf.analysis.calibration import calibrate
    from pytest_gpuperf.cli.judging import rule_for
    from pytest_gpuperf.store import Calibration, write_calibration
    from pytest_gpuperf.store.store import user

    found = calibrate(tests, [rule_for(records[0], tests=len(tests)) for records in tests])
    if not options.prior_only:
        print("\n".join(_tables(found)))
    pooled = found.pooled
    if not pooled.record_sd:
        raise GpuperfError(f"The records of {device} have no load point and metric in common. Nothing is stored.")
    path = write_calibration(
        store,
        Calibration(
            device=device,
            record_sd=pooled.record_sd,
            freedom=pooled.freedom,
            records=sum(map(len, tests)),
            tests=tuple(sorted({records[0].test for records in tests})),
            author=user(),
        ),
    )
    _say(f"prior of {device}, from which later gates start:")
    for metric, sd in pooled.record_sd.items():
        _say(f"  {metric}: records differ by {_percent(sd)} ({pooled.freedom[metric]:.0f} degrees of freedom)")
    _say(f"stored as {store.describe(path)}")
    if not options.from_store:
        _say("days may differ by more than records in a row: calibrate --from-store once the store has some weeks")


def _tables(found: CalibrationResult) -> list[str]:
    from pytest_gpuperf.analysis.calibration import RECORDS, RUNS
    from pytest_gpuperf.report.table import Table

    columns = [(m, k) for m in RECORDS for k in RUNS]
    titles = ("load point", "metric", ">run sd", ">record sd", *(f">m={m} k={k}" for m, k in columns))
    lines = [
        "smallest effect found with 80% power, by m records in the baseline and k runs; sd beyond that of the runs"
    ]
    for test in found.tests:
        lines += ["", f"{test.test}: {_rate(test.false_alarms, 'record')}"]
        rows = tuple(
            (
                _name(one),
                one.metric,
                "?" if math.isnan(one.run_sd) else _percent(one.run_sd),
                _percent(one.record_sd),
                *(_effect(one.detectable[column]) for column in columns),
            )
            for one in test.series
        )
        lines += Table(titles, rows).as_text("  ")
    return [*lines, "", f"all tests together: {_rate(found.false_alarms, 'invocation')}"]


def _name(one: SeriesSpread) -> str:
    from pytest_gpuperf.analysis.values import point_name

    return point_name(one.sweep, one.point)


def _rate(rate: Proportion, noun: str) -> str:
    share = rate.count / rate.of
    return (
        f"false alarms in {rate.count} of {rate.of} {noun}s, {share:.1%} "
        f"[95% interval {rate.low:.1%} to {rate.high:.1%}]"
    )


def _percent(sd: float) -> str:
    return f"{100 * sd:.2f}%"


def _effect(share: float) -> str:
    return f"+{100 * share:.3g}%" if share < 10 else ">x10"


def _say(text: str) -> None:
    print(f"gpuperf calibrate: {text}", flush=True)
