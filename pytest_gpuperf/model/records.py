"""What was measured: frozen records, units in the names.

Schema history (``SCHEMA``, stored in every file):

1. first published: load points are closed-loop concurrencies, windows carry a histogram and the server's own times.
2. load points may be open-loop rates; windows tell late sends, stalls, service times, streams and single endpoints.
3. windows tell energy, memory, and what the GPUs said of themselves.

A reader accepts its own schema and every older one; a newer one is refused by name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pytest_gpuperf.model.arrivals import Arrivals
from pytest_gpuperf.model.histogram import Histogram, merged
from pytest_gpuperf.model.resources import Energy, GpuReadings, Memory

SCHEMA = 3

#: Version of how latency and throughput are measured. It is part of every key: a change of the method must never look
#: like a change of what it measures.
METHOD_VERSION = 1

#: Others' share of the CPU up to which a window counts as undisturbed. An idle Linux machine shows 1 to 3%; from about
#: a tenth on, the p90 of a model that uses half the cores was seen to move.
UNDISTURBED_CPU_SHARE = 0.10

#: Guards that mark a window, and don't speak against its place among the others: failures, lost servers and a load that
#: was too much are the target's own doing, and the load generator has the more to do the faster a target is. To leave
#: such windows out would be to choose by the result.
MARKS = frozenset({"client", "rate", "errors", "servers"})

Plain = str | int | float | bool | None
PlainMapping = Mapping[str, Plain]


@dataclass(frozen=True)
class LoadPoint:
    """One setting of the load.

    Attributes:
        concurrency: requests kept in flight (closed loop); 0 in open loop.
        batch_size: inferences carried by one request.
        rate: requests per second on average (open loop); 0 in closed loop.
        arrivals: how they are spread in time, as ``poisson``.
    """

    concurrency: int = 1
    batch_size: int = 1
    rate: float = 0.0
    arrivals: str = ""

    def __post_init__(self) -> None:
        if self.concurrency < 0 or self.batch_size < 1 or self.rate < 0 or (self.concurrency > 0) == (self.rate > 0):
            raise ValueError(f"a load point has a concurrency or a rate, and a batch size of 1 or more: {self}")

    @classmethod
    def open_loop(cls, arrivals: Arrivals, batch_size: int = 1) -> LoadPoint:
        """The load point of an arrival schedule."""
        return cls(0, batch_size, arrivals.rate, arrivals.label)

    @property
    def label(self) -> str:
        """How people read it, for example ``concurrency 4, batch 8`` or ``500/s poisson``."""
        batch = f", batch {self.batch_size}" if self.batch_size != 1 else ""
        load = f"concurrency {self.concurrency}" if self.concurrency else f"{self.rate:g}/s {self.arrivals}"
        return load + batch


@dataclass(frozen=True)
class ServerTimes:
    """Where the server says the time went, summed over the requests it finished between two readings.

    Source: the cumulative fields of Triton's statistics extension.

    Attributes:
        stages: of an ensemble: its steps, by model. The times above then hold what all steps took together.
    """

    requests: int
    executions: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    stages: Mapping[str, ServerTimes] = field(default_factory=dict)

    @property
    def total_ns(self) -> int:
        """Everything between the arrival of a request and its answer."""
        return self.queue_ns + self.compute_input_ns + self.compute_infer_ns + self.compute_output_ns

    def __add__(self, other: ServerTimes) -> ServerTimes:
        return self._with(other, operator.add)

    def __sub__(self, earlier: ServerTimes) -> ServerTimes:
        return self._with(earlier, operator.sub)

    def _with(self, other: ServerTimes, combine: Callable[[int, int], int]) -> ServerTimes:
        none = ServerTimes(0, 0, 0, 0, 0, 0)
        names = dict.fromkeys([*self.stages, *other.stages])
        return ServerTimes(
            combine(self.requests, other.requests),
            combine(self.executions, other.executions),
            combine(self.queue_ns, other.queue_ns),
            combine(self.compute_input_ns, other.compute_input_ns),
            combine(self.compute_infer_ns, other.compute_infer_ns),
            combine(self.compute_output_ns, other.compute_output_ns),
            {name: self.stages.get(name, none)._with(other.stages.get(name, none), combine) for name in names},
        )


@dataclass(frozen=True)
class EndpointFigures:
    """What one of several endpoints contributed to a window.

    Behind a balancer of its own nobody but the server sees which requests it answers. Then ``requests`` is the server's
    own count, over the window and the load around it; ``throughput`` is its share of the window's; and failures and
    latencies are not known: they read 0.
    """

    address: str
    requests: int
    errors: int
    throughput: float
    p50_ns: float
    p90_ns: float

    @property
    def seen(self) -> bool:
        """Whether failures and latencies are known."""
        return self.p50_ns > 0 or not self.requests


@dataclass(frozen=True)
class Window:
    """One timed stretch at one load point.

    A latency belongs to the window in which its request was *due*: sent, in closed loop, and scheduled, in open loop,
    so that a client or a queue that sends late is seen. Throughput counts a request by the share of its life that lies
    inside the window (``analysis.window`` has the reasons).

    Attributes:
        sweep: which sweep of the test it belongs to.
        visit: the how-manieth visit of this point in its run, from 0.
        window_s: length of the window.
        requests: requests sent in the window and answered correctly.
        errors: failed requests by type.
        throughput: inferences per second.
        latency_mean_ns: mean over ``requests``.
        latency: their histogram.
        client_cpu_s: CPU time that the load generator itself took during the window.
        stall_s: time during which the load generator was kept from its sockets.
        service: open loop: histogram of the times from sent to done, the wait before sending left out.
        late: open loop: requests sent more than 1 ms after they were due.
        lag_p99_ns: open loop: 99th percentile of how late requests were sent.
        first: of streams: histogram of the times to the first answer.
        answers: of streams: answers to the window's requests.
        endpoints: of several endpoints: the figures of each.
        server: the server's own times, where it gives them.
        others_cpu_share: share of the cores that processes other than ours took, 0 to 1, where the CPU is the device
            under test; None elsewhere.
        findings: what says that the window is not to be trusted, and what of it could not be read.
        energy: by device; empty where it can't be had.
        memory: peaks; None where nothing could be read.
        gpus: what the GPUs under test said of themselves.
        guards: the kinds of its findings, as ``throttled`` (``analysis.guard`` has all of them).
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
    client_cpu_s: float = 0.0
    stall_s: float = 0.0
    service: Histogram | None = None
    late: int = 0
    lag_p99_ns: float = 0.0
    first: Histogram | None = None
    answers: int = 0
    endpoints: tuple[EndpointFigures, ...] = ()
    server: ServerTimes | None = None
    others_cpu_share: float | None = None
    findings: tuple[str, ...] = ()
    energy: tuple[Energy, ...] = ()
    memory: Memory | None = None
    gpus: tuple[GpuReadings, ...] = ()
    guards: tuple[str, ...] = ()

    @property
    def disturbances(self) -> tuple[str, ...]:
        """The guards that come from outside the target."""
        return tuple(guard for guard in self.guards if guard not in MARKS)

    @property
    def cpu_contended(self) -> bool:
        """Somebody else took a noticeable share of the CPU."""
        return self.others_cpu_share is not None and self.others_cpu_share > UNDISTURBED_CPU_SHARE

    @property
    def undisturbed(self) -> bool:
        """Nothing from outside the target disturbed it."""
        return not self.disturbances and not self.cpu_contended

    @property
    def client_cpu_per_request_s(self) -> float:
        """What one request costs the load generator."""
        return self.client_cpu_s / self.requests if self.requests else 0.0

    @property
    def error_count(self) -> int:
        """Failed requests of all types."""
        return sum(self.errors.values())


@dataclass(frozen=True)
class Run:
    """One fresh start of the target, then windows over all load points. The unit of replication.

    Attributes:
        index: from 0, counted over the runs of its sweep.
        complete: all planned windows were measured.
        anchors: where the run was anchored: for each of ``windows`` the anchor's next to it.
    """

    sweep: str
    index: int
    startup_s: float
    warmup_s: float
    warmed_up: bool
    windows: tuple[Window, ...]
    complete: bool = True
    anchors: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        if self.anchors and len(self.anchors) != len(self.windows):
            raise ValueError(f"{len(self.windows)} windows have {len(self.anchors)} windows of the anchor beside them")


@dataclass(frozen=True)
class PointRun:
    """All windows of one load point in one run, taken together: one replicate of the point."""

    point: LoadPoint
    requests: int
    errors: int
    throughput: float
    latency_mean_ns: float
    latency: Histogram
    others_cpu_share: float


def point_windows(run: Run) -> dict[LoadPoint, list[Window]]:
    """The run's windows by load point, in order of first appearance.

    Disturbed windows are left out where the point has undisturbed ones: the guard looks at the machine and at others'
    use of it, never at the target's figures, so choosing by it favours no result.
    """
    gathered: dict[LoadPoint, list[Window]] = {}
    for window in run.windows:
        gathered.setdefault(window.point, []).append(window)
    return {point: [w for w in windows if w.undisturbed] or windows for point, windows in gathered.items()}


def windows_by_point(runs: Iterable[Run]) -> dict[LoadPoint, list[Window]]:
    """The windows of several runs of a sweep that its figures are made of, by load point."""
    found: dict[LoadPoint, list[Window]] = {}
    for run in runs:
        for point, own in point_windows(run).items():
            found.setdefault(point, []).extend(own)
    return found


def point_runs(run: Run) -> dict[LoadPoint, PointRun]:
    """The run's windows taken together by load point, as ``point_windows`` gives them."""
    return {point: gather(point, windows) for point, windows in point_windows(run).items()}


def gather(point: LoadPoint, windows: list[Window]) -> PointRun:
    """Windows of one load point taken together; throughput is weighted by time, latency by requests."""
    requests = sum(window.requests for window in windows)
    return PointRun(
        point=point,
        requests=requests,
        errors=sum(window.error_count for window in windows),
        throughput=sum(w.throughput * w.window_s for w in windows) / sum(w.window_s for w in windows),
        latency_mean_ns=sum(w.latency_mean_ns * w.requests for w in windows) / requests if requests else 0.0,
        latency=merged(window.latency for window in windows),
        others_cpu_share=sum(w.others_cpu_share or 0.0 for w in windows) / len(windows),
    )


@dataclass(frozen=True)
class Record:
    """k runs of one test in one ``pytest --gpuperf``: one file in the store.

    Attributes:
        id: unique, also the end of the file's name.
        invocation: shared by all tests of one pytest invocation.
        test: pytest's node id.
        key: what must match for two records to be comparable.
        status: ``complete``, or ``incomplete`` when the measurement was cut short.
        gate: ``passed``, ``failed`` or ``open`` (no baseline, or nothing could be compared).
        under_test: what was measured, by sweep: digests, versions, configuration. Never part of the key.
        environment: everything else that helps to explain a difference.
        settings: how it was measured.
        reference: of a duet: the other side's runs. Those of equal sweep and index were measured in alternation, and
            their windows pair by point and visit.
    """

    id: str
    invocation: str
    test: str
    created_utc: str
    key: PlainMapping
    status: str
    gate: str
    runs: tuple[Run, ...]
    commit: str = ""
    under_test: Mapping[str, PlainMapping] = field(default_factory=dict)
    environment: PlainMapping = field(default_factory=dict)
    settings: PlainMapping = field(default_factory=dict)
    reference: tuple[Run, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in ("complete", "incomplete"):
            raise ValueError(f"a record's status is complete or incomplete, not {self.status!r}")
        if self.gate not in ("passed", "failed", "open"):
            raise ValueError(f"a record's gate is passed, failed or open, not {self.gate!r}")

    @property
    def may_be_baseline(self) -> bool:
        """Whether it enters the baseline without anybody accepting it."""
        return self.status == "complete" and self.gate != "failed"
