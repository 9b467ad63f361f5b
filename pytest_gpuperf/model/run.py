"""Runs: fresh starts of the target, the unit of replication."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpuperf.model.window import Window

#: Name of the sweep that holds a benchmark's rounds; a comma and the name of their clock follow if it is not the usual
#: one.
ROUNDS = "pytest-benchmark"


@dataclass(frozen=True)
class StartTimes:
    """How long a start of the target took; None for what it does not have, or does not report.

    Attributes:
        startup_s: Time from the start until the target answered, without building an engine. None for a target that is
            not started: a callable, or a server that somebody else started.
        cold: Whether it was the first start of this target in this process. Later starts have warm caches. What the
            operating system still caches from earlier processes stays cached.
        model_load_s: Part of it in which the model was loaded.
        engine_build_s: Time in which an engine was built; None if none was built, because a cached one was used.
        others_cpu_share: Share of the cores, 0 to 1, that processes other than ours used meanwhile; None unless the CPU
            is the device under test.
    """

    startup_s: float | None = None
    cold: bool = False
    model_load_s: float | None = None
    engine_build_s: float | None = None
    others_cpu_share: float | None = None


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
    start: StartTimes
    warmup_s: float
    warmed_up: bool
    windows: tuple[Window, ...]
    complete: bool = True
    anchors: tuple[Window, ...] = ()
    sequential: bool = False

    def __post_init__(self) -> None:
        if self.anchors and len(self.anchors) != len(self.windows):
            raise ValueError(f"expected one anchor window per window: {len(self.windows)}, not {len(self.anchors)}")
