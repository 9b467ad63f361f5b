"""Compare the load generator with perf_client and wrk: on the same real server, in turns within the same minute.

::

    python -m benchmarks.load_generator --perf-client path/to/perf_client      # see docs/numbers.md
    python -m benchmarks.load_generator --only http,grpc --turns 5
    python -m benchmarks.load_generator --only memory                          # ten million requests: some minutes

Every figure is the median over the turns; every ratio is the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.identity_server import IdentityServer, identity_server
from pytest_gpuperf.analysis.window import window_figures
from pytest_gpuperf.load import Recording, WindowSpec, open_generator
from pytest_gpuperf.model import Address, Constant, Poisson, Request, WireWorkload
from pytest_gpuperf.targets.kserve import KServeEndpoint, StartedEndpoint

WINDOW_S = 2.0
SECTIONS = ("http", "grpc", "image", "open", "stall", "deep", "memory")


@dataclass(frozen=True)
class Figures:
    """The figures of a client in a turn; the CPU time is the client's, per request."""

    p50_us: float
    throughput: float
    cpu_us: float


@dataclass(frozen=True)
class Case:
    """A row of the table: the load, the clients, and the limits of their ratios.

    Attributes:
        wanted: Limits of the ratios: upper ones of ``p50_us`` and ``cpu_us``, lower ones of ``throughput``.
    """

    label: str
    ours: Callable[[], Figures]
    peer: str
    theirs: Callable[[], Figures]
    wanted: dict[str, float]


def measured(running: StartedEndpoint, concurrency: int) -> Figures:
    workload = running.workload(1, concurrency)
    with closing(open_generator(workload)) as generator:
        generator.window(workload, WindowSpec(concurrency, 0.3))
        recording = generator.window(workload, WindowSpec(concurrency, WINDOW_S))
    assert not recording.errors, recording.error_sample
    window = window_of(recording)
    return Figures(window.latency.quantile_ns(0.5) / 1e3, window.throughput, recording.cpu_s / window.requests * 1e6)


def window_of(recording: Recording):  # type: ignore[no-untyped-def]
    lanes = [(lane.due_ns, lane.sent_ns, lane.done_ns) for lane in recording.lanes]
    return window_figures(lanes, recording.start_ns, recording.stop_ns, 1)


class PerfClient:
    """Run perf_client; its CPU time is divided by the requests that the server counted."""

    def __init__(self, binary: Path, address: str, model: str, protocol: str, counted: StartedEndpoint) -> None:
        self._command = [str(binary), "-m", model, "-u", address, "-i", protocol, "--input-data", "zero"]
        self._command += ["-p", str(int(WINDOW_S * 500)), "-s", "50"]
        self._counted = counted

    def __call__(self, concurrency: int, *more: str) -> Figures:
        before, requests = os.times(), self._requests()
        command = [*self._command, "--concurrency-range", str(concurrency), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = os.times()
        text = done.stdout + done.stderr
        p50 = re.search(r"p50 latency: (\d+) usec", text)
        rate = re.search(r"throughput: ([\d.]+) infer/sec", text)
        if not (p50 and rate):
            raise SystemExit(f"perf_client gave no figures:\n{text}")
        cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
        return Figures(float(p50[1]), float(rate[1]), cpu_s / (self._requests() - requests) * 1e6)

    def _requests(self) -> int:
        times = self._counted.server_times()
        assert times is not None
        return times.requests


def wrk(server: IdentityServer, workload: WireWorkload, concurrency: int) -> Figures:
    """Run wrk at its best: a single thread, the same bytes."""
    request = workload.rotations[0][0]
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder) / "body", Path(folder) / "post.lua"
        body.write_bytes(request.body)
        headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in request.headers)
        script.write_text(f'local f = io.open("{body}", "rb")\nwrk.method = "POST"\nwrk.body = f:read("*a")\n{headers}')
        command = ["wrk", "-t1", f"-c{concurrency}", f"-d{int(WINDOW_S)}s", "--latency", "-s", str(script)]
        before = os.times()
        done = subprocess.run(
            [*command, f"http://{server.http}{workload.path}"], capture_output=True, text=True, check=True
        )
        after = os.times()
    p50 = re.search(r"50%\s+([\d.]+)(us|ms)", done.stdout)
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout), re.search(r"(\d+) requests in", done.stdout)
    if not (p50 and rate and count) or "Non-2xx" in done.stdout:
        raise SystemExit(f"wrk gave no figures:\n{done.stdout}")
    cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
    return Figures(float(p50[1]) * (1 if p50[2] == "us" else 1000), float(rate[1]), cpu_s / float(count[1]) * 1e6)


def compare(cases: list[Case], turns: int) -> None:
    print("\n| case | client | p50 us | requests/s | client CPU us/request |")
    print("|---|---|---:|---:|---:|")
    for case in cases:
        found: dict[str, list[Figures]] = {"ours": [], case.peer: []}
        for turn in range(turns):
            order = [("ours", case.ours), (case.peer, case.theirs)]
            for name, run in order if turn % 2 == 0 else reversed(order):
                found[name].append(run())
        for name, runs in found.items():
            p50, rate, cpu = (middle(runs, field) for field in ("p50_us", "throughput", "cpu_us"))
            print(f"| {case.label} | {name} | {p50:.0f} | {rate:.0f} | {cpu:.1f} |")
        cells = []
        for field in ("p50_us", "throughput", "cpu_us"):
            pairs = zip(found["ours"], found[case.peer], strict=True)
            ratio = statistics.median(getattr(a, field) / getattr(b, field) for a, b in pairs)
            cells.append(f"{ratio:.2f}{verdict(ratio, case.wanted.get(field), at_least=field == 'throughput')}")
        print(f"| {case.label} | **ratio** | {' | '.join(cells)} |", flush=True)


def middle(runs: list[Figures], field: str) -> float:
    return float(statistics.median(getattr(run, field) for run in runs))


def verdict(value: float, wanted: float | None, *, at_least: bool) -> str:
    if wanted is None:
        return ""
    good = value >= wanted if at_least else value <= wanted
    return f" ({'>=' if at_least else '<='} {wanted:g}: {'ok' if good else 'MISSED'})"


@contextmanager
def endpoint(address: str, model: str, protocol: str, **settings: object) -> Iterator[StartedEndpoint]:
    running = KServeEndpoint(address, model, protocol=protocol, input_data="zero", **settings).start()  # type: ignore[arg-type]
    try:
        yield running
    finally:
        running.stop()


def small(server: IdentityServer, protocol: str, binary: Path, turns: int) -> None:
    """64-byte tensors."""
    address = server.http if protocol == "http" else server.grpc
    throughput = {"http": {4: 1.8, 16: 1.3}, "grpc": {4: 1.3, 16: 1.15}}[protocol]
    with endpoint(address, "identity", protocol) as running:
        peer = PerfClient(binary, address, "identity", protocol, running)
        cases = []
        for concurrency in (1, 4, 16):
            wanted = {"cpu_us": 0.4}
            if concurrency == 1:
                wanted["p50_us"] = 0.75 if protocol == "http" else 0.65
            else:
                wanted["throughput"] = throughput[concurrency]
            cases.append(
                Case(
                    f"{protocol}, 64 bytes, concurrency {concurrency}",
                    lambda concurrency=concurrency: measured(running, concurrency),  # type: ignore[misc]
                    "perf_client",
                    lambda concurrency=concurrency: peer(concurrency),  # type: ignore[misc]
                    wanted,
                )
            )
        if protocol == "http" and shutil.which("wrk"):
            workload = running.workload(1, 16)
            assert isinstance(workload, WireWorkload)
            cases.append(
                Case(
                    "http, 64 bytes, concurrency 16",
                    lambda: measured(running, 16),
                    "wrk -t1",
                    lambda: wrk(server, workload, 16),
                    {"throughput": 0.9},
                )
            )
        compare(cases, turns)


def image(server: IdentityServer, binary: Path, turns: int) -> None:
    """600 kB in, 4 bytes out."""
    with endpoint(server.http, "image", "http") as counted:
        peer = PerfClient(binary, server.http, "image", "http", counted)

        def ours(memory: str) -> Figures:
            # In each turn, since perf_client unregisters all regions.
            with endpoint(server.http, "image", "http", shared_memory=memory) as running:
                return measured(running, 4)

        shared = ("--shared-memory", "system", "--output-shared-memory-size", "64")
        wanted = {"throughput": 1.0}
        label = "http, 600 kB, concurrency 4"
        compare(
            [
                Case(label, lambda: ours("none"), "perf_client", lambda: peer(4), wanted),
                Case(
                    f"{label}, system shared memory",
                    lambda: ours("system"),
                    "perf_client",
                    lambda: peer(4, *shared),
                    wanted,
                ),
            ],
            turns,
        )


# Without a Triton: the schedule, the queue and the sockets, with a simple server.

_SERVER = """
import heapq, select, socket, sys, time
delay_s, port_file = float(sys.argv[1]), sys.argv[2]
answer = b"HTTP/1.1 200 OK\\r\\nContent-Length: 64\\r\\n\\r\\n" + b"y" * 64
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen(4096); listener.setblocking(False)
open(port_file + "~", "w").write(str(listener.getsockname()[1])); import os; os.rename(port_file + "~", port_file)
epoll = select.epoll(); epoll.register(listener, 1); connections = {}; due = []
while True:
    wait_s = max(due[0][0] - time.monotonic(), 0) if due else -1
    for fd, _ in epoll.poll(wait_s, 8192):
        if fd == listener.fileno():
            try:
                while True:
                    fresh, _ = listener.accept(); fresh.setblocking(False)
                    fresh.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connections[fresh.fileno()] = fresh; epoll.register(fresh, 1)
            except BlockingIOError: pass
            continue
        try: data = connections[fd].recv(65536)
        except OSError: data = b""
        if not data: connections.pop(fd).close()
        elif delay_s: heapq.heappush(due, (time.monotonic() + delay_s, fd))
        else: connections[fd].send(answer)
    now = time.monotonic()
    while due and due[0][0] <= now:
        fd = heapq.heappop(due)[1]
        if fd in connections: connections[fd].send(answer)
"""


@contextmanager
def simple_server(delay_s: float) -> Iterator[tuple[WireWorkload, int]]:
    """Start a server that answers after a fixed time; yield a workload for it, and its process id."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        process = subprocess.Popen([sys.executable, "-c", _SERVER, str(delay_s), str(port_file)])
        try:
            while not port_file.exists():
                time.sleep(0.01)
            address = Address("127.0.0.1", int(port_file.read_text()))
            yield WireWorkload("http", (address,), "/", ((Request(b"x" * 64),),)), process.pid
        finally:
            process.kill()
            process.wait()


def schedule(server: IdentityServer, turns: int) -> None:
    lags = []
    with endpoint(server.http, "identity", "http") as running:
        workload = running.workload(1)
        with closing(open_generator(workload)) as generator:
            for turn in range(turns):
                spec = WindowSpec(0, WINDOW_S, arrivals=Poisson(2000, seed=turn), lead_in_s=0.3)
                recording = generator.window(workload, spec)
                lane = recording.lanes[0]
                lags.append(np.percentile(np.subtract(lane.sent_ns, lane.due_ns), [50, 99]) / 1e3)
    p50, p99 = np.median(lags, axis=0)
    print("\n| open loop, 2,000/s Poisson, sent - scheduled | p50 us | p99 us |\n|---|---:|---:|")
    print(f"| tritonserver, identity | {p50:.0f} | {p99:.0f}{verdict(p99, 200, at_least=False)} |", flush=True)


def stall(turns: int) -> None:
    """Stop the server for 300 ms in 5 s at 500/s: requests that are due meanwhile wait for the rest of the stop."""
    print("\n| server stopped for 300 ms in 5 s at 500/s | p99 ms | arithmetic ms | ratio |\n|---|---:|---:|---:|")
    ratios = []
    for _ in range(turns):
        with simple_server(0.0) as (workload, pid), closing(open_generator(workload)) as generator:
            stopped: list[float] = []

            def stop(pid: int = pid, stopped: list[float] = stopped) -> None:
                time.sleep(2.5)
                os.kill(pid, signal.SIGSTOP)
                begin = time.monotonic()
                time.sleep(0.3)
                os.kill(pid, signal.SIGCONT)
                stopped.append(time.monotonic() - begin)

            thread = threading.Thread(target=stop)
            thread.start()
            recording = generator.window(workload, WindowSpec(0, 5.0, arrivals=Constant(500), lead_in_s=0.3))
            thread.join()
            window = window_of(recording)
            # 500 x stop of the 2,500 requests wait, evenly between 0 and the stop: 25 of them longer than p99.
            expected_ms = stopped[0] * (1 - 0.01 * window.requests / (500 * stopped[0])) * 1e3
            p99_ms = window.latency.quantile_ns(0.99) / 1e6
            ratios.append(p99_ms / expected_ms)
            print(f"| closed-form, one turn | {p99_ms:.1f} | {expected_ms:.1f} | {ratios[-1]:.3f} |")
    ratio = statistics.median(ratios)
    print(f"| **median** | | | {ratio:.3f} (0.9 to 1.1: {'ok' if 0.9 <= ratio <= 1.1 else 'MISSED'}) |", flush=True)


def deep(turns: int) -> None:
    print("\n| endpoint that takes 50 ms, concurrency | requests/s | errors | p50 ms |\n|---|---:|---:|---:|")
    found: dict[int, list[float]] = {1024: [], 4096: []}
    with simple_server(0.05) as (workload, _), closing(open_generator(workload)) as generator:
        for turn in range(turns):
            for concurrency in sorted(found, reverse=bool(turn % 2)):
                recording = generator.window(workload, WindowSpec(concurrency, WINDOW_S, lead_in_s=0.5))
                window = window_of(recording)
                found[concurrency].append(window.throughput)
                errors = sum(recording.errors.values())
                p50_ms = window.latency.quantile_ns(0.5) / 1e6
                print(f"| {concurrency} | {window.throughput:.0f} | {errors} | {p50_ms:.1f} |")
    ratio = statistics.median(found[4096]) / statistics.median(found[1024])
    print(f"| **4096 / 1024** | {ratio:.2f}{verdict(ratio, 1.0, at_least=True)} | | |", flush=True)


def memory(requests: int) -> None:
    """Measure the highest proportional set size of all processes of the load generator."""
    peak = [0.0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            peak[0] = max(peak[0], sum(map(_pss_mb, [os.getpid(), *_children()])))

    with simple_server(0.0) as (workload, server), closing(open_generator(workload)) as generator:
        skipped.add(server)
        generator.window(workload, WindowSpec(16, 0.5))
        before = sum(map(_pss_mb, [os.getpid(), *_children()]))
        thread = threading.Thread(target=watch)
        thread.start()
        spec = WindowSpec(16, 1.0, min_requests=requests, max_window_s=3600)
        recording = generator.window(workload, spec)
        window = window_of(recording)
        over.set()
        thread.join()
    print("\n| recorded requests | memory before MB | at its highest MB |\n|---:|---:|---:|")
    print(f"| {window.requests} | {before:.0f} | {peak[0]:.0f}{verdict(peak[0], 400, at_least=False)} |", flush=True)


skipped: set[int] = set()


def _children() -> list[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split() if int(pid) not in skipped]


def _pss_mb(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(text.split("\nPss:")[1].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the load generator with perf_client and wrk.")
    parser.add_argument("--perf-client", type=Path, default=os.environ.get("PERF_CLIENT"))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--only", default=",".join(SECTIONS[:-1]), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--requests", type=int, default=10_000_000)
    options = parser.parse_args()
    sections = options.only.split(",")
    if {"http", "grpc", "image", "open"} & set(sections):
        if options.perf_client is None and sections != ["open"]:
            parser.error("Give the path of the perf_client binary: --perf-client PATH")
        with identity_server() as server:
            for protocol in ("http", "grpc"):
                if protocol in sections:
                    small(server, protocol, options.perf_client, options.turns)
            if "image" in sections:
                image(server, options.perf_client, options.turns)
            if "open" in sections:
                schedule(server, options.turns)
    if "stall" in sections:
        stall(options.turns)
    if "deep" in sections:
        deep(options.turns)
    if "memory" in sections:
        memory(options.requests)


if __name__ == "__main__":
    main()
