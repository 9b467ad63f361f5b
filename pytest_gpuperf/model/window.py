"""Windows: the timed stretches of load that every figure is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_gpuperf.model.finding import MARKS, Finding
from pytest_gpuperf.model.histogram import Histogram, quantile_or_zero_ns
from pytest_gpuperf.model.load_point import LoadPoint
from pytest_gpuperf.model.resources import Energy, GpuReadings, Memory
from pytest_gpuperf.model.server_times import ServerTimes

#: Share of the CPU that other processes may take in an undisturbed window. An idle Linux machine shows 1 to 3%; from
#: about a tenth on, the p90 of a model that uses half the cores was seen to move.
UNDISTURBED_CPU_SHARE = 0.10


#: Type of failed requests without an answer until their deadline.
TIMEOUT = "timeout"


@dataclass(frozen=True)
class EndpointFigures:
    """Figures of one of several endpoints.

    Only the server knows which requests it answers when a balancer other than ours spreads them. Then ``requests`` is
    the server's own count over the window and the load around it, and ``throughput`` is the endpoint's share of the
    window's.

    Attributes:
        errors: Failed requests; 0 where they are unknown.
        throughput: Inferences per second.
        latency: Latency histogram; None where latencies and failures are unknown.
    """

    address: str
    requests: int
    errors: int
    throughput: float
    latency: Histogram | None = None

    @property
    def p50_ns(self) -> float:
        """Median latency; 0 where it is unknown."""
        return quantile_or_zero_ns(self.latency, 0.5)

    @property
    def p90_ns(self) -> float:
        """90th percentile of the latency; 0 where it is unknown."""
        return quantile_or_zero_ns(self.latency, 0.9)


@dataclass(frozen=True)
class Window:
    """One timed stretch at one load point.

    A latency belongs to the window in which its request was *due*: sent, in closed loop, and scheduled, in open loop,
    so that a delay in the client or in a queue before the server shows. Throughput counts a request by the share of its
    life that lies inside the window (``analysis.window`` gives the reasons).

    Attributes:
        visit: Zero-based index of the visit to this load point in its run.
        requests: Requests due in the window and answered correctly.
        errors: Failed requests, by type.
        throughput: Inferences per second.
        latency_mean_ns, latency: Mean latency of ``requests``, and its histogram.
        error_sentences: What the server said of them most often, by type, with the number of each sentence.
        client_cpu_s: CPU time of the load generator during the window.
        stall_s: Time during which the load generator could not serve its sockets.
        client_wait_s: Time in which the load generator was ready to run, but waited for a CPU.
        client_halted_s: Additional time in which it was due to run, but did not.
        client_stops: How often it was stopped and continued.
        service: Histogram of the times from sent to done (open loop), which excludes the wait before sending.
        late: Requests sent more than 1 ms after they were due (open loop).
        lag_p99_ns: 99th percentile of the delay between due and sent (open loop).
        first: Histogram of the times to the first answer (streams).
        answers: Answers to the window's requests (streams).
        endpoints: Figures of each endpoint, where there are several.
        server: The server's own times, where it reports them.
        others_cpu_share: Share of the cores, 0 to 1, that processes other than ours used; None unless the CPU is the
            device under test.
        caller_wait_share: Share of the time, 0 to 1, in which the thread that makes all calls was ready to run, but
            waited for a CPU; None unless a single thread makes and serves them.
        findings: What disturbed the window or could not be read.
        energy: Energy of each kind of device; empty where none could be measured.
        memory: Memory peaks; None where none could be read.
    """

    sweep: str
    point: LoadPoint
    visit: int
    window_s: float
    requests: int
    throughput: float
    latency_mean_ns: float
    latency: Histogram
    errors: Mapping[str, int] = field(default_factory=dict)
    error_sentences: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    client_cpu_s: float = 0.0
    stall_s: float = 0.0
    client_wait_s: float = 0.0
    client_halted_s: float = 0.0
    client_stops: int = 0
    service: Histogram | None = None
    late: int = 0
    lag_p99_ns: float = 0.0
    first: Histogram | None = None
    answers: int = 0
    endpoints: tuple[EndpointFigures, ...] = ()
    server: ServerTimes | None = None
    others_cpu_share: float | None = None
    caller_wait_share: float | None = None
    findings: tuple[Finding, ...] = ()
    energy: tuple[Energy, ...] = ()
    memory: Memory | None = None
    gpus: tuple[GpuReadings, ...] = ()

    @property
    def guards(self) -> tuple[str, ...]:
        """Guards that the findings raise, for example ``throttled``, each once."""
        return tuple(dict.fromkeys(finding.guard for finding in self.findings if finding.guard))

    @property
    def disturbances(self) -> tuple[str, ...]:
        """Guards whose cause lies outside the target."""
        return tuple(guard for guard in self.guards if guard not in MARKS)

    @property
    def cpu_contended(self) -> bool:
        """Whether other processes took a noticeable share of the CPU."""
        return self.others_cpu_share is not None and self.others_cpu_share > UNDISTURBED_CPU_SHARE

    @property
    def undisturbed(self) -> bool:
        """Whether nothing outside the target disturbed the window."""
        return not self.disturbances and not self.cpu_contended

    @property
    def client_cpu_per_request_s(self) -> float:
        """CPU time that the load generator spends on one request."""
        return self.client_cpu_s / self.requests if self.requests else 0.0

    @property
    def error_count(self) -> int:
        """Failed requests of all types."""
        return sum(self.errors.values())
