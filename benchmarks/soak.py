"""Measure again and again in one process, and show that nothing grows: ``python -m benchmarks.soak --minutes 60``.

Each round measures a small sweep of a callable, of a running tritonserver over HTTP and, every few rounds, of a
tritonserver that is started for it, with shared memory; and compares and stores the records. Sampled after each round:
resident memory, descriptors, threads, child processes, segments of shared memory and temporary files. The first tenth
is warm-up. The script prints the growth of each over the rest, and exits with 1 if one is not flat.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto, helper, save

from benchmarks.identity_server import identity_server
from pytest_gpuperf import KServeEndpoint, TritonEndpoint
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.cli.new_record import new_key, new_record
from pytest_gpuperf.device import Monitor, find_device
from pytest_gpuperf.measure import MeasurePlan, measure_sweep
from pytest_gpuperf.model import LoadPoint, Record, Run
from pytest_gpuperf.publish.comparison import compare_record
from pytest_gpuperf.store import Baseline, Store
from pytest_gpuperf.targets import Target, as_target

#: Growth over the whole soak, per figure, that noise of the allocator and of the machine explains.
TOLERATED = {
    "resident memory, MB": 24.0,
    "descriptors": 2.0,
    "threads": 1.0,
    "children": 1.0,
    "shared memory": 1.0,
    "temporary files": 2.0,
}
#: Rounds between two starts of the tritonserver, which takes seconds.
_TRITON_EVERY = 4
_PAUSE_S = 0.5
_OLD_S = 60.0
_PLAN = MeasurePlan(runs=1, visits=2, window_s=0.2, lead_in_s=0.05)
_POINTS = [LoadPoint(1), LoadPoint(4)]


@dataclass(frozen=True)
class Sample:
    """The figures after a round."""

    at_s: float
    figures: dict[str, float]


def callable_work() -> int:
    """Compute for about a tenth of a millisecond."""
    return sum(range(2000))


def _save_model(path: Path) -> None:
    """Write an ONNX model that adds its input to itself."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 16]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubled", tensors[:1], tensors[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def _old_segments(since_s: float) -> int:
    """Count the segments of shared memory since an instant that are a minute old: other tests make short-lived ones."""
    made_s = [path.stat().st_mtime for path in Path("/dev/shm").glob("gpuperf*") if path.exists()]
    return sum(since_s < at_s < time.time() - _OLD_S for at_s in made_s)


def sample(began_s: float, temporary: Path) -> Sample:
    gc.collect()
    statm = Path("/proc/self/statm").read_text().split()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    figures = {
        "resident memory, MB": int(statm[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "threads": threading.active_count(),
        "children": len(children),
        "shared memory": _old_segments(time.time() - (time.monotonic() - began_s)),
        "temporary files": sum(1 for _ in temporary.rglob("*")),
    }
    return Sample(time.monotonic() - began_s, figures)


def measured(target: Target, monitor: Monitor) -> Run:
    runs: list[Run] = []
    measure_sweep(
        target,
        _POINTS,
        _PLAN,
        name="soak",
        on_run=runs.append,
        on_under_test=lambda _: None,
        on_progress=lambda _: None,
        watch_cpu=True,
        monitor=monitor,
    )
    return runs[0]


def growth(samples: Sequence[Sample], name: str) -> float:
    """Return the growth over all samples, by the slope of Theil and Sen, which outliers don't move."""
    # At most 200 points, so that the number of pairs stays small.
    chosen = samples[:: max(len(samples) // 200, 1)]
    slopes = [
        (later.figures[name] - earlier.figures[name]) / (later.at_s - earlier.at_s)
        for index, earlier in enumerate(chosen)
        for later in chosen[index + 1 :]
    ]
    return statistics.median(slopes) * (samples[-1].at_s - samples[0].at_s) if slopes else 0.0


def report(samples: Sequence[Sample]) -> bool:
    """Print the table; return whether everything is flat."""
    steady = samples[len(samples) // 10 :]
    print(f"\n{len(samples)} rounds in {samples[-1].at_s / 60:.1f} minutes")
    print(f"{'':22}{'first':>10}{'last':>10}{'most':>10}{'growth':>10}{'tolerated':>11}")
    flat = True
    for name, tolerated in TOLERATED.items():
        values, grown = [each.figures[name] for each in steady], growth(steady, name)
        verdict = "" if grown <= tolerated else "  GROWS"
        flat = flat and not verdict
        row = f"{values[0]:10.1f}{values[-1]:10.1f}{max(values):10.1f}{grown:+10.2f}{tolerated:11.1f}{verdict}"
        print(f"{name:22}{row}", flush=True)
    return flat


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--no-triton", action="store_true", help="without a tritonserver")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gpuperf-soak-") as folder:
        # Everything that the package leaves behind by mistake is then in one place.
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
        return soak(options.minutes, Path(folder), temporary, triton=not options.no_triton)


def soak(minutes: float, folder: Path, temporary: Path, *, triton: bool) -> int:
    """Run rounds for some minutes; return the exit status."""
    model = folder / "doubled.onnx"
    _save_model(model)
    device, store = find_device("cpu"), Store(str(folder / "store"))
    monitor = Monitor([device])
    key = new_key(device.key, "soak", "soak 1")
    began_s, samples, baseline = time.monotonic(), list[Sample](), list[Record]()
    with ExitStack() as stack:
        stack.callback(monitor.close)
        targets: list[Target] = [as_target(callable_work)]
        if triton:
            targets.append(KServeEndpoint(stack.enter_context(identity_server()).http, "identity"))
        while (passed_s := time.monotonic() - began_s) < 60 * minutes or len(samples) < 3:
            fresh = [TritonEndpoint(model, threads=1, shared_memory="system")]
            for target in targets + fresh * (triton and len(samples) % _TRITON_EVERY == 0):
                record = new_record(key, [measured(target, monitor)])
                compare_record(record, Baseline(tuple(baseline)), Rule())
                store.write(record)
                baseline = [record, *baseline[:4]]
            samples.append(sample(began_s, temporary))
            if len(samples) % 20 == 1:
                print(f"{passed_s / 60:6.1f} min  {samples[-1].figures}", flush=True)
            time.sleep(_PAUSE_S)
    return 0 if report(samples) else 1


if __name__ == "__main__":
    sys.exit(main())
