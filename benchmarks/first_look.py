"""Our latency and throughput beside perf_client's, on the same running server, in turns.

Starts the bundled tritonserver with a small ONNX model, or uses a server that is already there::

    python benchmarks/first_look.py --perf-client path/to/perf_client
    python benchmarks/first_look.py --perf-client path/to/perf_client --url 127.0.0.1:8000 --model resnet50

Both send zeros of batch 1 over HTTP; the binary comes with the tritonclient wheels for Linux (docs/numbers.md says how
to get it). Without --perf-client only our own figures are printed.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pytest_gpuperf.analysis.window import figures
from pytest_gpuperf.load import WindowSpec, open_generator
from pytest_gpuperf.targets.kserve import RunningEndpoint, split_url
from pytest_gpuperf.targets.triton import TritonEndpoint

WINDOW_S = 2.0


@dataclass(frozen=True)
class Figures:
    """Of one client at one load point; the CPU time is the client's own, per request."""

    p50_us: float
    p90_us: float
    throughput: float
    cpu_us: float


@contextmanager
def endpoint(url: str | None, model: str) -> Iterator[tuple[str, str, RunningEndpoint]]:
    """Address, model and control connection of the server under test."""
    if url is not None:
        host, port = split_url(url)
        running = RunningEndpoint(host, port, model, {}, {})
        try:
            yield f"{host}:{port}", model, running
        finally:
            running.stop()
        return
    with tempfile.TemporaryDirectory() as folder:
        server = TritonEndpoint(small_model(Path(folder) / "small.onnx"), threads=1).start()
        try:
            host, port = split_url(server.address)
            running = RunningEndpoint(host, port, "small", {}, {})
            yield server.address, "small", running
            running.stop()
        finally:
            server.stop()


def small_model(path: Path) -> Path:
    """64 bytes in, 64 bytes out: what is measured is the serving."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["INPUT0"], ["OUTPUT0"])],
        "small",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, ["N", 16])],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, ["N", 16])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    return path


def ours(running: RunningEndpoint, concurrency: int) -> Figures:
    workload = running.workload(1)
    with closing(open_generator(workload)) as generator:
        generator.window(workload, WindowSpec(concurrency, 0.5))
        recording = generator.window(workload, WindowSpec(concurrency, WINDOW_S))
    assert not recording.errors, recording.error_sample
    sent, done = (np.frombuffer(times, dtype=np.int64) for times in (recording.sent_ns, recording.done_ns))
    window = figures(sent, done, recording.start_ns, recording.stop_ns, 1)
    p50_us, p90_us = (window.latency.quantile_ns(q) / 1e3 for q in (0.5, 0.9))
    return Figures(p50_us, p90_us, window.throughput, recording.cpu_s / (window.throughput * WINDOW_S) * 1e6)


def perf_client(binary: Path, address: str, model: str, concurrency: int) -> Figures:
    command = [str(binary), "-m", model, "-u", address, "-i", "http", "--concurrency-range", str(concurrency)]
    command += ["-p", str(int(WINDOW_S * 1000)), "-s", "50", "--input-data", "zero"]
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = os.times()
    text = done.stdout + done.stderr
    p50, p90 = (re.search(rf"p{q} latency: (\d+) usec", text) for q in (50, 90))
    rate, count = re.search(r"throughput: ([\d.]+) infer/sec", text), re.search(r"Request count: (\d+)", text)
    if not (p50 and p90 and rate and count):
        raise SystemExit(f"perf_client gave no figures:\n{text}")
    cpu_s = after.children_user - before.children_user + after.children_system - before.children_system
    # Its CPU time covers warm-up and all windows; three windows are merged into the count.
    return Figures(float(p50[1]), float(p90[1]), float(rate[1]), cpu_s / float(count[1]) * 1e6)


def middle(runs: list[Figures]) -> Figures:
    return Figures(*(statistics.median(getattr(run, name) for run in runs) for name in Figures.__dataclass_fields__))


def main() -> None:
    parser = argparse.ArgumentParser(description="Our figures beside perf_client's.")
    parser.add_argument("--perf-client", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--model", default="small")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    clients = ["ours", "perf_client"] if options.perf_client else ["ours"]
    print("| concurrency | client | p50 us | p90 us | inferences/s | client CPU us |")
    print("|---|---|---:|---:|---:|---:|")
    with endpoint(options.url, options.model) as (address, model, running):
        for concurrency in options.concurrency:
            runs: dict[str, list[Figures]] = {client: [] for client in clients}
            for turn in range(options.turns):
                for client in clients if turn % 2 == 0 else reversed(clients):
                    if client == "ours":
                        runs[client].append(ours(running, concurrency))
                    else:
                        runs[client].append(perf_client(options.perf_client, address, model, concurrency))
            found = {client: middle(figures_of) for client, figures_of in runs.items()}
            for client, one in found.items():
                cells = f"{one.p50_us:.0f} | {one.p90_us:.0f} | {one.throughput:.0f} | {one.cpu_us:.1f}"
                print(f"| {concurrency} | {client} | {cells} |")
            if len(found) == 2:
                a, b = found["ours"], found["perf_client"]
                ratios = [getattr(a, name) / getattr(b, name) for name in ("p50_us", "p90_us", "throughput", "cpu_us")]
                print(f"| {concurrency} | ratio | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |")


if __name__ == "__main__":
    main()
