"""Watches devices and processes from a thread, and says of any finished window what it took."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from pytest_gpuperf.device.device import Device
from pytest_gpuperf.device.meter import EnergyMeter, cpu_meter, gpu_meter, triton_meter
from pytest_gpuperf.device.nvml import Handle, Nvml
from pytest_gpuperf.device.processes import descendants, resident_bytes
from pytest_gpuperf.device.readings import (
    GpuReading,
    Listed,
    attempt,
    figures,
    memory_of,
    read_gpu,
    read_remote,
    within,
)
from pytest_gpuperf.device.triton_metrics import MetricsError, NoEnergyError, TritonMetrics
from pytest_gpuperf.errors import NvmlError
from pytest_gpuperf.model import Energy, Finding, Resources
from pytest_gpuperf.model.finding import COUNTER_RESET, ENERGY_UNKNOWN, METRICS_UNREADABLE, NO_READINGS, NVML

#: Readings of clocks, temperature and memory: often enough for several in a short window, at well under 1% of a core.
INTERVAL_S = 0.1
#: Listing processes is the dearest reading, and co-tenants stay for longer.
_LIST_EVERY = 5
#: A reading that failed is tried again after this.
_RETRY_NS = 1_000_000_000
#: What comes closer to a tick than this waits until the tick is there.
_QUIET_NS = 5_000_000
#: Idle power is read over so long, or a few ticks.
_IDLE_S = 0.25
#: Slower counters are followed all the time: a window's lead-in can't wait for them.
_PATIENCE_NS = 500_000_000


class Monitor:
    """Meters, readings and the thread that takes them.

    Args:
        devices: under test; the CPU has its energy and its processes' memory alone.
        interval_s: between readings.
        family: a process whose descendants are no co-tenants; this one when None.

    Raises:
        DeviceError: a GPU is not there any more, or NVML doesn't work.
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
        self._own_meters, self._own_handles = list(self._meters), list(self._handles)
        self._thread = threading.Thread(target=self._follow, name="gpuperf-monitor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """May be called twice."""
        self._closing = True
        self._news.set()
        self._wake.set()
        thread = getattr(self, "_thread", None)
        if thread is not None:
            thread.join()
        if self._metrics is not None:
            self._metrics.close()
        if self._nvml is not None:
            self._nvml.close()

    @property
    def energy_method(self) -> str:
        """As ``nvml-counter+rapl``; empty where no energy can be had."""
        return "+".join(dict.fromkeys(meter.method for meter in self._meters))

    def attach(
        self, processes: Sequence[int], metrics_url: str | None, *, local: bool, places: Sequence[str] = ()
    ) -> None:
        """What is measured next.

        Args:
            processes: roots of the target's process trees.
            metrics_url: of a Triton server.
            local: it computes on this machine; the devices here say nothing of one that doesn't.
            places: those of the devices that it computes on, as CUDA_VISIBLE_DEVICES names them; all when empty. What
                the others take is none of its business.
        """
        with self._lock:
            self._roots, self._local = tuple(processes), local
            self._known.update(processes)
            wanted = None if local else metrics_url
            followed = self._metrics is not None and self._meters is self._remote_meters
            if not followed or self._metrics is None or self._metrics.url != wanted:
                if self._metrics is not None:
                    self._metrics.close()
                self._metrics = TritonMetrics(wanted) if wanted is not None else None
                self._remote_meters = [triton_meter(self._metrics)] if self._metrics is not None else []
            handles = self._own_handles
            self._handles = [one for one in handles if not places or any(map(one.is_called, places))]
            uuids = {one.uuid for one in self._handles}
            own = [one for one in self._own_meters if not one.uuid or one.uuid in uuids]
            self._meters = own if local else self._remote_meters

    def beside(self, processes: Sequence[int]) -> None:
        """Roots of process trees that are ours and not the target's: no co-tenants, and no part of its memory."""
        with self._lock:
            self._known.update(processes)

    def fit(self, window_s: float, lead_in_s: float, most_s: float) -> tuple[float, float]:
        """Length and lead-in of a window that suits the energy counters.

        Args:
            most_s: windows are not lengthened beyond.
        """
        for meter in self._meters:
            window_s = meter.rhythm.window_s(window_s, most_s)
            if meter.rhythm.grid_ns <= _PATIENCE_NS:
                lead_in_s = max(lead_in_s, (meter.rhythm.grid_ns + 2 * meter.rhythm.tick_ns // 3) / 1e9)
        return window_s, lead_in_s

    def idle(self) -> None:
        """Measure the power of devices that nothing is asked of; takes a moment where there are meters."""
        if not self._own_meters:
            return
        with self._lock:
            self._meters, self._handles = self._own_meters, self._own_handles
        length_ns = int(max(_IDLE_S, *(3.5 * meter.rhythm.grid_ns / 1e9 for meter in self._meters)) * 1e9)
        with self.watching():
            time.sleep(length_ns / 1e9)
        stop_ns = time.monotonic_ns()
        for meter in self._meters:
            span = meter.span(stop_ns - length_ns, stop_ns)
            meter.idle_w = span.power_w if span is not None else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take readings; what was read before is forgotten."""
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
        """What a window took, on ``time.monotonic_ns``; it has to lie in the latest ``watching``."""
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
                if all(one.uuid != handle.uuid for one in readings):
                    failures.append(Finding(NO_READINGS, names=(str(handle.index),)))
            powers = {uuid: span.power_w for uuid, span in spans.items()}
            return Resources(
                energy=_by_source(energies, [meter.source for meter in self._meters]),
                memory=memory_of(self._readings, self._listed, self._host_bytes, self._tree),
                gpus=figures(readings, powers, self._listed, self._ours),
                failures=tuple(dict.fromkeys(failures)),
            )

    @property
    def _follows_always(self) -> bool:
        return any(meter.rhythm.tick_ns > _PATIENCE_NS for meter in self._meters)

    def _forget(self) -> None:
        self._readings: list[GpuReading] = []
        self._listed: list[Listed] = []
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
            # Until something is due, or what is to be watched has changed.
            if self._news.wait(max((due_ns - time.monotonic_ns()) / 1e9, 0.0)):
                self._news.clear()

    def _step(self) -> int:
        """Read what is due; when the next reading is."""
        now_ns = time.monotonic_ns()
        due = [self._poll(meter, now_ns) for meter in self._meters]
        now_ns = time.monotonic_ns()
        soonest = min(due, default=self._next_ns)
        quiet = soonest - now_ns > _QUIET_NS or now_ns - self._next_ns > self._interval_ns // 2 or not due
        # A little early where the thread is awake for a tick anyway: waking up is the dearest part.
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
        """Clocks, temperature, memory; processes now and then."""
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
            self._listed.append(Listed(handle.uuid, processes))
            self._know(one.pid for one in processes)

    def _know(self, pids: Iterable[int]) -> None:
        """Processes that we have not seen may have been started by ours meanwhile."""
        strange = set(pids) - self._ours - self._strangers
        if strange:
            self._learn_processes()
            self._strangers |= strange - self._ours

    def _learn_processes(self) -> None:
        tree = descendants(self._roots)
        # The target may be in this process, from which others of ours descend as well.
        self._tree = tree - descendants(self._known & tree - set(self._roots))
        # Those that have ended may still be listed.
        self._ours |= descendants([self._family, *self._known])

    def _read_remote(self, now_ns: int) -> None:
        if self._metrics is None or now_ns < self._retry_ns.get(id(self._metrics), 0):
            return
        try:
            self._readings += read_remote(self._metrics, now_ns)
        except MetricsError as error:
            self._failed(id(self._metrics), Finding(METRICS_UNREADABLE, detail=str(error)))


def _nvml_failure(error: NvmlError) -> Finding:
    return Finding(NVML + error.kind, detail=str(error))


def _complete(meters: Sequence[EnergyMeter | None]) -> list[EnergyMeter]:
    """The meters, if every GPU has one and all are of one method: of a part, no energy of all can be told."""
    own = [meter for meter in meters if meter is not None]
    return own if len(own) == len(meters) and len({meter.method for meter in own}) == 1 else []


def _by_source(energies: Sequence[Energy], wanted: Sequence[str]) -> tuple[Energy, ...]:
    """The GPUs' together; none of them where one is missing.

    Args:
        wanted: the source of every meter.
    """
    found: dict[tuple[str, str], list[Energy]] = {}
    for one in energies:
        found.setdefault((one.source, one.method), []).append(one)
    return tuple(
        Energy(
            source,
            method,
            sum(one.energy_j for one in own),
            sum(one.error_j for one in own),
            sum(one.idle_w or 0.0 for one in own) if all(one.idle_w is not None for one in own) else None,
        )
        for (source, method), own in found.items()
        if len(own) == wanted.count(source)
    )
