"""Output of ``gpuperf sweep``, written after each level, so that neither an error nor Ctrl-C loses it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pytest_gpuperf.analysis.guard import ERROR_BUDGET
from pytest_gpuperf.atomic_write import atomic_write
from pytest_gpuperf.cli.sweep.record import SweepRecord
from pytest_gpuperf.cli.sweep.settings import INTERVALS, SweepSettings
from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Window
from pytest_gpuperf.model.level import INTERRUPTED, UNSTABLE, MeasuredLevel
from pytest_gpuperf.report.exchange.perf_client import (
    Layout,
    closing_lines,
    csv_text,
    level_lines,
    load_of,
    pass_line,
    title,
)
from pytest_gpuperf.report.exchange.profile_export import ProfileExport, RecordedWindow

DONE, FAILED, UNSTABLE_LEVELS = 0, 1, 3
_DEVICES = Path("/dev")


class SweepReport:
    """Prints and writes a sweep level by level.

    Raises:
        OptionError: A file can't be written. Raised before the sweep begins.
    """

    def __init__(
        self, settings: SweepSettings, say: Callable[[str], None] | None = None, record: SweepRecord | None = None
    ) -> None:
        self._settings = settings
        self._say = say or _say
        self._record = record
        self._layout = Layout(settings.percentile, settings.verbose_csv)
        self._levels: list[MeasuredLevel] = []
        self._export: ProfileExport | None = None
        #: Files that could not be written the last time, with the reason.
        self._unwritten: dict[Path, str] = {}
        self._csv = _writable_path(settings.csv)
        self._times = _writable_path(settings.profile_export)
        if self._times is not None and _is_special(self._times):
            raise OptionError(f"--profile-export-file {settings.profile_export} must be a regular file.")

    def begin(self) -> None:
        """Print the settings."""
        for line in settings_lines(self._settings):
            self._say(line)
        if self._record is not None:
            self._say(f"  Record: {self._record.label}")
        self._say("")

    def start(self, load: float) -> None:
        """Print the title of a level."""
        settings = self._settings
        intervals = settings.intervals
        source = f"intervals of {intervals.source}" if settings.mode == INTERVALS and intervals is not None else ""
        self._say(title(settings.point(load), source))

    def window(self, number: int, window: Window) -> None:
        """Note a window, and print it with ``-v``."""
        if self._record is not None:
            self._record.add(window)
        if self._settings.verbose:
            self._say(pass_line(number, window, self._layout))

    def add(self, load: float, level: MeasuredLevel, recordings: Sequence[RecordedWindow]) -> None:
        """Print and write a level.

        Args:
            recordings: Requests of the level's windows, if there is a profile export.
        """
        self._levels.append(level)
        if self._record is not None:
            self._record.end_level(self._settings.counted_windows)
        with self._writing(self._csv):
            self._write_csv(last=False)
        with self._writing(self._times):
            self._write_export(load, recordings)
        for line in level_lines(level, self._layout):
            self._say(line)
        self._say("")

    def search_ended(self, load: float | None) -> None:
        """Print the result of a binary search."""
        limit = f"{self._settings.threshold_ms:g} msec"
        if load is None:
            self._say(f"No level of the range clearly keeps the latency threshold of {limit}.\n")
        else:
            self._say(f"Highest level within {limit}: {load_of(self._settings.point(load))}\n")

    def close(self) -> None:
        """Finish the files, and print the closing list and the warnings."""
        if self._export is not None:
            with self._writing(self._times):
                self._export.close()
        if not self._levels:
            return
        with self._writing(self._csv):
            self._write_csv(last=True)
        for line in closing_lines(self._levels, self._layout):
            self._say(line)
        for level in self._levels:
            if level.state in (UNSTABLE, INTERRUPTED):
                advice = "; try longer windows (-p) or a wider -s" if level.state == UNSTABLE else ""
                print(f"gpuperf sweep: {level.point.label} is {level.mark}: {level.reason}{advice}.", file=sys.stderr)
            if _failing(level):
                figures = level.figures
                total = figures.requests + figures.error_count
                text = f"{figures.error_count} of {total} requests failed"
                print(f"gpuperf sweep: at {level.point.label}, {text}.", file=sys.stderr)
        if self.status == UNSTABLE_LEVELS:
            # perf_client's words, for which model_analyzer looks before it tries longer windows.
            print("Failed to obtain stable measurement.", file=sys.stderr)

    @property
    def status(self) -> int:
        """The exit status of a sweep that was not interrupted."""
        if self._unwritten or any(_failing(level) for level in self._levels):
            return FAILED
        return UNSTABLE_LEVELS if any(level.state == UNSTABLE for level in self._levels) else DONE

    @contextlib.contextmanager
    def _writing(self, path: Path | None) -> Iterator[None]:
        """Report a file that can't be written, and continue: results are printed anyway, and the next level retries."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            assert path is not None
            if self._unwritten.get(path) != reason:
                print(f"gpuperf sweep: {path} can't be written: {reason}.", file=sys.stderr, flush=True)
            self._unwritten[path] = reason
        else:
            if path is not None:
                self._unwritten.pop(path, None)

    def _write_csv(self, *, last: bool) -> None:
        path = self._csv
        # A pipe or a terminal gets the table once, at the end.
        if path is None or (not last and _is_special(path)):
            return
        text = csv_text(self._levels, self._layout)
        if _is_special(path):
            path.write_text(text)
            return
        with atomic_write(path) as beside:
            beside.write_text(text)

    def _write_export(self, load: float, recordings: Sequence[RecordedWindow]) -> None:
        if self._times is None:
            return
        if self._export is None:
            self._export = ProfileExport(self._times, time.time_ns() - time.monotonic_ns())
        settings = self._settings
        mode = "request_rate" if settings.open_loop else "concurrency"
        self._export.add(mode, float(load) if settings.open_loop else int(load), recordings)


def _failing(level: MeasuredLevel) -> bool:
    errors = level.figures.error_count
    return errors > ERROR_BUDGET * (level.figures.requests + errors)


def settings_lines(settings: SweepSettings) -> list[str]:
    """Return perf_client's lines about the settings."""
    lines = ["*** Measurement Settings ***", f"  Batch size: {settings.batch_size}", "  Service Kind: TRITON"]
    if settings.warmup_count:
        lines.append(f"  Sending {settings.warmup_count} warmup requests")
    if settings.request_count:
        lines.append(f"  Sending {settings.request_count} benchmark requests")
    else:
        mode = "count_windows" if settings.window_requests else "time_windows"
        latency = "average" if settings.percentile is None else f"p{settings.percentile:g}"
        lines += [
            f'  Using "{mode}" mode for stabilization',
            f"  Stabilizing using {latency} latency and throughput",
            f"  Minimum number of samples in each window: {settings.window_requests}"
            if settings.window_requests
            else f"  Measurement window: {settings.window_s * 1000:g} msec",
            f"  Load before each window: {settings.lead_in_s * 1000:g} msec (the server's counts include it)",
        ]
    if not settings.levels.single:
        lines.append(f"  Latency limit: {settings.threshold_ms:g} msec")
        if settings.levels.end:
            kind = "Request Rate" if settings.open_loop else "Concurrency"
            unit = "requests per seconds" if settings.open_loop else "concurrent requests"
            lines.append(f"  {kind} limit: {settings.levels.end:g} {unit}")
    if settings.mode == "request_rate":
        lines.append(f"  Using {'poisson' if settings.poisson else 'uniform'} distribution on request generation")
    if settings.binary_search:
        lines.append("  Using Binary Search algorithm")
    processes = "one process" if settings.workers == 1 else f"{settings.workers} processes"
    lines.append(f"  Load generator: {processes}")
    return lines


def _writable_path(path: Path | None) -> Path | None:
    """Return the file to write, which must be writable: the target of a link, so that the link itself is kept."""
    if path is None or _DEVICES in path.absolute().parents:
        return path
    target = path.resolve()
    folder = target.parent
    if target.is_dir() or not folder.is_dir() or not os.access(target if _is_special(target) else folder, os.W_OK):
        raise OptionError(f"{path} can't be written: its directory is missing or not writable, or it is a directory.")
    return target


def _is_special(path: Path) -> bool:
    """Return whether a path is not a regular file. /dev/stdout is not, even if it leads to one."""
    return _DEVICES in path.absolute().parents or (path.exists() and not path.is_file())


def _say(line: str) -> None:
    # Flushed, because a sweep takes minutes and the reader may be a log.
    print(line, flush=True)
