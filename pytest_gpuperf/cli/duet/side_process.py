"""A side of ``gpuperf duet`` as the command sees it: a pytest process, and how far it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from pytest_gpuperf.clock import time
from pytest_gpuperf.errors import GpuperfError
from pytest_gpuperf.measure.channel import Channel, Message
from pytest_gpuperf.measure.turns import MeasureStep, Phase
from pytest_gpuperf.targets.process import SupervisedProcess


class SideEnded(GpuperfError):
    """A side died, hangs, or can't be measured, so both are ended."""

    def __init__(self, side: str, message: str) -> None:
        super().__init__(message)
        self.side = side


@dataclass
class SideProcess:
    """One pytest process.

    Attributes:
        request: Request that waits for an answer; None while the side runs.
        since: Time of its last message or answer.
        tests: Its tests that measure, in order; None until it has collected them.
        index: Index of its current test among the common tests.
        sweeps: Number of sweeps that the current test has begun.
        finished_sweeps: By test and number: whether the sweep was measured to its end.
        results: Outcome and reason of failed and skipped tests.
        ended: Whether it has run its tests.
    """

    name: str
    process: SupervisedProcess
    tree: Path
    home: Path
    channel: Channel | None = None
    request: Message | None = None
    since: float = field(default_factory=time.monotonic)
    tests: list[str] | None = None
    index: int = -1
    sweeps: int = 0
    finished_sweeps: dict[tuple[int, int], bool] = field(default_factory=dict)
    results: dict[str, tuple[str, str]] = field(default_factory=dict)
    ended: bool = False

    @property
    def running(self) -> bool:
        return self.request is None and not self.ended

    @property
    def request_kind(self) -> str:
        return str(self.request["kind"]) if self.request is not None else ""

    @property
    def position(self) -> tuple[float, ...]:
        """Progress of the side."""
        kind = self.request_kind
        if self.ended:
            return (math.inf,)
        if kind == "collected":
            return (-1,)
        if kind in ("begin_sweep", "next_step", "block_decision"):
            return (self.index, 1, self.sweeps, kind == "next_step")
        return (self.index, 0 if kind == "begin_test" else 2)

    @property
    def step(self) -> MeasureStep:
        assert self.request is not None
        values = {name: int(self.request[name]) for name in ("run", "phase", "number", "parity")}
        return MeasureStep(**{**values, "phase": Phase(values["phase"])})  # type: ignore[arg-type]
