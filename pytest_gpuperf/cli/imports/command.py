"""``gpuperf import``: the command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pytest_gpuperf.cli.new_record import commit_hash, judge_and_store
from pytest_gpuperf.cli.stored_records import UNKNOWN, add_store, begun_store_url
from pytest_gpuperf.errors import OptionError


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "import",
        help="make records of perf_analyzer's profile exports, or of pytest-benchmark's files",
        description="Make a record of the files that perf_analyzer --profile-export-file wrote, one for each run. A "
        "run is one fresh start of the server: files of the same start are one run measured several times. Or make a "
        "record of each benchmark in the files that pytest --benchmark-json wrote: each file is one process, and so "
        "one run.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="one file for each run")
    parser.add_argument(
        "--test",
        metavar="NAME",
        help="what was measured; it is part of the key (of pytest-benchmark: only benchmarks whose name contains this)",
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help=f"on what; it is part of the key, too (default: as the file says, else {UNKNOWN})",
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="perf_analyzer's -b (default: 1)")
    parser.add_argument("--commit", default="", metavar="SHA", help="of what was measured (default: as the file says)")
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command line; its exit status."""
    from pytest_gpuperf.report.exchange.benchmark_import import is_benchmark_file
    from pytest_gpuperf.store import Store

    commit = commit_hash(options.commit)
    theirs = [is_benchmark_file(path) for path in options.files]
    if any(theirs) and not all(theirs):
        raise OptionError("Some of the files are pytest-benchmark's and some are not: import them one kind at a time.")
    if all(theirs):
        from pytest_gpuperf.cli.imports.benchmarks import records_of

        records = records_of(options.files, options.test or "", gpu=options.gpu or "", commit=commit)
    else:
        if options.test is None:
            raise OptionError("--test: name what was measured, for example --test resnet50.")
        from pytest_gpuperf.cli.imports.profiles import record_of

        gpu = options.gpu or UNKNOWN
        records = [record_of(options.files, options.test, gpu=gpu, batch_size=options.batch_size, commit=commit)]
    store = Store(begun_store_url(options))
    for record in records:
        judge_and_store(store, record, len(records))
    return 0
