"""Runs: fresh starts of the target, the unit of replication."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.model.window import Window

#: Name of the sweep that holds a benchmark's rounds; a comma and the name of their clock follow if it is not the usual
#: one.
ROUNDS = "pytest-benchmark"


@dataclass(frozen=True)
class Run:
    """One fresh start of the target, with its windows over all load points.

    Attributes:
        index: Zero-based index among the runs of the sweep.
        complete: Whether all planned windows were measured.
        sequential: Whether the sides of a duet were measured one after the other, since they did not fit into memory
            together.
        anchors: The anchor's window next to each of ``windows``; empty without an anchor.
    """

    sweep: str
    index: int
    startup_s: float
    warmup_s: float
    warmed_up: bool
    windows: tuple[Window, ...]
    complete: bool = True
    anchors: tuple[Window, ...] = ()
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.anchors and len(self.anchors) != len(self.windows):
            raise ValueError(f"expected one anchor window per window: {len(self.windows)}, not {len(self.anchors)}")
