"""Duets on the real server: false alarms of a model against itself, and how often 8% more work is detected.

::

    python benchmarks/duet_on_triton.py --repetitions 20

A repetition is a duet of 5 blocks (fresh starts of two tritonservers) of 24 alternations of 0.3 s windows at
concurrency 4, and takes about a minute and a half; there is one of the model against itself and one against the same
model with 8% more layers, as candidate. Needs the bundled server (``gpuperf triton install``) and onnx.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pytest_gpuperf import TritonEndpoint
from pytest_gpuperf.analysis.duet.blocks import block_values
from pytest_gpuperf.analysis.duet.compare import compare_duet
from pytest_gpuperf.analysis.rule import Rule
from pytest_gpuperf.device import DeviceLock, find_device
from pytest_gpuperf.measure import duet_plan, measure_duet
from pytest_gpuperf.model import Comparison, LoadPoint, Record, Run, Verdict
from pytest_gpuperf.store.provenance import utc_now

WIDTH, BATCH = 384, 16
#: Enough layers to dominate the time of a request; otherwise 8% more layers are not 8% more time.
LAYERS = 50


def build(path: Path, layers: int) -> Path:
    """Return a chain of dense layers of equal width."""
    weights = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), dtype=np.float32) / np.float32(WIDTH**0.5)
    names = ["x", *(f"h{number}" for number in range(1, layers)), "y"]
    nodes = [helper.make_node("MatMul", [before, "w"], [after]) for before, after in itertools.pairwise(names)]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", WIDTH])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def duet(candidate: Path, reference: Path, options: argparse.Namespace) -> Record:
    """Measure a duet and return its record."""
    sides: dict[str, list[Run]] = {"candidate": [], "reference": []}
    new, old = (TritonEndpoint(path, max_batch_size=BATCH, threads=1) for path in (candidate, reference))
    with DeviceLock(find_device("cpu").lock_id):
        measure_duet(
            new,
            old,
            [LoadPoint(options.concurrency, BATCH)],
            duet_plan(options.blocks, options.alternations, options.window_s),
            name="chain",
            on_run=lambda side, run: sides[side].append(run),
            on_under_test=lambda _side, _facts: None,
            on_progress=lambda _: None,
            watch_cpu=True,
        )
    return Record(
        id="duet",
        invocation="benchmark",
        test="benchmark",
        created_utc=utc_now(),
        key={},
        status="complete",
        gate="open",
        runs=tuple(sides["candidate"]),
        reference=tuple(sides["reference"]),
    )


def differences(record: Record, metric: str) -> list[float]:
    """Return the log of candidate / reference of every block; positive is worse."""
    candidate, reference = block_values(record)
    return [
        candidate_run - reference_run
        for key in candidate.values
        if key[2] == metric and key in reference.values
        for candidate_run, reference_run in zip(candidate.values[key].runs, reference.values[key].runs, strict=True)
    ]


def block_medians(record: Record) -> list[float]:
    """Return the median of the paired differences of p50 for every block. A few windows that straddle a burst of other
    work move less than the mean.
    """
    medians = []
    for ours, theirs in zip(record.runs, record.reference, strict=True):
        before = {(window.point, window.visit): window for window in theirs.windows}
        pairs = [(window, before[window.point, window.visit]) for window in ours.windows]
        logs = [math.log(first.latency.quantile_ns(0.5) / second.latency.quantile_ns(0.5)) for first, second in pairs]
        medians.append(statistics.median(logs))
    return medians


def line(what: str, record: Record, comparison: Comparison, seconds: float) -> str:
    """Return a line that describes the duet."""
    shown = [
        f"{metric} {', '.join(f'{100 * value:+.1f}' for value in differences(record, metric))}%"
        for metric in ("p50", "throughput")
    ]
    shown.append(f"medians of p50 {', '.join(f'{100 * value:+.1f}' for value in block_medians(record))}%")
    return f"{what:16} {comparison.verdict!s:12} {'   '.join(shown)}   ({seconds:.0f} s)"


def spread(records: list[Record], metric: str) -> float:
    """Return the standard deviation between the blocks of a duet, pooled over duets."""
    variances = [statistics.variance(differences(record, metric)) for record in records if differences(record, metric)]
    return float(np.sqrt(np.mean(variances))) if variances else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and power of duets on the bundled tritonserver.")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--slower", type=float, default=0.08, help="share of layers that the slowed model has more")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--alternations", type=int, default=24)
    parser.add_argument("--window-s", type=float, default=0.3)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument(
        "--history", action="store_true", help="earlier duets of the same kind are known, as in a store"
    )
    options = parser.parse_args()
    outcomes: dict[str, list[tuple[Record, Comparison]]] = {"against itself": [], "slowed": []}
    with tempfile.TemporaryDirectory() as folder:
        # The files have the same name, so the models differ only in their layers.
        places = {name: Path(folder, name) for name in ("plain", "slowed")}
        for place in places.values():
            place.mkdir()
        plain = build(places["plain"] / "chain.onnx", LAYERS)
        slowed = build(places["slowed"] / "chain.onnx", round(LAYERS * (1 + options.slower)))
        for number in range(options.repetitions):
            for what, candidate in (("against itself", plain), ("slowed", slowed)):
                begin = time.monotonic()
                record = duet(candidate, plain, options)
                history = [record for record, _ in reversed(outcomes[what])][:20] if options.history else []
                comparison = compare_duet(record, history, Rule())
                outcomes[what].append((record, comparison))
                print(f"{number + 1:3} {line(what, record, comparison, time.monotonic() - begin)}", flush=True)
    count = options.repetitions
    alarms = [comparison.verdict for _, comparison in outcomes["against itself"]]
    wrong = sum(verdict in (Verdict.REGRESSED, Verdict.IMPROVED) for verdict in alarms)
    hits = sum(comparison.verdict is Verdict.REGRESSED for _, comparison in outcomes["slowed"])
    print(f"\nfalse alarms of any kind: {wrong} of {count} (regressed: {alarms.count(Verdict.REGRESSED)})")
    print(f"{options.slower:.0%} more work detected: {hits} of {count}")
    for what, duets in outcomes.items():
        records = [record for record, _ in duets]
        for metric in ("p50", "p90", "throughput"):
            values = [value for record in records for value in differences(record, metric)]
            if values:
                mean, sd = statistics.fmean(values), spread(records, metric)
                print(f"{what:16} {metric:10} mean {mean:+.1%}, between the blocks of a duet sd {sd:.1%}")
        medians = [block_medians(record) for record in records]
        sd = float(np.sqrt(np.mean([statistics.variance(block) for block in medians])))
        print(f"{what:16} p50, medians of a block's pairs instead of means: sd {sd:.1%}")


if __name__ == "__main__":
    main()
