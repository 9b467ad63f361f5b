"""``gpuperf calibrate``: how much runs and records differ on this machine while nothing changes."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_gpuperf.analysis.calibration import RECORDS, RUNS, CalibrationResult, Proportion, calibrate
from pytest_gpuperf.analysis.values import point_name
from pytest_gpuperf.cli.judging import rule_for
from pytest_gpuperf.cli.screen import screen_width
from pytest_gpuperf.cli.shared_options import add_store, integer, open_store
from pytest_gpuperf.cli.stored_records import RecordReader
from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.model import Record
from pytest_gpuperf.report.table import Table
from pytest_gpuperf.store import (
    BaselineSpec,
    Calibration,
    Store,
    is_better_founded,
    key_digest,
    newest_calibration,
    select_baseline,
    write_calibration,
)
from pytest_gpuperf.store.provenance import user
from pytest_gpuperf.targets.process import SupervisedProcess

#: Time for pytest to stop its servers after it was asked to end.
_GRACE_S = 25.0
_POLL_S = 0.05
_PASSED, _FAILED = 0, 1
_CHECK_SUITE = "Does the suite have tests with the gpuperf fixture, and do they pass?"


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.usage = (
        "gpuperf calibrate SUITE... [--records N] [--store URL] [--prior-only]\n"
        "                         [-- PYTEST ARGUMENTS]\n"
        "       gpuperf calibrate --from-store [--yes] [--store URL] [--prior-only]"
    )
    parser.description = (
        "Run a suite several times with nothing changed (A/A). Print how often the gate raises a false alarm and which "
        "effects it can detect, and store how much records differ, which later gates use as their prior. The records "
        "themselves are not stored."
    )
    parser.epilog = "Arguments after -- go to pytest, for example: gpuperf calibrate tests/perf -- -k resnet"
    add = parser.add_argument
    add("arguments", nargs="*", metavar="SUITE", help="files, directories or tests, as for pytest")
    text = "records of each test to measure, 2 or more (default: 5)"
    add("--records", type=integer(2), metavar="N", help=text)
    text = "measure nothing: use the baseline records of the store, which may span many days"
    add("--from-store", action="store_true", help=text)
    text = "with --from-store: replace the device's calibration even if it is better founded, without a question"
    add("--yes", action="store_true", help=text)
    add("--prior-only", action="store_true", help="print only the stored prior, without tables")
    add_store(parser)
    parser.set_defaults(run=run, usage=parser.error)


@dataclass
class _CalibrationRecords:
    """Records of each key, newest first, and whether a test failed or a record could not be read."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    failed: bool = False


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    if options.from_store and (options.arguments or options.records):
        options.usage("--from-store measures nothing, so it takes neither a suite nor --records")
    if options.yes and not options.from_store:
        options.usage("--yes only goes with --from-store: what a suite shows replaces the calibration before it")
    if not options.from_store and not options.arguments:
        options.usage("name the suite to measure, for example: gpuperf calibrate tests/perf")
    store = open_store(options, create=not options.from_store)
    result = _from_store(store) if options.from_store else _from_suite(options.arguments, options.records or 5)
    by_device: dict[str, list[list[Record]]] = {}
    for records in result.records.values():
        if len(records) > 1:
            by_device.setdefault(str(records[0].key.get("device", "")), []).append(records)
        else:
            _say(f"left out (only one record): {records[0].test}")
    if not by_device:
        hint = "Measure some: gpuperf calibrate SUITE" if options.from_store else _CHECK_SUITE
        raise GpuperfError(f"There are no two records of the same test and key, so nothing can be calibrated.\n{hint}")
    kept = [device for device, tests in by_device.items() if not _calibrate(store, device, tests, options)]
    if kept:
        raise GpuperfError(
            f"The calibration of {', '.join(kept)} is better founded than what the store shows, so it was kept.\n"
            "Replace it with gpuperf calibrate --from-store --yes, or measure: gpuperf calibrate SUITE"
        )
    return _FAILED if result.failed else _PASSED


def _from_store(store: Store) -> _CalibrationRecords:
    """Return the baselines of all keys."""
    result, reader = _CalibrationRecords(), RecordReader(store)
    for folder in reader.folders():
        for newest in reader.in_folder(folder, 1):
            baseline = select_baseline(store, newest.record.key, BaselineSpec("rolling")).records
            if baseline:
                result.records[folder] = list(baseline)
    result.failed = bool(reader.print_unreadable())
    _say("a baseline has no records that failed, so the true rate of false alarms may be higher")
    return result


def _from_suite(arguments: Sequence[str], count: int) -> _CalibrationRecords:
    """Run the suite ``count`` times, each time with an empty store, so that no record is compared with another."""
    result = _CalibrationRecords()
    with tempfile.TemporaryDirectory(prefix="gpuperf-calibrate-") as scratch:
        for index in range(count):
            url, log = str(Path(scratch, f"store-{index}")), Path(scratch, f"{index}.log")
            started = time.monotonic()
            status = measure(arguments, url, log)
            _say(f"invocation {index + 1} of {count} took {time.monotonic() - started:.0f} s")
            if status != _PASSED:
                result.failed = True
                _say(f"pytest ended with status {status}, although there was no baseline. Its output ends with:")
                print("\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-25:]))
            if status not in (_PASSED, _FAILED):
                raise GpuperfError("The suite can't be run, so nothing is calibrated. See its output above.")
            records = [stored.record for stored in RecordReader(Store(url)).all()]
            usable = [record for record in records if record.may_be_baseline and not record.reference]
            for record in usable:
                result.records.setdefault(key_digest(record.key), []).insert(0, record)
            if not usable and not index:
                raise GpuperfError(
                    f"The first invocation measured no usable record, so nothing is calibrated.\n{_CHECK_SUITE}"
                )
    return result


def measure(arguments: Sequence[str], store: str, log: Path) -> int:
    """Run ``pytest --gpuperf`` with a new store, its output in a log; return its exit status."""
    options = ["--gpuperf", f"--gpuperf-store={store}"]
    for setting in ("gpuperf_require_baseline=false", "gpuperf_baseline=both"):  # the store has no baseline
        options += ["-o", setting]
    process = SupervisedProcess(
        [sys.executable, "-m", "pytest", *arguments, *options], env=dict(os.environ), log=log, grace_s=_GRACE_S
    )
    try:
        while process.exit_status is None:
            time.sleep(_POLL_S)
        return process.exit_status
    finally:
        process.stop()


def _calibrate(store: Store, device: str, tests: Sequence[Sequence[Record]], options: argparse.Namespace) -> bool:
    """Print how much the records of a device differ, and store its prior; return whether it was stored."""
    result = calibrate(tests, [rule_for(records[0], tests=len(tests)) for records in tests])
    if not options.prior_only:
        print("\n".join(_tables(result)))
    pooled = result.pooled
    if not pooled.record_sd:
        raise GpuperfError(f"The records of {device} have no load point and metric in common. Nothing was stored.")
    calibration = Calibration(
        device=device,
        record_sd=pooled.record_sd,
        freedom=pooled.freedom,
        records=sum(map(len, tests)),
        tests=tuple(sorted({records[0].test for records in tests})),
        author=user(),
        from_store=options.from_store,
    )
    if options.from_store and not options.yes and not _may_replace(store, calibration):
        return False
    path = write_calibration(store, calibration)
    _say(f"prior of {device}, for later gates:")
    _say_spreads(calibration)
    _say(f"stored as {store.describe(path)}")
    if not options.from_store:
        _say("records of different days may differ more: run calibrate --from-store after some weeks of records")
    return True


def _may_replace(store: Store, calibration: Calibration) -> bool:
    """Return whether a calibration from the store may replace the stored one: asked only where that is better founded.

    Raises:
        StoreError: The stored calibration can't be read.
    """
    stored = newest_calibration(store, calibration.device)
    if stored is None or not is_better_founded(stored, calibration):
        return True
    source = "from the store" if stored.from_store else "measured with nothing changed"
    _say(
        f"calibration of {calibration.device} that gates use now, {source}, by {stored.author or 'an unknown author'}:"
    )
    _say_spreads(stored)
    _say("what the records of the store show now:")
    _say_spreads(calibration)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("gpuperf calibrate: Replace the better-founded calibration? [y/N] ").strip().lower() in ("y", "yes")


def _say_spreads(calibration: Calibration) -> None:
    for metric, sd in sorted(calibration.record_sd.items()):
        freedom = calibration.freedom.get(metric, 0.0)
        _say(f"  {metric}: records differ by {_percent(sd)} ({freedom:.0f} degrees of freedom)")


def _tables(result: CalibrationResult) -> list[str]:
    columns = [(m, k) for m in RECORDS for k in RUNS]
    titles = ("load point", "metric", ">run sd", ">record sd", *(f">m={m} k={k}" for m, k in columns))
    lines = [
        "smallest regression that is detected with 80% power, with m baseline records and k runs (>x10: above +1000%)",
        "run sd: spread between runs; record sd: spread between records that the spread of their runs does not explain",
    ]
    for test in result.tests:
        lines += ["", f"{test.test}: {_rate(test.false_alarms, 'record')}"]
        rows = tuple(
            (
                point_name(series.sweep, series.point),
                series.metric,
                "?" if math.isnan(series.run_sd) else _percent(series.run_sd),
                _percent(series.record_sd),
                *(_effect(series.detectable[column]) for column in columns),
            )
            for series in test.series
        )
        lines += Table(titles, rows).as_text("  ", screen_width())
    return [*lines, "", f"all tests: {_rate(result.false_alarms, 'invocation')}"]


def _rate(rate: Proportion, noun: str) -> str:
    share = f"{rate.count / rate.of:.1%} [95% interval {rate.low:.1%} to {rate.high:.1%}]"
    return f"false alarms in {rate.count} of {rate.of} {noun}s, {share}"


def _percent(sd: float) -> str:
    return f"{100 * sd:.2f}%"


def _effect(share: float) -> str:
    return f"+{100 * share:.3g}%" if share < 10 else ">x10"


def _say(text: str) -> None:
    print(f"gpuperf calibrate: {text}", flush=True)
