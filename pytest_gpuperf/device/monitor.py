"""Reads devices and processes from a thread, and summarises them for each window."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pytest_gpuperf.clock import time
from pytest_gpuperf.device.device import Device
from pytest_gpuperf.device.meter import EnergyMeter, cpu_meter, gpu_meter, triton_meter
from pytest_gpuperf.device.nvml import Handle, Nvml
from pytest_gpuperf.device.processes import descendants, resident_bytes
from pytest_gpuperf.device.readings import (
    GpuReading,
    ProcessList,
    attempt,
    memory_of,
    read_gpu,
    summarize,
    within,
)
from pytest_gpuperf.device.triton_metrics import MetricsError, NoEnergyError, TritonMetrics
from pytest_gpuperf.errors import NvmlError
from pytest_gpuperf.model import Energy, Finding, Resources
from pytest_gpuperf.model.finding import COUNTER_RESET, ENERGY_UNKNOWN, METRICS_UNREADABLE, NO_READINGS, NVML

#: Time between readings of clocks, temperature and memory: several per short window, at well under 1% of a core.
INTERVAL_S = 0.1
#: Readings per list of processes, which is the most expensive reading; co-tenants stay longer.
_LIST_EVERY = 5
#: Time until a failed reading is tried again.
_RETRY_NS = 1_000_000_000
#: How long a reading may take when the monitor is closed.
_STOP_S = 10.0
#: Readings closer to an expected tick than this wait until it has come.
_QUIET_NS = 5_000_000
#: Duration of an idle power measurement, or a few ticks if that is longer.
_IDLE_S = 0.25
#: Slower counters are followed all the time, since the lead-in of a window can't wait for them.
_PATIENCE_NS = 500_000_000


class Monitor:
    """Reads devices from a thread.

    Args:
        devices: Devices under test; for the CPU only its energy and the memory of processes are read.
        interval_s: Time between readings.
        family: Process whose descendants are no co-tenants; this process when None.

    Raises:
        DeviceError: A GPU no longer exists, or NVML fails.
    """

    def __init__(self, devices: Sequence[Device], interval_s: float = INTERVAL_S, family: int | None = None) -> None:
        self._family = family or os.getpid()
        self._interval_ns = int(interval_s * 1e9)
        self._lock = threading.Lock()
        self._wake, self._news, self._closing = threading.Event(), threading.Event(), False
        self._nvml: Nvml | None = None
        self._handles: list[Handle] = []
        self._meters: list[EnergyMeter] = []
        self._metrics: TritonMetrics | None = None
        self._remote_meters: list[EnergyMeter] = []
        self._roots: tuple[int, ...] = ()
        self._known: set[int] = set()
        self._local = True
        self._forget()
        self.cpu_s = 0.0
        uuids = [device.id for device in devices if device.kind == "gpu"]
        with ExitStack() as undo:
            undo.callback(self.close)
            if uuids:
                self._nvml = Nvml()
                self._handles = [self._nvml.find(uuid) for uuid in uuids]
                self._meters += _complete([gpu_meter(handle) for handle in self._handles])
            self._meters += filter(None, [cpu_meter()])
            undo.pop_all()
        self._local_meters, self._local_handles = list(self._meters), list(self._handles)
        self._thread = threading.Thread(target=self._follow, name="gpuperf-monitor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. May be called twice."""
        self._closing = True
        self._news.set()
        self._wake.set()
        thread = getattr(self, "_thread", None)
        if thread is not None:
            # NVML may never return from a driver that hangs; the thread then ends with the process.
            thread.join(_STOP_S)
            if thread.is_alive():
                return
        if self._metrics is not None:
            self._metrics.close()
        if self._nvml is not None:
            self._nvml.close()

    @property
    def energy_method(self) -> str:
        """Methods of the meters, for example ``nvml-counter+rapl``; empty if no energy can be measured."""
        return "+".join(dict.fromkeys(meter.method for meter in self._meters))

    def attach(
        self, processes: Sequence[int], metrics_url: str | None, *, local: bool, device_ids: Sequence[str] = ()
    ) -> None:
        """Set the target that is measured next.

        Args:
            processes: Roots of the target's process trees.
            metrics_url: Metrics of a Triton server.
            local: Whether the target computes on this machine. If not, the devices here are not read.
            device_ids: The only devices to read, as in CUDA_VISIBLE_DEVICES; all when empty.
        """
        with self._lock:
            self._roots, self._local = tuple(processes), local
            self._known.update(processes)
            url = None if local else metrics_url
            followed = self._metrics is not None and self._meters is self._remote_meters
            if not followed or self._metrics is None or self._metrics.url != url:
                if self._metrics is not None:
                    self._metrics.close()
                self._metrics = TritonMetrics(url) if url is not None else None
                self._remote_meters = [triton_meter(self._metrics)] if self._metrics is not None else []
            handles = self._local_handles
            self._handles = [handle for handle in handles if not device_ids or any(map(handle.is_called, device_ids))]
            uuids = {handle.uuid for handle in self._handles}
            meters = [meter for meter in self._local_meters if not meter.uuid or meter.uuid in uuids]
            self._meters = meters if local else self._remote_meters

    def add_known_processes(self, processes: Sequence[int]) -> None:
        """Add roots of process trees that are neither the target nor co-tenants."""
        with self._lock:
            self._known.update(processes)

    def fit(self, window_s: float, lead_in_s: float, most_s: float) -> tuple[float, float]:
        """Return length and lead-in of a window that suits the energy counters.

        Args:
            most_s: Maximum length.
        """
        for meter in self._meters:
            window_s = meter.rhythm.window_s(window_s, most_s)
            if meter.rhythm.grid_ns <= _PATIENCE_NS:
                lead_in_s = max(lead_in_s, (meter.rhythm.grid_ns + 2 * meter.rhythm.tick_ns // 3) / 1e9)
        return window_s, lead_in_s

    def idle(self) -> None:
        """Measure the power of the idle devices; takes a moment if there are meters."""
        if not self._local_meters:
            return
        with self._lock:
            self._meters, self._handles = self._local_meters, self._local_handles
        length_ns = int(max(_IDLE_S, *(3.5 * meter.rhythm.grid_ns / 1e9 for meter in self._meters)) * 1e9)
        with self.watching():
            time.sleep(length_ns / 1e9)
        stop_ns = time.monotonic_ns()
        for meter in self._meters:
            span = meter.span(stop_ns - length_ns, stop_ns)
            meter.idle_w = span.power_w if span is not None else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take readings; earlier readings are forgotten."""
        with self._lock:
            self._forget()
            for meter in self._meters:
                meter.begin()
            self._list_processes = 0
            if self._local:
                self._learn_processes()
        self._news.set()
        self._wake.set()
        try:
            yield
        finally:
            if not self._follows_always:
                self._wake.clear()

    def window(self, start_ns: int, stop_ns: int) -> Resources:
        """Summarise the readings of a window, in ``time.monotonic_ns``, that lies within the last ``watching``."""
        with self._lock:
            if self._local:
                self._read(last=True)
            failures = list(self._failures)
            energies = []
            spans = {}
            for meter in self._meters:
                span = meter.span(start_ns, stop_ns) if id(meter) not in self._retry_ns else None
                if span is not None:
                    spans[meter.uuid] = span
                    share = (stop_ns - start_ns) / (span.stop_ns - span.start_ns)
                    energies.append(
                        Energy(
                            meter.source, meter.method, span.energy_j * share, span.error_j * share, idle_w=meter.idle_w
                        )
                    )
                elif meter.was_reset(start_ns, stop_ns):
                    failures.append(Finding(COUNTER_RESET))
                elif id(meter) not in self._retry_ns:
                    failures.append(Finding(ENERGY_UNKNOWN, names=(meter.method,)))
            readings = within(self._readings, start_ns, stop_ns)
            for handle in self._handles if self._local else ():
                if all(reading.uuid != handle.uuid for reading in readings):
                    failures.append(Finding(NO_READINGS, names=(str(handle.index),)))
            powers = {uuid: span.power_w for uuid, span in spans.items()}
            return Resources(
                energy=_by_source(energies, [meter.source for meter in self._meters]),
                memory=memory_of(self._readings, self._listed, self._host_bytes, self._tree),
                gpus=summarize(readings, powers, self._listed, self._ours),
                failures=tuple(dict.fromkeys(failures)),
            )

    @property
    def _follows_always(self) -> bool:
        return any(meter.rhythm.tick_ns > _PATIENCE_NS for meter in self._meters)

    def _forget(self) -> None:
        self._readings: list[GpuReading] = []
        self._listed: list[ProcessList] = []
        self._host_bytes: list[int] = []
        self._failures: list[Finding] = []
        self._tree: frozenset[int] = frozenset()
        self._ours: frozenset[int] = frozenset()
        self._strangers: set[int] = set()
        self._list_processes = 0
        self._next_ns = 0
        self._retry_ns: dict[int, int] = {}

    def _follow(self) -> None:
        begin_s = time.thread_time()
        while True:
            self._wake.wait()
            if self._closing:
                return
            with self._lock:
                due_ns = self._step()
            self.cpu_s = time.thread_time() - begin_s
            # Until a reading is due, or the target has changed.
            if self._news.wait(max((due_ns - time.monotonic_ns()) / 1e9, 0.0)):
                self._news.clear()

    def _step(self) -> int:
        """Take the readings that are due, and return the time of the next."""
        now_ns = time.monotonic_ns()
        due = [self._poll(meter, now_ns) for meter in self._meters]
        now_ns = time.monotonic_ns()
        soonest = min(due, default=self._next_ns)
        quiet = soonest - now_ns > _QUIET_NS or now_ns - self._next_ns > self._interval_ns // 2 or not due
        # A little early if the thread is awake for a tick anyway, since waking up costs the most.
        if now_ns >= self._next_ns - self._interval_ns // 4 and quiet:
            self._read()
            self._next_ns = now_ns + self._interval_ns
        elif now_ns >= self._next_ns:
            return soonest
        return min([self._next_ns, *due])

    def _poll(self, meter: EnergyMeter, now_ns: int) -> int:
        due_ns = max(meter.due_ns, self._retry_ns.get(id(meter), 0))
        if now_ns < due_ns:
            return due_ns
        try:
            meter.poll()
        except NvmlError as error:
            self._failed(id(meter), _nvml_failure(error))
        except NoEnergyError:
            self._retry_ns[id(meter)] = time.monotonic_ns() + _RETRY_NS
        except MetricsError as error:
            self._failed(id(meter), Finding(METRICS_UNREADABLE, detail=str(error)))
        return max(meter.due_ns, self._retry_ns.get(id(meter), 0))

    def _failed(self, source: int, failure: Finding) -> None:
        self._failures.append(failure)
        self._retry_ns[source] = time.monotonic_ns() + _RETRY_NS

    def _read(self, *, last: bool = False) -> None:
        """Read clocks, temperature and memory, and sometimes the processes."""
        now_ns = time.monotonic_ns()
        if not self._local:
            self._read_remote(now_ns)
            return
        host = resident_bytes(self._tree)
        if host is not None:
            self._host_bytes.append(host)
        listing = last or self._list_processes % _LIST_EVERY == 0
        self._list_processes += 1
        failed: list[NvmlError] = []
        for handle in self._handles:
            if now_ns < self._retry_ns.get(id(handle), 0):
                continue
            try:
                if not last:
                    self._readings.append(read_gpu(handle, now_ns, failed))
                if listing:
                    self._list(handle, failed)
            except NvmlError as error:
                self._failed(id(handle), _nvml_failure(error))
        self._failures += [_nvml_failure(error) for error in failed]

    def _list(self, handle: Handle, failed: list[NvmlError]) -> None:
        processes = attempt(lambda: handle.processes, failed)
        if processes is not None:
            self._listed.append(ProcessList(handle.uuid, processes))
            self._know(process.pid for process in processes)

    def _know(self, pids: Iterable[int]) -> None:
        """Learn the parents of unknown processes, which known processes may have started."""
        unknown = set(pids) - self._ours - self._strangers
        if unknown:
            self._learn_processes()
            self._strangers |= unknown - self._ours

    def _learn_processes(self) -> None:
        tree = descendants(self._roots)
        # The target may be in this process, from which other processes of the measurement descend as well.
        self._tree = tree - descendants(self._known & tree - set(self._roots))
        # Processes that have ended may still be listed.
        self._ours |= descendants([self._family, *self._known])

    def _read_remote(self, now_ns: int) -> None:
        if self._metrics is None or now_ns < self._retry_ns.get(id(self._metrics), 0):
            return
        try:
            for gpu in self._metrics.gpus():
                remote = GpuReading(
                    now_ns, gpu.uuid, utilization=gpu.utilization, power_w=gpu.power_w, used_bytes=gpu.used_bytes
                )
                self._readings.append(remote)
        except MetricsError as error:
            self._failed(id(self._metrics), Finding(METRICS_UNREADABLE, detail=str(error)))


def _nvml_failure(error: NvmlError) -> Finding:
    return Finding(NVML + error.kind, detail=str(error))


def _complete(meters: Sequence[EnergyMeter | None]) -> list[EnergyMeter]:
    """Return the meters if every GPU has one and all use one method; otherwise the total energy is unknown."""
    known = [meter for meter in meters if meter is not None]
    return known if len(known) == len(meters) and len({meter.method for meter in known}) == 1 else []


def _by_source(energies: Sequence[Energy], sources: Sequence[str]) -> tuple[Energy, ...]:
    """Add up the energy of the GPUs; none if that of a GPU is missing.

    Args:
        sources: Source of every meter.
    """
    gathered: dict[tuple[str, str], list[Energy]] = {}
    for energy in energies:
        gathered.setdefault((energy.source, energy.method), []).append(energy)
    return tuple(
        Energy(
            source,
            method,
            sum(energy.energy_j for energy in members),
            sum(energy.error_j for energy in members),
            _sum([energy.idle_w for energy in members]),
        )
        for (source, method), members in gathered.items()
        if len(members) == sources.count(source)
    )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
