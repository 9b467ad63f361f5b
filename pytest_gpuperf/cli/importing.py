"""``gpuperf import``: records from perf_analyzer's profile exports, and from pytest-benchmark's files."""

from __future__ import annotations

import argparse
import math
import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpuperf import __version__
from pytest_gpuperf.cli.stored import UNKNOWN, add_store, begun_store_url
from pytest_gpuperf.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gpuperf.model import LoadPoint, Record, Run, Window
    from pytest_gpuperf.report.profile_import import Level
    from pytest_gpuperf.store import Store

#: The sweep that imported load points belong to.
SWEEP = "perf_analyzer"
#: Its windows are not ours: a record of ours must never be compared with one that was imported.
_METHOD_VERSION = "perf_analyzer 1"
_ARRIVALS = "perf_analyzer"
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


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
    from pytest_gpuperf.report.benchmark_import import is_benchmarks
    from pytest_gpuperf.store import Store

    commit = options.commit.lower()
    if commit and not _COMMIT.fullmatch(commit):
        raise OptionError(
            f"--commit {options.commit}: write seven or more digits of the commit's hash (git rev-parse HEAD shows it)."
        )
    theirs = [is_benchmarks(path) for path in options.files]
    if any(theirs) and not all(theirs):
        raise OptionError("Some of the files are pytest-benchmark's and some are not: import them one kind at a time.")
    if all(theirs):
        from pytest_gpuperf.cli.importing_benchmarks import records_of

        records = records_of(options.files, options.test or "", gpu=options.gpu or "", commit=commit)
    else:
        if options.test is None:
            raise OptionError("--test: name what was measured, for example --test resnet50.")
        gpu = options.gpu or UNKNOWN
        one = record_of(options.files, options.test, gpu=gpu, batch_size=options.batch_size, commit=commit)
        records = [one]
    store = Store(begun_store_url(options))
    for record in records:
        _take(store, record, len(records))
    return 0


def _take(store: Store, record: Record, tests: int) -> None:
    """Judge a record, store it, and say so."""
    from pytest_gpuperf.analysis.guard import error_report
    from pytest_gpuperf.cli.judging import ABSENT, judge, rule_for
    from pytest_gpuperf.model import Verdict
    from pytest_gpuperf.report.summary import headline

    judged = judge(store, record, rule_for(record, tests=tests, store=store))
    errors = error_report(record.runs)
    failed = judged.comparison.verdict is Verdict.REGRESSED or errors is not None
    gate = "failed" if failed else "open" if judged.comparison.verdict in ABSENT else "passed"
    record = replace(record, gate=gate)
    path = store.write(record)
    print(f"{record.test}: {headline(record, judged.comparison)}")
    if errors:
        print(f"  too many requests failed, so it is no baseline:\n{errors}")
    for finding in dict.fromkeys(text for one in record.runs for window in one.windows for text in window.findings):
        print(f"  ! {finding}")
    print(f"  record {record.id} stored as {store.describe(path)}")


def record_of(
    files: Sequence[Path], test: str, *, gpu: str = "unknown", batch_size: int = 1, commit: str = ""
) -> Record:
    """A record of profile exports, one for each run.

    Raises:
        OptionError: a file can't be read or is none, or an argument can't be used.
    """
    from pytest_gpuperf.model import Record, Run
    from pytest_gpuperf.report.profile_import import read_profile
    from pytest_gpuperf.store.store import utc_now

    if not test.strip():
        raise OptionError("--test: name what was measured, for example --test resnet50.")
    if batch_size < 1:
        raise OptionError(f"--batch-size {batch_size}: write a whole number of 1 or more.")
    runs: list[Run] = []
    for index, path in enumerate(files):
        windows = tuple(window for level in read_profile(path) for window in windows_of(level, batch_size))
        runs.append(Run(SWEEP, index, startup_s=0.0, warmup_s=0.0, warmed_up=True, windows=windows))
    return Record(
        id=uuid.uuid4().hex[:12],
        invocation=uuid.uuid4().hex,
        test=test,
        created_utc=utc_now(),
        key={"device": gpu, "test": test, "version": 1, "method_version": _METHOD_VERSION},
        status="complete",
        gate="open",
        runs=tuple(runs),
        commit=commit,
        settings={"imported_by": f"pytest-gpuperf {__version__}", "files": len(files)},
    )


def windows_of(level: Level, batch_size: int) -> list[Window]:
    """The windows of one level, by the rule for edges of ``analysis.window`` as far as the file allows.

    * A request that was due in a window belongs to it. A window at whose end nothing is known to be in flight was cut
      off there: the slow ones of its last requests are missing. So it is taken to end earlier by its longest latency.
    * Throughput counts shares of lives, unless the file lacks the requests from before the window; then it counts what
      was due in it, which is as unbiased but jumps by whole requests.
    """
    import numpy as np

    if batch_size < 1:
        raise OptionError(f"batch_size={batch_size}: a request carries one inference or more.")
    due, done = (np.asarray(times, dtype=np.int64) for times in (level.due_ns, level.done_ns))
    edges, findings = level.windows_ns, []
    if not edges:
        # To the last answer: what was sent at once, as many requests as the concurrency, took as long as its answers.
        edges = ((int(due[0]), max(int(done.max()), int(due[-1]) + 1)),)
        findings.append(
            "the file has no window_boundaries: everything is one window, from the first request to the last answer"
        )
    made = []
    for visit, (start, stop) in enumerate(edges):
        own = (due >= start) & (due < stop)
        cut = not ((due < stop) & (done > stop)).any() and level.windows_ns
        longest = int((done - due)[own].max()) if own.any() else 0
        known = stop - longest if cut and longest < (stop - start) / 2 else stop
        made.append(_window(level, (start, known), batch_size, visit, tuple(findings)))
    return made


def _window(level: Level, edges: tuple[int, int], batch_size: int, visit: int, findings: tuple[str, ...]) -> Window:
    import numpy as np

    from pytest_gpuperf.analysis.window import figures
    from pytest_gpuperf.model import Window

    start, stop = edges
    times = figures([(level.due_ns, level.sent_ns, level.done_ns)], start, stop, batch_size)
    due, done = (np.asarray(column, dtype=np.int64) for column in (level.due_ns, level.done_ns))
    window_s = (stop - start) / 1e9
    throughput = times.throughput
    if not ((due < start) & (done > start)).any():
        throughput = times.requests * batch_size / window_s
    failed = sum(start <= at < stop for at in level.failed_ns)
    streams = level.streams
    firsts = figures([(level.due_ns, level.first_ns, level.first_ns)], start, stop, 1).latency if streams else None
    own = (due >= start) & (due < stop)
    return Window(
        sweep=SWEEP,
        point=_point(level, batch_size),
        visit=visit,
        window_s=window_s,
        requests=times.requests,
        throughput=throughput,
        latency_mean_ns=times.latency_mean_ns,
        latency=times.latency,
        errors={"no response": failed} if failed else {},
        service=times.service if level.sent_ns is not level.due_ns else None,
        late=times.late,
        lag_p99_ns=times.lag_p99_ns,
        first=firsts,
        answers=int(np.asarray(level.answers)[own].sum()) if streams else 0,
        findings=findings,
    )


def _point(level: Level, batch_size: int) -> LoadPoint:
    from pytest_gpuperf.model import LoadPoint

    if level.mode == "concurrency":
        return LoadPoint(math.floor(level.value), batch_size)
    return LoadPoint(0, batch_size, level.value, _ARRIVALS)
