"""``gpuperf import``: the command."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf.cli.imports.benchmarks import records_of
from pytest_gpuperf.cli.imports.imported_record import UNKNOWN
from pytest_gpuperf.cli.imports.profiles import record_of
from pytest_gpuperf.cli.new_record import commit_hash, judge_and_store
from pytest_gpuperf.cli.shared_options import add_store, open_store
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.report.exchange.benchmark_import import is_benchmark_file


def register(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.description = (
        "Store the files of another load tool as records. Files of perf_analyzer --profile-export-file become one "
        "record, with a run for each file: measure each after a fresh start of the server, because files of one start "
        "don't show how starts differ. Files of pytest --benchmark-json become a record for each benchmark, with a run "
        "for each file."
    )
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE.json", help="one file for each run")
    text = "perf_analyzer: name of what was measured, a part of the key; pytest-benchmark: only benchmarks whose name "
    add("--test", metavar="NAME", help=f"{text}contains NAME")
    text = f"device that was measured, a part of the key (default: as the file states it, else {UNKNOWN})"
    add("--gpu", metavar="NAME", help=text)
    add("--batch-size", type=int, default=1, metavar="N", help="perf_analyzer's -b (default: 1)")
    add("--commit", default="", metavar="SHA", help="commit that was measured (default: as the file states it)")
    add_store(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    commit = commit_hash(options.commit)
    _require_different(options.files)
    from_benchmark = [is_benchmark_file(path) for path in options.files]
    if any(from_benchmark) and not all(from_benchmark):
        raise OptionError("Some of the files are pytest-benchmark's and some are not: import each kind separately.")
    if all(from_benchmark):
        records = records_of(
            options.files,
            options.test or "",
            gpu=options.gpu or "",
            commit=commit,
            on_left_out=lambda sentence: print(f"gpuperf: left out: {sentence}", file=sys.stderr),
        )
    else:
        gpu, size = options.gpu or UNKNOWN, options.batch_size
        records = [record_of(options.files, options.test or "", gpu=gpu, batch_size=size, commit=commit)]
    store = open_store(options, create=True)
    for record in records:
        judge_and_store(store, record, len(records))
    return 0


def _require_different(files: Sequence[Path]) -> None:
    """Check that no file is named twice: the copies would count as two fresh starts with equal figures.

    Raises:
        OptionError: Two files have the same content, or a file can't be read.
    """
    first_of: dict[str, Path] = {}
    for path in files:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise OptionError(f"{path} cannot be read: {error}") from error
        first = first_of.setdefault(digest, path)
        if first is not path:
            raise OptionError(f"{first} and {path} have the same content: name each file once.")
