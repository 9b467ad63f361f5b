"""The spread of a model's figures between records, without the anchor and relative to it::

    python benchmarks/anchor_gain.py --records 12

Each record is 3 fresh starts of a small model on the bundled tritonserver at concurrency 1 and 4, as
``pytest --gpuperf --gpuperf-anchor`` measures it, and takes about a minute and a half. On a quiet machine there is
little to gain; run it beside other work of changing weight. Needs the bundled server (``gpuperf triton install``) and
onnx.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.duet_on_triton import BATCH, LAYERS, build
from pytest_gpuperf import TritonEndpoint
from pytest_gpuperf.analysis.values import values_of
from pytest_gpuperf.device import DeviceLock, find_device
from pytest_gpuperf.measure import MeasurePlan, measure_sweep
from pytest_gpuperf.measure.anchor import StartedAnchor, anchored_plan
from pytest_gpuperf.model import LoadPoint, Record, Run
from pytest_gpuperf.store.provenance import utc_now
from pytest_gpuperf.targets.anchor import anchor_target

POINTS = (LoadPoint(1, BATCH), LoadPoint(4, BATCH))
METRICS = ("p50", "p90", "throughput")


def measured(model: Path) -> Record:
    """Measure a record."""
    runs: list[Run] = []
    plan = anchored_plan(MeasurePlan())
    with DeviceLock(find_device("cpu").lock_id):
        measure_sweep(
            TritonEndpoint(model, max_batch_size=BATCH, threads=1),
            POINTS,
            plan,
            name="chain",
            on_run=runs.append,
            on_under_test=lambda _: None,
            on_progress=lambda _: None,
            watch_cpu=True,
            anchor=partial(StartedAnchor, anchor_target("cpu"), plan),
        )
    return Record("anchored", "benchmark", "benchmark", utc_now(), {}, "complete", "open", tuple(runs))


def others(record: Record) -> float:
    """Return the share of the CPU that other processes took, averaged over the windows."""
    return statistics.fmean(window.others_cpu_share or 0.0 for run in record.runs for window in run.windows)


def table(records: list[Record]) -> None:
    """Print the standard deviations of the logs between records."""
    values = [values_of(record, METRICS) for record in records]
    print(f"\n{'':28}{'by itself':>10}{'anchored':>10}")
    for metric in METRICS:
        for point in POINTS:
            key = ("chain", point, metric)
            both = [
                [side[key].runs for side in (side_values.values, side_values.anchored)]
                for side_values in values
                if key in side_values.anchored
            ]
            if len(both) > 1:
                plain, ratio = (statistics.stdev([statistics.fmean(pair[side]) for pair in both]) for side in (0, 1))
                print(f"{metric:12}{point.label:18}{plain:8.1%}{ratio:10.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Spread between records, with the anchor and without.")
    parser.add_argument("--records", type=int, default=12)
    options = parser.parse_args()
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        model = build(Path(folder, "chain.onnx"), LAYERS)
        for number in range(options.records):
            begin = time.monotonic()
            records.append(measured(model))
            took_s = time.monotonic() - begin
            print(f"{number + 1:3}  others took {others(records[-1]):4.0%} of the CPU   ({took_s:.0f} s)", flush=True)
    table(records)


if __name__ == "__main__":
    main()
