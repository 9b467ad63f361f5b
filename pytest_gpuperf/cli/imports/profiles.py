"""``gpuperf import``: records from perf_analyzer's profile exports, and from pytest-benchmark's files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pytest_gpuperf.analysis.window import window_figures
from pytest_gpuperf.cli.imports.imported_record import UNKNOWN, imported_record, imported_run
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Finding, LoadPoint, Record, Window
from pytest_gpuperf.model.finding import WINDOWS_UNKNOWN
from pytest_gpuperf.report.exchange.profile_import import SCHEDULE, ProfileLevel, read_profile

#: Name of the tool, of the sweep of imported load points, and of their arrivals.
TOOL = "perf_analyzer"


def record_of(files: Sequence[Path], test: str, *, gpu: str = UNKNOWN, batch_size: int = 1, commit: str = "") -> Record:
    """Return the record of several profile exports, each of which is a run.

    Raises:
        OptionError: A file can't be read or has another format, or an argument can't be used.
    """
    if not test.strip():
        raise OptionError("--test: name what was measured, for example --test resnet50.")
    if batch_size < 1:
        raise OptionError(f"--batch-size {batch_size}: write a whole number of 1 or more.")
    runs = []
    for index, path in enumerate(files):
        windows = [window for level in read_profile(path) for window in windows_of(level, batch_size)]
        runs.append(imported_run(TOOL, index, windows))
    return imported_record(TOOL, test, {"device": gpu}, runs, commit=commit)


def windows_of(level: ProfileLevel, batch_size: int) -> list[Window]:
    """Return the windows of a level. Edges follow the rule of ``analysis.window`` as far as the file allows.

    * A request belongs to the window in which it was due. If the file has no request in flight at a window's end,
      requests were cut off there and the slow ones are missing; the window then ends earlier, by its longest latency.
    * Throughput counts each request by the share of its duration inside the window. If the file lacks the requests
      from before the window, throughput counts the requests due in it instead: also unbiased, but in whole requests.
    """
    due, done = (np.asarray(times, dtype=np.int64) for times in (level.due_ns, level.done_ns))
    edges, findings = level.windows_ns, []
    if not edges:
        # Up to the last answer: requests sent all at once are due at the first instant only.
        edges = ((int(due[0]), max(int(done.max()), int(due[-1]) + 1)),)
        findings.append(Finding(WINDOWS_UNKNOWN))
    windows = []
    for visit, (start, stop) in enumerate(edges):
        inside = (due >= start) & (due < stop)
        cut = not ((due < stop) & (done > stop)).any() and level.windows_ns
        longest = int((done - due)[inside].max()) if inside.any() else 0
        end = stop - longest if cut and longest < (stop - start) / 2 else stop
        windows.append(_window(level, (start, end), batch_size, visit, tuple(findings)))
    return windows


def _window(
    level: ProfileLevel, edges: tuple[int, int], batch_size: int, visit: int, findings: tuple[Finding, ...]
) -> Window:
    start, stop = edges
    times = window_figures([(level.due_ns, level.sent_ns, level.done_ns)], start, stop, batch_size)
    due, done = (np.asarray(column, dtype=np.int64) for column in (level.due_ns, level.done_ns))
    window_s = (stop - start) / 1e9
    throughput = times.throughput
    if not ((due < start) & (done > start)).any():
        throughput = times.requests * batch_size / window_s
    failed = sum(start <= at < stop for at in level.failed_ns)
    streams = level.streams
    firsts = (
        window_figures([(level.due_ns, level.first_ns, level.first_ns)], start, stop, 1).latency if streams else None
    )
    inside = (due >= start) & (due < stop)
    return Window(
        sweep=TOOL,
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
        answers=int(np.asarray(level.answers)[inside].sum()) if streams else 0,
        findings=findings,
    )


def _point(level: ProfileLevel, batch_size: int) -> LoadPoint:
    if level.mode == "concurrency":
        return LoadPoint(math.floor(level.value), batch_size)
    return LoadPoint(0, batch_size, level.value, f"{TOOL} {SCHEDULE}" if level.mode == SCHEDULE else TOOL)
