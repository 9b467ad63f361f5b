"""How far a sweep is: one line for a terminal, one for a log."""

from __future__ import annotations

from pytest_gpuperf.report.escape import shorten
from pytest_gpuperf.report.figures import minutes_seconds

_BAR = 10
#: Letters that a name keeps in any case.
_NAME = 12
#: Seconds between two lines of a log, by pytest's verbosity; a CI system that hears nothing for long ends the job.
_BETWEEN_LINES_S = {-1: 60.0, 0: 10.0}
#: A run that is longer says in between that it is alive.
_PATIENCE_S = 50.0


class LogSchedule:
    """When a log is due for another line: an occasional one, rather than one for every run or none at all.

    Args:
        verbosity: pytest's; above 0 every run has its line.
    """

    def __init__(self, verbosity: int, now_s: float) -> None:
        self._between_s = _BETWEEN_LINES_S.get(verbosity, 0.0)
        # The first run is told of at once, but not to those who want it quiet.
        self._next_s = now_s + self._between_s if verbosity < 0 else now_s

    def due(self, now_s: float, *, run_done: bool) -> bool:
        """Whether to write one now; it is taken to be written."""
        if now_s < self._next_s + (0.0 if run_done else _PATIENCE_S):
            return False
        self._next_s = now_s + self._between_s
        return True


def bar_line(what: str, share: float, detail: str, left_s: float | None, width: int) -> str:
    """A progress bar that fits the terminal."""
    filled = round(share * _BAR)
    left = f" {minutes_seconds(left_s)} left" if left_s is not None else ""
    bar = f" [{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%}{left}"
    # A long name gives way to the bar, and what is told of the moment to both.
    name = shorten(what, max(width - 3 - len(bar), _NAME))
    return f"  {name}{bar}  {detail}"[: max(width - 1, 0)]


def log_line(what: str, run: int, runs: int, left_s: float | None, *, done: bool = True) -> str:
    """One line when a run is done, or when one takes long."""
    left = f", about {minutes_seconds(left_s)} left" if left_s else ""
    return f"gpuperf: {what}: run {run + 1} of {runs}{' done' if done else ''}{left}"
