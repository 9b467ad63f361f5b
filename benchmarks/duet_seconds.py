"""Seconds until a duet on the real server has its verdict, from the start of pytest to its end::

    python -m benchmarks.duet_seconds --tries 7

Each try is a pytest of its own, with an empty store: a test that calls ``gpuperf.duet`` with two tritonservers at
concurrency 4. The candidate is the same model as the reference, or has 8% more layers. ``--history`` keeps the store,
so that later tries know how blocks differ. Needs the bundled server (``gpuperf triton install``) and onnx.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.duet_on_triton import BATCH, LAYERS, build

_TEST = """
def test_duet(gpuperf, triton_endpoint):
    options = dict(max_batch_size={batch}, threads=1)
    candidate, reference = (triton_endpoint(path, **options) for path in ({candidate!r}, {reference!r}))
    gpuperf.duet(candidate, reference, concurrency={concurrency}, batch_size={batch})
"""
_VERDICT = re.compile(r"^ *(\w+): candidate against reference in (\d+) blocks", re.MULTILINE)


@dataclass(frozen=True)
class Try:
    """A pytest with a duet.

    Attributes:
        load: Processes that wanted to run when it began, over the number of cores.
    """

    verdict: str
    blocks: int
    seconds: float
    load: float


def measured(folder: Path, candidate: Path, reference: Path, store: Path, concurrency: int) -> Try:
    """Run a pytest with a duet.

    Raises:
        RuntimeError: It has no verdict.
    """
    text = _TEST.format(batch=BATCH, candidate=str(candidate), reference=str(reference), concurrency=concurrency)
    (folder / "test_duet.py").write_text(text)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    begin = time.monotonic()
    command = [sys.executable, "-m", "pytest", "--gpuperf", f"--gpuperf-store={store}", "-p", "no:cacheprovider", "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begin
    verdict = _VERDICT.search(done.stdout)
    if verdict is None:
        raise RuntimeError(f"no verdict:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return Try(verdict[1], int(verdict[2]), seconds, load)


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds until a duet on the bundled tritonserver has its verdict.")
    parser.add_argument("--tries", type=int, default=7)
    parser.add_argument("--slower", type=float, default=0.08, help="share of layers that the slowed model has more")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--history", action="store_true", help="keep the store between tries")
    options = parser.parse_args()
    expected = {"the same model": "unchanged", f"{options.slower:.0%} more layers": "regressed"}
    tries: dict[str, list[Try]] = {name: [] for name in expected}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The files have the same name, so the models differ only in their layers.
        for place in ("plain", "slowed", "tests"):
            (folder / place).mkdir()
        plain = build(folder / "plain" / "chain.onnx", LAYERS)
        slowed = build(folder / "slowed" / "chain.onnx", round(LAYERS * (1 + options.slower)))
        for number in range(options.tries):
            for kind, candidate in zip(expected, (plain, slowed), strict=True):
                store = folder / "stores" / (kind if options.history else f"{kind} {number}").replace(" ", "-")
                result = measured(folder / "tests", candidate, plain, store, options.concurrency)
                tries[kind].append(result)
                print(
                    f"{number + 1:3} {kind:16} {result.verdict:12} {result.blocks} blocks  {result.seconds:5.1f} s  "
                    f"(load per core before: {result.load:.2f})",
                    flush=True,
                )
    print("\n| candidate | tries | as expected | blocks, median | seconds, median (range) |\n|---|---:|---:|---:|---|")
    for kind, results in tries.items():
        right = sum(result.verdict == expected[kind] for result in results)
        seconds = [result.seconds for result in results]
        blocks = statistics.median(result.blocks for result in results)
        span = f"{statistics.median(seconds):.0f} ({min(seconds):.0f} to {max(seconds):.0f})"
        print(f"| {kind} | {len(results)} | {right} {expected[kind]} | {blocks:g} | {span} |")


if __name__ == "__main__":
    main()
