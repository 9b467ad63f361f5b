"""Progress of a sweep: a bar for a terminal, and lines for a log."""

from __future__ import annotations

from pytest_gpuperf.report.escape import shorten
from pytest_gpuperf.report.figures import minutes_seconds

_BAR = 10
#: Smallest width of a name.
_NAME = 12
#: Seconds between lines of a log, by verbosity of pytest. CI systems end jobs that stay silent for long.
_BETWEEN_LINES_S = {-1: 60.0, 0: 10.0}
#: Additional seconds after which a run that is still going writes a line.
_LONG_RUN_S = 50.0


class LogSchedule:
    """Decides when a log gets its next line, so that it neither floods nor stays silent.

    Args:
        verbosity: Verbosity of pytest; above 0, every run gets a line.
    """

    def __init__(self, verbosity: int, now_s: float) -> None:
        self._between_s = _BETWEEN_LINES_S.get(verbosity, 0.0)
        # The first run is logged at once, except in quiet mode.
        self._next_s = now_s + self._between_s if verbosity < 0 else now_s

    def due(self, now_s: float, *, run_done: bool) -> bool:
        """Return whether to write a line now; if so, restart the interval to the next line."""
        if now_s < self._next_s + (0.0 if run_done else _LONG_RUN_S):
            return False
        self._next_s = now_s + self._between_s
        return True


def bar_line(name: str, share: float, detail: str, left_s: float | None, width: int) -> str:
    """Return a progress bar that fits the terminal."""
    filled = round(share * _BAR)
    left = f" {minutes_seconds(left_s)} left" if left_s is not None else ""
    bar = f" [{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%}{left}"
    # A long name is shortened in favour of the bar; the detail is cut first.
    shown = shorten(name, max(width - 3 - len(bar), _NAME))
    return f"  {shown}{bar}  {detail}"[: max(width - 1, 0)]


def log_line(
    name: str, run: int, runs: int, left_s: float | None, *, done: bool = True, may_end_early: bool = False
) -> str:
    """Return the line for a run that is done, or that takes long."""
    left = f", about {minutes_seconds(left_s)} left" if left_s else ""
    most = f"up to {runs}" if may_end_early else f"{runs}"
    return f"gpuperf: {name}: run {run + 1} of {most}{' done' if done else ''}{left}"
