"""One level of a sweep in perf_client's manner: windows in a row, the last of which agree, taken together."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.window import Window

STABLE, UNSTABLE, OVER, INTERRUPTED = "stable", "unstable", "over", "interrupted"


@dataclass(frozen=True)
class MeasuredLevel:
    """What was found at one concurrency or request rate.

    Attributes:
        whole: the windows that count, taken together.
        taken: how many windows were measured.
        state: ``stable``; ``unstable``: the windows did not come to agree; ``over``: they were all above the latency
            threshold, so that there was no use in waiting for them to agree; ``interrupted``: the level was cut short.
        within: whether it keeps the latency threshold; None when that can't be told. True where there is none.
        why: a sentence about an unstable or interrupted level.
    """

    whole: Window
    taken: int
    state: str
    within: bool | None = True
    why: str = ""

    @property
    def point(self) -> LoadPoint:
        return self.whole.point

    @property
    def mark(self) -> str:
        """What a reader has to know beside the figures; empty for a good level."""
        if self.state in (UNSTABLE, INTERRUPTED):
            unclear = ", perhaps over the latency threshold" if self.within is None else ""
            return self.state + (", over the latency threshold" if self.within is False else unclear)
        return "over the latency threshold" if self.within is False else ""
