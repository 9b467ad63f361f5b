"""Simulated suites on several devices of one model: what the gate says of an invocation.

A value is the sum of the levels of its test, of the device, of the invocation and of the run, and of a part of its own:
the run's effect is the same at all points and metrics, and each of them has a third of its size in addition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.simulated_gate import Alarms, FloatArray, effects
from benchmarks.suite_gate import Judged, Layout, judge_arrays
from pytest_gpuperf.analysis.robust import BoolArray
from pytest_gpuperf.analysis.rule import Rule

LAYOUT, RUNS = Layout(points=10, metrics=3), 3
#: Newest records of a test that the gate reads.
SEEN = 20
#: Correlation of the drift from one invocation to the next.
DRIFT_CORRELATION = 0.95


@dataclass(frozen=True)
class Drift:
    """A machine whose speed wanders: AR(1).

    Attributes:
        sd: Stationary standard deviation of the log.
        later: Number of invocations from the newest record of the baseline to the candidate.
        each_test: Whether each test wanders by itself, instead of all together.
    """

    sd: float = 0.03
    later: int = 1
    each_test: bool = False


@dataclass(frozen=True)
class Fleet:
    """A suite, its history, and what changed.

    Attributes:
        invocation_sd, run_sd: Standard deviations of the log between invocations, and between runs.
        shared: Part of the variance between invocations that all tests share.
        devices: Number of devices with records; device ``n`` measured every ``n``-th record, in random order.
        device_sd: Standard deviation between devices; half of the variance is the same in all tests.
        new_device: Whether the candidate runs on a device without records.
        shape, invocation_shape: Shape of the effects of runs, and of invocations.
        step: Change of the machine in mid-history, in all tests.
        changed: Number of tests that changed.
        effect: By how much they did.
    """

    tests: int = 10
    records: int = 20
    invocation_sd: float = 0.01
    run_sd: float = 0.01
    shared: float = 0.5
    devices: int = 1
    device_sd: float = 0.0
    new_device: bool = False
    shape: str = "log-normal"
    invocation_shape: str = "log-normal"
    drift: Drift | None = None
    step: float = 0.0
    changed: int = 0
    effect: float = 0.0

    @property
    def label(self) -> str:
        """Everything that is not said by the row of the table."""
        parts = [
            f"{self.tests} test{'s' * (self.tests > 1)}",
            f"{self.records} records" if self.records > 1 else "1 record",
            f"sd {self.invocation_sd:.1%}/{self.run_sd:.1%}",
            f"{self.shared:.0%} shared",
            self.shape if self.shape != "log-normal" else "",
            f"invocations {self.invocation_shape}" if self.invocation_shape != "log-normal" else "",
            f"devices sd {self.device_sd:.0%}" if self.device_sd else "",
            f"changed by {self.step:+.0%}" if self.step else "",
            f"{self.changed} changed by {self.effect:+.0%}" if self.changed else "",
        ]
        return ", ".join(part for part in parts if part)

    def draw(self, rng: np.random.Generator) -> Invocation:
        """Draw a history and a candidate."""
        sessions = self.records + 1
        level = self._shared_and_separate(self.shared, lambda size: effects(rng, self.invocation_shape, size), sessions)
        level = self.invocation_sd * level + self._drift(rng, sessions)
        level[:, sessions // 2 :] += math.log1p(self.step)
        level[: self.changed, -1] += math.log1p(self.effect)
        device = np.append(
            rng.permutation(np.arange(self.records) % self.devices),
            self.devices if self.new_device else rng.integers(min(self.devices, self.records)),
        )
        level += self.device_sd * self._shared_and_separate(0.5, rng.standard_normal, self.devices + 1)[:, device]
        # The newest first, as far as the gate looks back.
        level, device = level[:, : -SEEN - 2 : -1], device[: -SEEN - 2 : -1]
        size = (self.tests, LAYOUT.series, len(device), RUNS)
        runs = effects(rng, self.shape, (self.tests, 1, *size[2:])) + effects(rng, self.shape, size) / 3
        values = level[:, None, :, None] + self.run_sd * runs
        return Invocation(values[:, :, 0], values[:, :, 1:], device.tolist())

    def _shared_and_separate(
        self, shared: float, draw: Callable[[tuple[int, ...]], FloatArray], count: int
    ) -> FloatArray:
        """Draw effects of shape (tests, count), of which a part is the same for all tests."""
        return math.sqrt(shared) * draw((1, count)) + math.sqrt(1 - shared) * draw((self.tests, count))

    def _drift(self, rng: np.random.Generator, sessions: int) -> FloatArray:
        if self.drift is None:
            return np.zeros((1, sessions))
        steps = sessions - 1 + self.drift.later
        level = rng.standard_normal((self.tests if self.drift.each_test else 1, steps))
        for index in range(1, steps):
            level[:, index] *= math.sqrt(1 - DRIFT_CORRELATION**2)
            level[:, index] += DRIFT_CORRELATION * level[:, index - 1]
        return self.drift.sd * np.delete(level, np.s_[sessions - 1 : -1], axis=1)


@dataclass(frozen=True)
class Invocation:
    """The values of a suite.

    Attributes:
        candidate: Shape (tests, series, runs).
        history: Shape (tests, series, records, runs), the newest record first.
        device: Number of the device of the candidate, and of each record.
    """

    candidate: FloatArray
    history: FloatArray
    device: list[int]


def judged(fleet: Fleet, answer: Callable[[Judged], BoolArray | bool]) -> Alarms:
    """Return the answers to a question about simulated invocations: one each, or one for each of some tests."""
    rule = Rule(tests=fleet.tests)

    def judge(invocation: Invocation) -> Judged:
        return judge_arrays(LAYOUT, invocation.candidate, invocation.history, rule, devices=invocation.device)

    def alarms(rng: np.random.Generator, repetitions: int) -> BoolArray:
        return np.concatenate([np.atleast_1d(answer(judge(fleet.draw(rng)))) for _ in range(repetitions)])

    return alarms
