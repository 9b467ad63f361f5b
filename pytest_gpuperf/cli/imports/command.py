"""``gpuperf import``: the command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_gpuperf.cli.new_record import commit_hash, judge_and_store
from pytest_gpuperf.cli.stored_records import UNKNOWN, add_store, store_url
from pytest_gpuperf.errors import OptionError


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "import",
        help="store perf_analyzer's profile exports, or pytest-benchmark's files, as records",
        description="Store the files of another load tool as records. Files of perf_analyzer --profile-export-file "
        "become one record, with a run for each file: measure each after a fresh start of the server, because files "
        "of one start don't show how starts differ. Files of pytest --benchmark-json become a record for each "
        "benchmark, with a run for each file.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="one file for each run")
    parser.add_argument(
        "--test",
        metavar="NAME",
        help="perf_analyzer: name of what was measured, a part of the key; pytest-benchmark: only benchmarks whose "
        "name contains NAME",
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help=f"device that was measured, a part of the key (default: as the file states it, else {UNKNOWN})",
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="perf_analyzer's -b (default: 1)")
    parser.add_argument(
        "--commit", default="", metavar="SHA", help="commit that was measured (default: as the file states it)"
    )
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from pytest_gpuperf.report.exchange.benchmark_import import is_benchmark_file
    from pytest_gpuperf.store import Store

    commit = commit_hash(options.commit)
    from_benchmark = [is_benchmark_file(path) for path in options.files]
    if any(from_benchmark) and not all(from_benchmark):
        raise OptionError("Some of the files are pytest-benchmark's and some are not: import each kind by itself.")
    if all(from_benchmark):
        from pytest_gpuperf.cli.imports.benchmarks import records_of

        records = records_of(options.files, options.test or "", gpu=options.gpu or "", commit=commit)
    else:
        if options.test is None:
            raise OptionError("--test: name what was measured, for example --test resnet50.")
        from pytest_gpuperf.cli.imports.profiles import record_of

        gpu = options.gpu or UNKNOWN
        records = [record_of(options.files, options.test, gpu=gpu, batch_size=options.batch_size, commit=commit)]
    store = Store(store_url(options, create=True))
    for record in records:
        judge_and_store(store, record, len(records))
    return 0
