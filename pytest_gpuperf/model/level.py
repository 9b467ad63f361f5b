"""Levels of ``gpuperf sweep``: windows in a row, the last of which agree, as perf_client measures them."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.model.figures import PointFigures
from pytest_gpuperf.model.finding import Finding
from pytest_gpuperf.model.load_point import LoadPoint

STABLE, UNSTABLE, OVER, INTERRUPTED = "stable", "unstable", "over", "interrupted"


@dataclass(frozen=True)
class MeasuredLevel:
    """The result at one concurrency or request rate.

    Attributes:
        figures: Figures of the windows that count.
        window_count: Number of windows that were measured.
        state: ``stable``; ``unstable`` if the windows did not come to agree; ``over`` if all of them were above the
            latency threshold, so that waiting for them to agree was pointless; ``interrupted`` if the level was cut
            short.
        within: Whether the level keeps the latency threshold; None if undecided, True without a threshold.
        reason: Why the level is unstable or interrupted; a sentence.
        findings: What disturbed the windows that count.
    """

    figures: PointFigures
    window_count: int
    state: str
    within: bool | None = True
    reason: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def point(self) -> LoadPoint:
        return self.figures.point

    @property
    def mark(self) -> str:
        """Warning to print with the figures; empty for a good level."""
        if self.state in (UNSTABLE, INTERRUPTED):
            unclear = ", perhaps over the latency threshold" if self.within is None else ""
            return self.state + (", over the latency threshold" if self.within is False else unclear)
        return "over the latency threshold" if self.within is False else ""
