"""The settings of one ``gpuperf sweep``."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Arrivals, Constant, Intervals, LoadPoint, Poisson, Tls
from pytest_gpuperf.targets.kserve import Sequences

CONCURRENCY, REQUEST_RATE, INTERVALS = "concurrency", "request_rate", "intervals"

#: Load before each window: a share of the window, as perf_client has it, up to a maximum.
_LEAD_IN_SHARE, _LEAD_IN_MAX_S = 0.2, 1.0

#: Yields the next load (a concurrency or a rate) and is sent whether the load keeps the latency threshold (None if that
#: is unclear). A search returns the highest load that keeps it.
LoadSequence = Generator[float, "bool | None", "float | None"]


@dataclass(frozen=True)
class SteppedRange:
    """The loads of a sweep: concurrencies, or rates in requests per second.

    Attributes:
        end: Last load; 0 for a sweep that continues until the latency threshold is exceeded.
    """

    start: float = 1
    end: float = 1
    step: float = 1

    @property
    def single(self) -> bool:
        return self.start == self.end

    def linear(self) -> LoadSequence:
        """Go from start to end, or until a load clearly exceeds the latency threshold."""
        load, number = self.start, 0
        # With a margin, because rounding could drop the last of fractional rates.
        while not self.end or load <= self.end + self.step * 1e-9:
            if (yield load) is False:
                return None
            number += 1
            load = self.start + number * self.step
        return None

    def bisected(self, *, integers: bool) -> LoadSequence:
        """Search as perf_client does: both ends, then halve the range until it is at most a step wide.

        An unclear load counts as over the threshold, so the result is a load that is known to keep it.

        Args:
            integers: Choose whole numbers only.
        """
        if (yield self.start) is not True:
            return None
        if (yield self.end) is True:
            return self.end
        low, high = self.start, self.end
        while high - low > self.step:
            middle = math.floor((low + high) / 2) if integers else (low + high) / 2
            if (yield middle) is True:
                low = middle
            else:
                high = middle
        return low


@dataclass(frozen=True)
class RecordSettings:
    """Destination and description of the record that ``gpuperf sweep`` stores.

    Attributes:
        store: URL of the store.
        test: Name of the test; the model's name when empty.
        commit: Hash of the commit under test; the checked-out one when empty.
        device: Device of this machine that the server computes on, as ``--gpuperf-device`` names it.
        gpu: Name of the GPU of another machine, instead of ``device``.
    """

    store: str
    test: str = ""
    commit: str = ""
    device: str = ""
    gpu: str = ""


@dataclass(frozen=True)
class SweepSettings:
    """The settings of one ``gpuperf sweep``. The defaults are perf_client's.

    Attributes:
        mode: ``concurrency``, ``request_rate`` or ``intervals``.
        intervals: Recorded intervals, in the mode ``intervals``.
        window_s: Length of a window; the shortest length in count windows.
        window_requests: Fewest requests in a window; 0 in time windows.
        request_count: Number of requests to send instead of windows; 0 for windows.
        warmup_count: Number of requests sent before each level and not counted.
        tolerance: Largest difference between stable windows, as a share.
        trials: Number of windows after which a level counts as unstable.
        percentile: Percentile of the latency that must be stable; None for the mean.
        threshold_ms: Latency that ends the sweep, or that the binary search looks for; 0 for none.
        input_data: ``random``, ``zero``, a directory or JSON files.
        trace: Triton's trace settings of the model during the sweep.
        deadline_s: Longest time to wait for an answer; a later answer is an error.
        record: Where the sweep is stored; None if it is not.
        ignored: Flags that have no effect, with the reason.
    """

    model: str
    version: str = ""
    urls: tuple[str, ...] = ("localhost:8000",)
    protocol: str = "http"
    streaming: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: Tls | None = None
    batch_size: int = 1
    mode: str = CONCURRENCY
    levels: SteppedRange = SteppedRange()
    poisson: bool = False
    intervals: Intervals | None = None
    binary_search: bool = False
    window_s: float = 5.0
    window_requests: int = 0
    request_count: int = 0
    warmup_count: int = 0
    tolerance: float = 0.10
    trials: int = 10
    percentile: float | None = None
    threshold_ms: float = 0.0
    input_data: tuple[str, ...] = ("random",)
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    string_length: int = 128
    string_data: str | None = None
    parameters: Mapping[str, str | int | bool] = field(default_factory=dict)
    sequences: Sequences = field(default_factory=Sequences)
    input_tensor_format: str = "binary"
    output_tensor_format: str = "binary"
    composing_models: tuple[str, ...] = ()
    trace: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    shared_memory: str = "none"
    output_bytes: int = 102_400
    seed: int = 0
    workers: int = 1
    deadline_s: float = 60.0
    verbose: bool = False
    csv: Path | None = None
    verbose_csv: bool = False
    profile_export: Path | None = None
    record: RecordSettings | None = None
    ignored: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        self._check_levels()
        if self.streaming and self.protocol != "grpc":
            raise OptionError("--streaming needs gRPC: write -i grpc, and the server's gRPC port with -u.")
        if 0 < self.request_count < self._busiest:
            raise OptionError(
                f"--request-count {self.request_count} is less than the highest concurrency, {self._busiest:g}; "
                "send at least that many requests."
            )
        kinds = {data for data in self.input_data if data in ("random", "zero")}
        if len(self.input_data) > 1 and kinds:
            raise OptionError(f"--input-data {kinds.pop()} can't be mixed with other input data.")

    def _check_levels(self) -> None:
        flag = "--concurrency-range" if self.mode == CONCURRENCY else "--request-rate-range"
        levels = self.levels
        if levels.end and levels.end < levels.start:
            raise OptionError(f"{flag} ends at {levels.end:g}, below its start, {levels.start:g}.")
        if not levels.end and not self.threshold_ms:
            raise OptionError(
                f"{flag} with the end 0 continues until the latency threshold is exceeded: write a threshold with -l."
            )
        if self.binary_search:
            if self.mode == INTERVALS:
                raise OptionError("--binary-search needs a range: --concurrency-range or --request-rate-range.")
            if not levels.end or levels.single:
                raise OptionError(f"--binary-search needs a start and an end: {flag} START:END[:STEP].")
            if not self.threshold_ms:
                raise OptionError("--binary-search needs a latency threshold: write it with -l, in ms.")

    @property
    def _busiest(self) -> float:
        return max(self.levels.start, self.levels.end) if self.mode == CONCURRENCY else 0

    @property
    def counted_windows(self) -> int:
        """The number of windows that make up a level's figures: the newest ones."""
        return 1 if self.request_count else 3

    @property
    def lead_in_s(self) -> float:
        """Time that the load runs before each window."""
        return min(_LEAD_IN_SHARE * self.window_s, _LEAD_IN_MAX_S)

    @property
    def open_loop(self) -> bool:
        return self.mode != CONCURRENCY

    @property
    def most_in_flight(self) -> int:
        """The highest concurrency of the range; 0 if it is unknown or in open loop."""
        return int(self.levels.end) if self.mode == CONCURRENCY else 0

    def loads(self) -> LoadSequence:
        """Return the loads in the order of their measurement."""
        if self.binary_search:
            return self.levels.bisected(integers=self.mode == CONCURRENCY)
        return self.levels.linear()

    def arrivals(self, load: float) -> Arrivals | None:
        """Return the schedule of a level's requests; None in closed loop."""
        if self.mode == CONCURRENCY:
            return None
        if self.intervals is not None:
            return self.intervals
        return Poisson(load, self.seed) if self.poisson else Constant(load)

    def point(self, load: float) -> LoadPoint:
        """Return the load point of a level."""
        arrivals = self.arrivals(load)
        if arrivals is None:
            return LoadPoint(int(load), self.batch_size)
        return LoadPoint.open_loop(arrivals, self.batch_size)


def window_arrivals(arrivals: Arrivals, window: int, span_s: float) -> Arrivals:
    """Return the schedule of a level's n-th window, which continues that of the window before.

    Random intervals get a seed of their own. Recorded intervals continue where the window before ended, and start again
    at their end.

    Args:
        window: Zero-based index of the window.
        span_s: Length of each window before.
    """
    if isinstance(arrivals, Poisson):
        # Seeds far apart, so that sweeps with neighbouring --seed have no window in common.
        return Poisson(arrivals.rate, arrivals.seed + 1_000_003 * window)
    if isinstance(arrivals, Intervals):
        intervals = arrivals.intervals_ns
        begin_ns, first = window * span_s * 1e9 % sum(intervals), 0
        while begin_ns > intervals[first]:
            begin_ns -= intervals[first]
            first += 1
        return Intervals(intervals[first:] + intervals[:first], arrivals.source)
    return arrivals
