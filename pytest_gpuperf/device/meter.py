"""Energy meters: each measures the energy of one device over an interval, by one method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from pytest_gpuperf.clock import time
from pytest_gpuperf.device.counter import CATCH_NS, Follower, Rhythm, Span, between, integrated, rhythm_of
from pytest_gpuperf.device.nvml import Handle
from pytest_gpuperf.device.rapl import Rapl
from pytest_gpuperf.device.triton_metrics import TritonMetrics
from pytest_gpuperf.errors import NvmlError
from pytest_gpuperf.model.resources import NVML_COUNTER, NVML_POWER, RAPL, TRITON_COUNTER

#: Time between power readings: sensors move every 10 to 100 ms, so more readings would add nothing.
_GAUGE_NS = 25_000_000
#: RAPL moves about every millisecond.
_RAPL_SLACK_NS = 1_000_000
#: Time between requests for a server's metrics, which are part of its load.
_METRICS_NS = 50_000_000
#: Assumed until ticks were observed.
_TRITON_RHYTHM = Rhythm(2_000_000_000, _METRICS_NS // 2)
#: The slowest counter that is awaited at start-up moves every 0.2 s.
_CALIBRATION_S = 1.0
_CALIBRATION_TICKS = 6


@dataclass
class CounterMeter:
    """Measures energy by an energy counter.

    Attributes:
        source: ``gpu`` or ``cpu``.
        method: Method as in ``Energy``.
        uuid: UUID of the GPU; empty for a CPU and for all GPUs of a server.
        usual: Rhythm until that of the counter is known.
        keeps: Whether readings are kept when a window begins.
        idle_w: Power before the run; None until it is measured.
    """

    source: str
    method: str
    uuid: str
    follower: Follower
    usual: Rhythm
    keeps: bool = False
    idle_w: float | None = None

    @property
    def due_ns(self) -> int:
        """Time of the next reading."""
        return self.follower.due_ns

    @property
    def rhythm(self) -> Rhythm:
        """Rhythm of the ticks, to which windows are fitted."""
        return self.follower.rhythm or rhythm_of(self.follower.ticks) or self.usual

    def begin(self) -> None:
        """Forget all readings."""
        if self.keeps:
            del self.follower.ticks[:-64]
        else:
            self.follower.forget()

    def poll(self) -> None:
        """Read the meter; may raise ``NvmlError`` or ``MetricsError``."""
        self.follower.poll(time.monotonic_ns)

    def span(self, start_ns: int, stop_ns: int) -> Span | None:
        """Return the energy of an interval; None if it is unknown."""
        return None if self.was_reset(start_ns, stop_ns) else between(self.follower.ticks, start_ns, stop_ns)

    def was_reset(self, start_ns: int, stop_ns: int) -> bool:
        """Return whether the counter went back during the interval."""
        # The first reading after a reset shows it, and the interval begins up to a tick before the window.
        around_ns = max(self.rhythm.grid_ns, 1)
        return any(start_ns - around_ns <= at <= stop_ns + around_ns for at in self.follower.reset_ns)


@dataclass
class GaugeMeter:
    """Measures energy by readings of the power; in all else like ``CounterMeter``."""

    uuid: str
    read: Callable[[], float]
    tick_ns: int = 0
    source: str = "gpu"
    method: str = NVML_POWER
    idle_w: float | None = None
    due_ns: int = 0
    samples: list[tuple[int, float]] = field(default_factory=list)

    @property
    def rhythm(self) -> Rhythm:
        # Power between two readings is unknown; half of that time is uncertain at each edge.
        return Rhythm(0, max(self.tick_ns, _GAUGE_NS) // 2)

    def begin(self) -> None:
        self.samples, self.due_ns = [], 0

    def poll(self) -> None:
        begin_ns = time.monotonic_ns()
        watts = self.read()
        end_ns = time.monotonic_ns()
        self.samples.append(((begin_ns + end_ns) // 2, watts))
        self.due_ns = end_ns + _GAUGE_NS

    def span(self, start_ns: int, stop_ns: int) -> Span | None:
        return integrated(self.samples, start_ns, stop_ns, self.tick_ns)

    def was_reset(self, start_ns: int, stop_ns: int) -> bool:  # noqa: ARG002
        return False


EnergyMeter = CounterMeter | GaugeMeter


def gpu_meter(handle: Handle) -> EnergyMeter | None:
    """Return the best meter for a GPU; None if it reports neither energy nor power.

    Takes until the counter has moved a few times.

    Raises:
        NvmlError: The GPU can't be read.
    """
    if handle.slot is not None:
        return None  # the share of a slice in its board's energy is unknown
    if handle.energy_j is not None:
        follower = Follower(lambda: _required(handle.energy_j, "energy"))
        rhythm = _calibrated(follower)
        if rhythm is None:
            return None
        follower.rhythm = rhythm
        return CounterMeter("gpu", NVML_COUNTER, handle.uuid, follower, rhythm)
    if handle.power_w is not None:
        return GaugeMeter(handle.uuid, lambda: _required(handle.power_w, "power"), _power_tick_ns(handle))
    return None


def _required(value: float | None, what: str) -> float:
    if value is None:
        raise NvmlError("not_supported", f"The device no longer reports its {what}")
    return value


def _calibrated(follower: Follower) -> Rhythm | None:
    """Return the rhythm of the counter; None if it does not move."""
    end = time.monotonic() + _CALIBRATION_S
    while len(follower.ticks) < _CALIBRATION_TICKS and time.monotonic() < end:
        follower.poll(time.monotonic_ns)
        time.sleep(CATCH_NS / 2e9)
    # The instant of the first tick is as exact as the others; only the time before it is not a whole tick.
    return rhythm_of(follower.ticks)


def _power_tick_ns(handle: Handle) -> int:
    """Return the shortest time between two changes of the power reading; 0 if it does not change."""
    changes: list[int] = []
    last = handle.power_w
    end = time.monotonic() + _CALIBRATION_S / 2
    while len(changes) < _CALIBRATION_TICKS and time.monotonic() < end:
        time.sleep(CATCH_NS / 1e9)
        now = handle.power_w
        if now != last:
            changes.append(time.monotonic_ns())
            last = now
    return min((b - a for a, b in pairwise(changes)), default=0)


def cpu_meter() -> EnergyMeter | None:
    """Return the RAPL meter; None if RAPL can't be read."""
    rapl = Rapl.find()
    if rapl is None:
        return None
    rhythm = Rhythm(0, _RAPL_SLACK_NS)

    def read() -> float:
        return _required(rapl.energy_j(), "energy")

    return CounterMeter("cpu", RAPL, "", Follower(read, rhythm=rhythm), rhythm)


def triton_meter(metrics: TritonMetrics) -> EnergyMeter:
    """Return a meter for all GPUs of a server. Its ticks are too slow for start-up, so it is followed all the time."""
    follower = Follower(metrics.energy_j, _METRICS_NS)
    return CounterMeter("gpu", TRITON_COUNTER, "", follower, _TRITON_RHYTHM, keeps=True)
