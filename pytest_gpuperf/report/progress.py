"""How far a sweep is: one line for a terminal, one for a log."""

from __future__ import annotations

from pytest_gpuperf.report.words import seconds

_BAR = 10


def bar_line(what: str, share: float, detail: str, left_s: float | None, width: int) -> str:
    """A progress bar that fits the terminal."""
    filled = round(share * _BAR)
    left = f" {seconds(left_s)} left" if left_s is not None else ""
    line = f"  {what} [{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%}{left}  {detail}"
    return line[: max(width - 1, 0)]


def log_line(what: str, run: int, runs: int, left_s: float | None) -> str:
    """One line when a run is done."""
    left = f", about {seconds(left_s)} left" if left_s else ""
    return f"gpuperf: {what}: run {run + 1} of {runs} done{left}"
