"""What the starts of a target took, in a line."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from pytest_gpuperf.model import Run
from pytest_gpuperf.report.figures import duration


def start_notes(runs: Sequence[Run], sweep: str) -> list[str]:
    """Return a line with the medians over the starts of a sweep; none if nothing was started."""
    starts = [run.start for run in runs if run.sweep == sweep]
    warm = [start for start in starts if not start.cold]
    cold_s, warm_s = _median(s.startup_s for s in starts if s.cold), _median(s.startup_s for s in warm)
    startups = [f"{text} {kind}" for text, kind in ((cold_s, "cold"), (warm_s, "warm")) if text]
    load, build = _median(s.model_load_s for s in warm or starts), _median(s.engine_build_s for s in starts)
    parts = (("start-up", ", ".join(startups)), ("model load", load), ("engine build", build))
    known = [f"{name} {text}" for name, text in parts if text]
    return ["; ".join(known)] if known else []


def _median(times_s: Iterable[float | None]) -> str:
    known = [time_s for time_s in times_s if time_s is not None]
    return duration(statistics.median(known) * 1e9) if known else ""
