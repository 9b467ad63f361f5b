"""When requests are due in open loop: pure, seeded, on an absolute schedule.

An open loop sends by the clock, not by the answers, as independent users do. Each kind yields its instants without
end, in ns after the load's begin; the same description always yields the same instants.
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
    """Evenly spaced requests.

    Attributes:
        rate: requests per second.
    """

    rate: float

    def __post_init__(self) -> None:
        _positive("rate", self.rate)

    @property
    def label(self) -> str:
        return "constant"

    def instants(self) -> Iterator[int]:
        """Due times in ns, increasing, without end."""
        # Each from its number, so that no rounding adds up over a long window.
        return (int(number * 1e9 / self.rate) for number in itertools.count())


@dataclass(frozen=True)
class Poisson:
    """Requests that know nothing of each other: exponentially distributed intervals.

    Attributes:
        rate: requests per second, on average.
        seed: of the intervals.
    """

    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        _positive("rate", self.rate)

    @property
    def label(self) -> str:
        return f"poisson seed {self.seed}" if self.seed else "poisson"

    def instants(self) -> Iterator[int]:
        """Due times in ns, increasing, without end."""
        draw, at_s = random.Random(self.seed).expovariate, 0.0
        while True:
            at_s += draw(self.rate)
            yield int(at_s * 1e9)


@dataclass(frozen=True)
class Ramp:
    """A rate that changes linearly, and then stays.

    Attributes:
        start_rate, end_rate: requests per second.
        over_s: how long the change takes.
        hold_s: how long the first rate is held before.
        poisson: exponentially distributed intervals instead of even ones.
        seed: of the intervals.
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
            raise ValueError(f"hold_s is 0 or a positive number of seconds, not {self.hold_s}")

    @property
    def rate(self) -> float:
        """Requests per second, on average over the change."""
        return (self.start_rate + self.end_rate) / 2

    @property
    def label(self) -> str:
        kind = f" poisson seed {self.seed}" if self.poisson else ""
        held = f" after {self.hold_s:g} s" if self.hold_s else ""
        return f"ramp {self.start_rate:g} to {self.end_rate:g}/s over {self.over_s:g} s{held}{kind}"

    def instants(self) -> Iterator[int]:
        """Due times in ns, increasing, without end."""
        # The n-th request is due when the integral of the rate reaches n (or a unit Poisson process' n-th point).
        draw, mass = random.Random(self.seed).expovariate, 0.0
        held = self.start_rate * self.hold_s
        ramped = held + self.rate * self.over_s
        slope = (self.end_rate - self.start_rate) / self.over_s
        while True:
            if mass < held:
                at_s = mass / self.start_rate
            elif mass < ramped:
                more = mass - held
                root = math.sqrt(max(self.start_rate**2 + 2 * slope * more, 0.0))
                # Stable for every slope, zero included.
                at_s = self.hold_s + 2 * more / (self.start_rate + root)
            else:
                at_s = self.hold_s + self.over_s + (mass - ramped) / self.end_rate
            yield int(at_s * 1e9)
            mass += draw(1.0) if self.poisson else 1.0


@dataclass(frozen=True)
class Intervals:
    """Recorded intervals, replayed again and again.

    Attributes:
        intervals_ns: time from each request to the next.
        source: where they come from, for people.
    """

    intervals_ns: tuple[int, ...] = field(repr=False)
    source: str = ""

    def __post_init__(self) -> None:
        if not self.intervals_ns or min(self.intervals_ns) < 0 or not sum(self.intervals_ns):
            raise ValueError("intervals are 0 or more nanoseconds each, and not all 0")

    @classmethod
    def read(cls, path: Path) -> Intervals:
        """From a file as perf_client takes it: microseconds, one per line.

        Raises:
            ValueError: names the line that is no interval.
            OSError: the file can't be read.
        """
        found = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if text := line.strip():
                try:
                    found.append(int(float(text) * 1000))
                except (ValueError, OverflowError):
                    raise ValueError(f"{path}, line {number}: {text!r} is no interval in microseconds") from None
        try:
            return cls(tuple(found), path.name)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @property
    def rate(self) -> float:
        """Requests per second, on average."""
        return len(self.intervals_ns) / (sum(self.intervals_ns) / 1e9)

    @property
    def label(self) -> str:
        digest = hashlib.sha256(repr(self.intervals_ns).encode()).hexdigest()[:8]
        return f"intervals {self.source or 'given'} {digest}"

    def instants(self) -> Iterator[int]:
        """Due times in ns, increasing, without end."""
        at_ns = 0
        for interval_ns in itertools.cycle(self.intervals_ns):
            yield at_ns
            at_ns += interval_ns


Arrivals = Constant | Poisson | Ramp | Intervals


def reseeded(arrivals: Arrivals, number: int) -> Arrivals:
    """The same process once more, with other random intervals where it has any.

    Windows that all replayed one stretch of a Poisson process would all have that stretch's rate.
    """
    if isinstance(arrivals, Poisson | Ramp):
        return replace(arrivals, seed=arrivals.seed * 1_000_003 + number)
    return arrivals


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} is a positive number, not {value}")
