"""Records from pytest-benchmark's files, for ``gpuperf import``.

A file is one run: one process measured it, so all its rounds share one start. Several files of the same suite are
several runs, and only these show how starts differ.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pytest_gpuperf.cli.imports.imported_record import UNKNOWN, imported_record, imported_run
from pytest_gpuperf.errors import OptionError
from pytest_gpuperf.model import Histogram, LoadPoint, Record, Window, bucket_of
from pytest_gpuperf.report.exchange.benchmark_import import Benchmark, BenchmarkFile, read_benchmarks

#: Name of the tool, and of the sweep of imported benchmarks.
TOOL = "pytest-benchmark"


def records_of(files: Sequence[Path], test: str = "", *, gpu: str = "", commit: str = "") -> list[Record]:
    """Return a record for each benchmark, with a run for each file that contains it.

    Args:
        test: Text that the benchmark's name contains.
        gpu, commit: Device and commit, instead of those that the files state.

    Raises:
        OptionError: A file can't be read or has another format, the files have different devices, or no benchmark
            matches.
    """
    read = [read_benchmarks(path) for path in files]
    devices = {file.device for file in read}
    if len(devices) > 1 and not gpu:
        raise OptionError(
            f"The files are of several devices: {', '.join(sorted(map(repr, devices)))}. "
            "Import the files of each device separately."
        )
    names = dict.fromkeys(benchmark.name for file in read for benchmark in file.benchmarks if test in benchmark.name)
    if not names:
        raise OptionError(f"No benchmark in {', '.join(map(str, files))} has a name that contains {test!r}.")
    invocation, device = uuid.uuid4().hex, gpu or read[0].device or UNKNOWN
    return [_record(name, read, invocation, device, commit) for name in names]


def _record(name: str, files: Sequence[BenchmarkFile], invocation: str, device: str, commit: str) -> Record:
    matching = [(file, benchmark) for file in files for benchmark in file.benchmarks if benchmark.name == name]
    first = matching[0][0]
    return imported_record(
        TOOL,
        name,
        device,
        [imported_run(TOOL, index, [_window(benchmark)]) for index, (_, benchmark) in enumerate(matching)],
        invocation=invocation,
        commit=commit or first.commit,
        environment={fact: value for fact, value in first.machine.items() if fact not in ("device", "test")},
    )


def _window(benchmark: Benchmark) -> Window:
    rounds_s = benchmark.rounds_s
    total_s = sum(rounds_s)
    counts = sorted(Counter(bucket_of(round_s * 1e9) for round_s in rounds_s).items())
    return Window(
        sweep=TOOL,
        point=LoadPoint(),
        visit=0,
        window_s=total_s,
        requests=len(rounds_s),
        throughput=len(rounds_s) / total_s,
        latency_mean_ns=total_s / len(rounds_s) * 1e9,
        latency=Histogram(tuple(bucket for bucket, _ in counts), tuple(count for _, count in counts)),
    )
