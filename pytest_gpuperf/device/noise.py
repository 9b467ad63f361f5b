"""The noise floor of a machine: the spread between windows of fixed work."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from pytest_gpuperf.clock import time
from pytest_gpuperf.device.contention import others_share, read_cpu

#: As long as the windows of a duet.
WINDOW_S = 0.3
#: Approximate length of a piece of work: short compared with a window, long compared with reading the clock.
_PIECE_S = 0.0005


@dataclass(frozen=True)
class Noise:
    """Result of a noise measurement.

    Attributes:
        spread: Standard deviation between windows of the duration of a piece of work, relative to its mean.
        stall_s: Longest delay of a piece beyond the typical duration.
        others_share: Share of the CPU that others used, 0 to 1; None if the kernel does not report it.
    """

    windows: int
    window_s: float
    spread: float
    stall_s: float
    others_share: float | None


def measure_noise(seconds: float = 10.0, window_s: float = WINDOW_S) -> Noise:
    """Keep one core busy with equal pieces of work, and time each piece.

    Args:
        seconds: Total duration; at least two windows are measured.
    """
    count = max(round(seconds / window_s), 2)
    loops = _calibrated()
    before = read_cpu()
    means, longest, typical = [], 0.0, []
    for _ in range(count):
        pieces = _window(loops, window_s)
        means.append(statistics.fmean(pieces))
        typical.append(statistics.median(pieces))
        longest = max(longest, *pieces)
    share = others_share(before, read_cpu())
    spread = statistics.stdev(means) / statistics.fmean(means)
    return Noise(count, window_s, spread, max(longest - statistics.median(typical), 0.0), share)


def _window(loops: int, window_s: float) -> list[float]:
    pieces = []
    clock = time.perf_counter
    begin = now = clock()
    while now - begin < window_s:
        _work(loops)
        after = clock()
        pieces.append(after - now)
        now = after
    return pieces


def _work(loops: int) -> int:
    value = 1
    for _ in range(loops):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
    return value


def _calibrated() -> int:
    """Return the number of loops for a piece, at the fastest observed speed."""
    loops = 1000
    best = min(_timed(loops) for _ in range(20))
    return max(int(loops * _PIECE_S / best), 1)


def _timed(loops: int) -> float:
    begin = time.perf_counter()
    _work(loops)
    return time.perf_counter() - begin
