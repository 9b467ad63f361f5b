"""Arrival processes: when requests are due in open loop.

An open loop sends by the clock, not by the answers, as independent users do. ``instants`` yields due times in ns after
the beginning of the load, increasing and without end; equal descriptions yield equal times.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Constant:
    """Evenly spaced requests, ``rate`` per second."""

    rate: float

    def __post_init__(self) -> None:
        _positive("rate", self.rate)

    @property
    def label(self) -> str:
        return "constant"

    def instants(self) -> Iterator[int]:
        # Each from its number, so that no rounding adds up over a long window.
        return (int(number * 1e9 / self.rate) for number in itertools.count())


@dataclass(frozen=True)
class Poisson:
    """Independent requests, ``rate`` per second on average: exponentially distributed intervals."""

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        _positive("rate", self.rate)

    @property
    def label(self) -> str:
        return f"poisson seed {self.seed}" if self.seed else "poisson"

    def instants(self) -> Iterator[int]:
        draw, at_s = random.Random(self.seed).expovariate, 0.0
        while True:
            at_s += draw(self.rate)
            yield int(at_s * 1e9)


@dataclass(frozen=True)
class Ramp:
    """A rate that changes linearly and then stays.

    Attributes:
        start_rate, end_rate: Requests per second.
        over_s: Duration of the change.
        hold_s: Time for which ``start_rate`` is held before the change.
        poisson: Whether intervals are exponentially distributed instead of even.
    """

    start_rate: float
    end_rate: float
    over_s: float
    hold_s: float = 0.0
    poisson: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _positive("start_rate", self.start_rate)
        _positive("end_rate", self.end_rate)
        _positive("over_s", self.over_s)
        if not (self.hold_s >= 0 and math.isfinite(self.hold_s)):
            raise ValueError(f"hold_s must be 0 or a positive number of seconds, not {self.hold_s}")

    @property
    def rate(self) -> float:
        """Mean requests per second during the change."""
        return (self.start_rate + self.end_rate) / 2

    @property
    def label(self) -> str:
        kind = f" poisson seed {self.seed}" if self.poisson else ""
        held = f" after {self.hold_s:g} s" if self.hold_s else ""
        return f"ramp {self.start_rate:g} to {self.end_rate:g}/s over {self.over_s:g} s{held}{kind}"

    def instants(self) -> Iterator[int]:
        # The n-th request is due when the integral of the rate reaches n (or a unit Poisson process' n-th point).
        draw, mass = random.Random(self.seed).expovariate, 0.0
        held = self.start_rate * self.hold_s
        ramped = held + self.rate * self.over_s
        slope = (self.end_rate - self.start_rate) / self.over_s
        while True:
            if mass < held:
                at_s = mass / self.start_rate
            elif mass < ramped:
                since_hold = mass - held
                root = math.sqrt(max(self.start_rate**2 + 2 * slope * since_hold, 0.0))
                # Stable for every slope, zero included.
                at_s = self.hold_s + 2 * since_hold / (self.start_rate + root)
            else:
                at_s = self.hold_s + self.over_s + (mass - ramped) / self.end_rate
            yield int(at_s * 1e9)
            mass += draw(1.0) if self.poisson else 1.0


@dataclass(frozen=True)
class Intervals:
    """Recorded intervals, replayed in a loop.

    Attributes:
        intervals_ns: Time from each request to the next.
        source: Readable origin of the intervals.
    """

    intervals_ns: tuple[int, ...] = field(repr=False)
    source: str = ""

    def __post_init__(self) -> None:
        if not self.intervals_ns or min(self.intervals_ns) < 0 or not sum(self.intervals_ns):
            raise ValueError("intervals must be 0 or more nanoseconds each, and not all 0")

    @classmethod
    def read(cls, path: Path) -> Intervals:
        """Read a file in perf_client's format: one interval in microseconds per line.

        Raises:
            ValueError: A line is not an interval; the message names it.
            OSError: The file can't be read.
        """
        intervals_ns = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if text := line.strip():
                try:
                    intervals_ns.append(int(float(text) * 1000))
                except (ValueError, OverflowError):
                    raise ValueError(f"{path}, line {number}: {text!r} is not an interval in microseconds") from None
        try:
            return cls(tuple(intervals_ns), path.name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @property
    def rate(self) -> float:
        """Mean requests per second."""
        return len(self.intervals_ns) / (sum(self.intervals_ns) / 1e9)

    @property
    def label(self) -> str:
        digest = hashlib.sha256(repr(self.intervals_ns).encode()).hexdigest()[:8]
        return f"intervals {self.source or 'given'} {digest}"

    def instants(self) -> Iterator[int]:
        at_ns = 0
        for interval_ns in itertools.cycle(self.intervals_ns):
            yield at_ns
            at_ns += interval_ns


Arrivals = Constant | Poisson | Ramp | Intervals


def reseed(arrivals: Arrivals, number: int) -> Arrivals:
    """Return the same process with other random intervals, if it has random intervals.

    Windows that replay the same stretch of a Poisson process would all have that stretch's rate.
    """
    if isinstance(arrivals, Poisson | Ramp):
        return replace(arrivals, seed=arrivals.seed * 1_000_003 + number)
    return arrivals


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive number, not {value}")
