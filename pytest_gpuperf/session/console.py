"""Progress of the measurement: a bar on a terminal, plain lines in a log, nothing in a pytest-xdist worker."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import pytest

from pytest_gpuperf.clock import time
from pytest_gpuperf.measure import Progress
from pytest_gpuperf.report.terminal.progress import LogSchedule, bar_line, log_line
from pytest_gpuperf.safe_text import printable, safe


class Console:
    """Writes to pytest's terminal, around its capturing and its unfinished lines."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._verbosity: int = config.getoption("verbose", 0)
        self._drawn = False

    @cached_property
    def _pace(self) -> LogSchedule:
        return LogSchedule(self._verbosity, time.monotonic())

    @cached_property
    def _reporter(self) -> pytest.TerminalReporter | None:
        """pytest's terminal, which is registered after this object is made; None where nothing is to be written."""
        return self._config.pluginmanager.get_plugin("terminalreporter") if self._verbosity >= -1 else None

    def progress(self, progress: Progress) -> None:
        """Show how far a sweep is."""
        if self._reporter is None:
            return
        if self._reporter.isatty and os.environ.get("TERM") != "dumb":
            point = progress.point if progress.stage == "measuring" else None
            where = progress.stage if point is None else point.label
            most = f"{'up to ' if progress.may_end_early else ''}{progress.runs}"
            detail = f"run {progress.run + 1}/{most}, {where}"
            width = self._reporter._tw.fullwidth
            self._draw(bar_line(progress.sweep, progress.share, detail, progress.left_s, width))
            return
        done = progress.stage == "run done"
        if self._pace.due(time.monotonic(), run_done=done):
            early, left_s = progress.may_end_early, progress.left_s
            self._line(log_line(progress.sweep, progress.run, progress.runs, left_s, done=done, may_end_early=early))

    def waiting(self, holder: str) -> None:
        """Say that the measurement waits for its device.

        Args:
            holder: Process that is measuring on it.
        """
        self._line(f"gpuperf: waiting for the device, which {holder} is measuring on")

    def reading_records(self) -> None:
        """Say why nothing is measured yet."""
        self._line("gpuperf: reading the newest records of all tests on this device, which is needed once")

    def clear(self) -> None:
        """Remove the bar."""
        if self._drawn:
            self._draw("")
            self._drawn = False

    def _line(self, text: str) -> None:
        if self._reporter is not None:
            with self._uncaptured():
                self._reporter.ensure_newline()
                self._reporter.write_line(safe(text))

    def _draw(self, text: str) -> None:
        """Write on the line below pytest's own, and return to where pytest was writing."""
        assert self._reporter is not None
        writer = self._reporter._tw
        column = writer.width_of_current_line + 1
        with self._uncaptured():
            writer._file.write(f"\n\x1b[K{printable(text)}\x1b[A\x1b[{column}G")
            writer._file.flush()
        self._drawn = True

    def _uncaptured(self) -> AbstractContextManager[None]:
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        return nullcontext() if capture is None else capture.global_and_fixture_disabled()
